"""transformers as a peer: starts `transformers_driver.py` on a job and reads what it measured. Owns no state.

It serves no HTTP, so it has none to pay for: what favours a side here favours the peer.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

from load_tests.cpu_time import CPUShare
from load_tests.measures import RequestRecord
from load_tests.scenarios import PlannedRequest
from load_tests.servers import ROOT
from load_tests.sse import BadResponseError

GIVE_UP_S = 1800.0
WAYS = ("serial", "static", "continuous")
PAGE_SIZE = 32
MOST_AT_ONCE = 16


def options(way: str, num_clients: int, max_model_len: int) -> dict[str, int]:
    """Fields of ContinuousBatchingConfig, chosen for speed.

    On a CPU every query of a step is multiplied with the keys of all sequences, under a mask. So it runs at most 16 at
    once, whatever the number of clients, with the pages that these can need.
    """
    if way != "continuous":
        return {}
    at_once = min(num_clients, MOST_AT_ONCE)
    num_pages = at_once * -(-max_model_len // PAGE_SIZE)
    return {
        "page_size": PAGE_SIZE,
        "num_blocks": num_pages,
        "max_batch_tokens": 512,
        "max_requests_per_batch": at_once,
    }


def run(
    way: str,
    model: Path,
    *,
    warm_up: Sequence[PlannedRequest],
    planned: Sequence[PlannedRequest],
    num_clients: int,
    max_model_len: int,
    threads: int,
) -> tuple[list[RequestRecord], CPUShare]:
    """What was measured of each request, and the cores used.

    Raises:
        BadResponseError: a request got not exactly the tokens it asked for.
        RuntimeError: the process failed; carries the end of what it printed.
    """
    job = {
        "way": way,
        "options": options(way, num_clients, max_model_len),
        "model": str(model),
        "num_clients": num_clients,
        "threads": threads,
        "warm_up": [asdict(request) for request in warm_up],
        "requests": [asdict(request) for request in planned],
    }
    with tempfile.TemporaryDirectory() as folder:
        job_path, result_path = Path(folder, "job.json"), Path(folder, "result.json")
        job_path.write_text(json.dumps(job))
        command = [sys.executable, "-m", "load_tests.peers.transformers_driver", str(job_path), str(result_path)]
        process = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=GIVE_UP_S, check=False)
        if process.returncode:
            raise RuntimeError(f"transformers {way} ended with {process.returncode}:\n{process.stderr[-2000:]}")
        result = json.loads(result_path.read_text())
    records = [record(one, request) for one, request in zip(result["requests"], planned, strict=True)]
    return records, CPUShare(**result["cores"])


def record(timed: Mapping[str, object], planned: PlannedRequest) -> RequestRecord:
    """Of one answer. Raises BadResponseError unless it has exactly the tokens asked for, with a time for each."""
    tokens, times = timed["token_ids"], timed["token_times_s"]
    assert isinstance(tokens, list)
    assert isinstance(times, list)
    if not len(tokens) == len(times) == planned.max_tokens:
        raise BadResponseError(f"asked for {planned.max_tokens} tokens, got {len(tokens)} at {len(times)} times")
    return RequestRecord(
        started_s=float(str(timed["started_s"])),
        text_times_s=tuple(times),
        ended_s=float(str(timed["ended_s"])),
        prompt_tokens=len(planned.prompt_token_ids),
        output_tokens=len(tokens),
        cached_tokens=0,
    )
