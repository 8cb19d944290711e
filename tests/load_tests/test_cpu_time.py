"""Whose CPU time it was."""

import subprocess
import sys
import time

from load_tests.cpu_time import Stopwatch

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
