"""Whose CPU time it was."""

import os
import subprocess
import sys
import time

from load_tests.cpu_time import Stopwatch, cpu_seconds

BUSY = "import sys\nprint('on', flush=True)\nwhile True: pass"


def test_cores_are_told_apart_by_who_used_them() -> None:
    with subprocess.Popen([sys.executable, "-c", BUSY], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        server.stdout.readline()
        stopwatch = Stopwatch(server.pid)
        time.sleep(0.5)
        share = stopwatch.share()
        server.kill()
    assert share.client < 0.1
    assert 0.1 < share.server < 1.1
    assert share.others >= 0


def test_a_process_is_measured_more_finely_than_in_hundredths_of_a_second() -> None:
    before, own_before = cpu_seconds(os.getpid()), time.process_time()
    while time.process_time() - own_before < 0.001:
        pass
    own, spent = time.process_time() - own_before, cpu_seconds(os.getpid()) - before
    assert own <= spent < own + 0.1  # reading the clock takes a while, and a busy machine longer
    assert round(spent, 2) != spent
