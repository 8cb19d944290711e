"""The demo model behind `pagemill serve`, a process of its own, with what tests ask it by."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from support.served_process import served_process

NUM_PARALLEL = 4
FLAGS = ("--port", "0", "--threads", "1", "--max-num-seqs", str(NUM_PARALLEL), "--kv-cache-memory-bytes", "33554432")


class Asked(Protocol):
    """A server that tests post to, whatever it runs."""

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response: ...


@dataclass(frozen=True, slots=True)
class ModelServer:
    """A server by its address."""

    url: str
    http: httpx.Client

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])

    def post(self, path: str, body: Any, **options: Any) -> httpx.Response:
        return self.http.post(self.url + path, json=body, **options)

    def get(self, path: str, **options: Any) -> httpx.Response:
        return self.http.get(self.url + path, **options)


@contextmanager
def model_server(*arguments: str) -> Iterator[ModelServer]:
    """`pagemill serve` with the arguments, until the block ends."""
    with served_process(*arguments, step_delay_s=None) as served, httpx.Client(timeout=60, trust_env=False) as http:
        yield ModelServer(served.address, http)
