"""RunPod's job API, as far as its package asks it: jobs out, pieces and results in, over plain HTTP on loopback."""

import contextlib
import json
import queue
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

POLL_S = 0.2  # RunPod holds a poll for a minute and more; a worker is only deaf to signals for so long


@dataclass
class Job:
    """A job, and what was sent for it, with the time at which it came."""

    id: str
    input: Any
    outputs: list[tuple[float, Any]] = field(default_factory=list)
    result: dict[str, Any] | None = None
    finished: threading.Event = field(default_factory=threading.Event)

    def wait(self, timeout_s: float = 60) -> dict[str, Any]:
        assert self.finished.wait(timeout_s), f"job {self.id} has no result"
        assert self.result is not None
        return self.result

    def pieces(self) -> list[Any]:
        return [output for _time, output in self.outputs]


@dataclass
class FakeRunpodApi:
    """What a worker's variables point at. `num_asked_for` are the numbers of jobs that it has asked for."""

    port: int = 0
    jobs: dict[str, Job] = field(default_factory=dict)
    num_asked_for: list[int] = field(default_factory=list)
    _waiting: "queue.Queue[Job]" = field(default_factory=queue.Queue)
    _to_stop: "queue.Queue[str]" = field(default_factory=queue.Queue)

    def submit(self, job_input: Any) -> Job:
        job = Job(f"job-{len(self.jobs)}", job_input)
        self.jobs[job.id] = job
        self._waiting.put(job)
        return job

    def stop(self, job: Job) -> None:
        self._to_stop.put(job.id)

    def variables(self) -> dict[str, str]:
        """The environment of a worker, as RunPod sets it. Its checks of the machine are for RunPod's machines."""
        url = f"http://127.0.0.1:{self.port}/v2/endpoint"
        return {
            "RUNPOD_WEBHOOK_GET_JOB": f"{url}/job-take/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_STREAM": f"{url}/job-stream/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_WEBHOOK_POST_OUTPUT": f"{url}/job-done/$RUNPOD_POD_ID/$ID?gpu=none",
            "RUNPOD_ENDPOINT_ID": "endpoint",
            "RUNPOD_POD_ID": "pod",
            "RUNPOD_SKIP_AUTO_SYSTEM_CHECKS": "true",
            "RUNPOD_SKIP_GPU_CHECK": "true",
        }

    def take(self, at_most: int) -> list[Job]:
        self.num_asked_for.append(at_most)
        taken: list[Job] = []
        with contextlib.suppress(queue.Empty):
            taken.append(self._waiting.get(timeout=POLL_S))
            while len(taken) < at_most:
                taken.append(self._waiting.get_nowait())
        return taken

    def stopped(self) -> list[str]:
        try:
            return [self._to_stop.get(timeout=POLL_S)]
        except queue.Empty:
            return []


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ClassVar[FakeRunpodApi]

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        route = url.path.split("/")[3]
        if route == "job-stop":
            self._answer({"jobsToStop": self.api.stopped()})
            return
        at_most = int(parse_qs(url.query).get("batch_size", ["1"])[0])
        taken = [{"id": job.id, "input": job.input} for job in self.api.take(at_most)]
        self._answer((taken if route == "job-take-batch" else taken[0]) if taken else None)

    def do_POST(self) -> None:
        _, _, _, route, _pod, job_id = urlsplit(self.path).path.split("/")
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        job = self.api.jobs[job_id]
        if route == "job-stream":
            job.outputs.append((time.monotonic(), body["output"]))
        else:
            job.result = body
            job.finished.set()
        self._answer({})

    def _answer(self, body: Any) -> None:
        content = b"" if body is None else json.dumps(body).encode()
        self.send_response(204 if body is None else 200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_request(self, code: object = "-", size: object = "-") -> None:
        """Nothing: tests look at the worker's log."""


@contextmanager
def fake_runpod_api() -> Iterator[FakeRunpodApi]:
    api = FakeRunpodApi()
    handler = type("Handler", (_Handler,), {"api": api})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        api.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield api
        finally:
            server.shutdown()
            thread.join()
