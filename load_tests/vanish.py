"""Clients that connect, start a request and vanish at random points must leave nothing behind.

    python -m load_tests.vanish --clients 500

Each client goes away at one of four points, by an orderly close or by a reset: after connecting, in the midst of the
request, after it, or some way into the stream. Then the server must soon run and hold nothing (by its /metrics and its
open files), and must answer the next request at once.
"""

import argparse
import asyncio
import json
import random
import re
import socket
import struct
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from urllib.error import URLError

import psutil

from load_tests.client import Target, encode_request, run_closed_loop
from load_tests.peers import pagemill
from load_tests.report import save
from load_tests.runs import run_async
from load_tests.scenarios import PlannedRequest
from load_tests.servers import RunningServer, ServerCommand
from load_tests.sse import read_record

PROMPT = "<|im_start|>user\nWhat is Pagemill?<|im_end|>\n<|im_start|>assistant\n"
RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER for no seconds: close sends RST and drops what is unsent


class VanishPoint(StrEnum):
    """How far a client gets."""

    CONNECTED = "connected"
    HALF_SENT = "half of the request sent"
    SENT = "request sent"
    STREAMING = "some chunks read"


@dataclass(frozen=True, slots=True)
class Vanisher:
    """What one client does: where it stops, whether it resets, and how many reads or milliseconds it waits before."""

    point: VanishPoint
    reset: bool
    patience: int


@dataclass(frozen=True, slots=True)
class Leftovers:
    """What a server holds. All zero is what should be left, but for the files it had open before."""

    num_running: float
    num_waiting: float
    kv_usage: float

    @property
    def none(self) -> bool:
        return self.num_running == self.num_waiting == self.kv_usage == 0


@dataclass(frozen=True, slots=True)
class VanishResult:
    """`settled_s`: from the last client's going to the server's holding nothing."""

    num_clients: int
    by_point: dict[str, int]
    settled_s: float
    leftovers: Leftovers
    extra_files: int  # open files and sockets beyond those before
    next_ttft_s: float


def plan(num_clients: int, seed: int) -> list[Vanisher]:
    """Seeded: every point and both ways to close, in random order."""
    generator = random.Random(seed)
    points = list(VanishPoint)
    return [
        Vanisher(points[index % len(points)], generator.random() < 0.5, generator.randint(1, 8))
        for index in generator.sample(range(num_clients), num_clients)
    ]


async def vanish(target: Target, vanisher: Vanisher, request: bytes) -> None:
    """Be one such client. A server that refuses or closes first is no error of the client's."""
    loop = asyncio.get_running_loop()
    with socket.socket() as connection:
        connection.setblocking(False)
        await loop.sock_connect(connection, (target.host, target.port))
        if vanisher.reset:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        if vanisher.point is VanishPoint.CONNECTED:
            return
        if vanisher.point is VanishPoint.HALF_SENT:
            await loop.sock_sendall(connection, request[: len(request) * vanisher.patience // 9])
            return
        await loop.sock_sendall(connection, request)
        if vanisher.point is VanishPoint.SENT:
            await asyncio.sleep(vanisher.patience / 1000)
            return
        for _ in range(vanisher.patience):
            if not await loop.sock_recv(connection, 4096):
                return


async def vanish_all(target: Target, vanishers: Sequence[Vanisher], request: bytes, *, at_once: int = 250) -> None:
    """All of them, no more than `at_once` at a time (the operating system's queue of connections is finite)."""
    slots = asyncio.Semaphore(at_once)

    async def one(vanisher: Vanisher) -> None:
        async with slots:
            await vanish(target, vanisher, request)

    await asyncio.gather(*(one(vanisher) for vanisher in vanishers))


def read_leftovers(metrics: str) -> Leftovers:
    """From the text of /metrics. Raises LookupError when a gauge is missing."""
    return Leftovers(
        num_running=gauge(metrics, "pagemill_num_requests_running"),
        num_waiting=gauge(metrics, "pagemill_num_requests_waiting"),
        kv_usage=gauge(metrics, "pagemill_kv_cache_usage_perc"),
    )


def gauge(metrics: str, name: str) -> float:
    """The sum of a metric over its labels. Raises LookupError when it is missing."""
    values = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", metrics, re.MULTILINE)
    if not values:
        raise LookupError(f"/metrics has no {name}")
    return sum(map(float, values))


def check_server(
    command: ServerCommand, prompt: str, max_tokens: int, num_clients: int, *, seed: int = 0, settle_s: float = 5.0
) -> VanishResult:
    """Start the server, let the clients vanish, see what is left. The next request must give exactly what it asks for.

    `max_tokens`: of the requests that are abandoned; the model must have something to say to the prompt.

    Raises:
        TimeoutError: the server still holds something after `settle_s`.
    """
    with RunningServer(command) as server:
        token_ids = tokenize(server, prompt)
        request = encode_request(server.target, PlannedRequest(token_ids, max_tokens))
        short = PlannedRequest(token_ids, 4)
        one = [encode_request(server.target, short)]
        run_async(lambda: run_closed_loop(server.target, one, 1))
        files_before = _num_files(server.pid)
        vanishers = plan(num_clients, seed)
        run_async(lambda: vanish_all(server.target, vanishers, request))
        gone_s = time.perf_counter()
        leftovers, extra_files = _wait_until_settled(server, files_before, gone_s + settle_s)
        settled_s = time.perf_counter() - gone_s
        [response] = run_async(lambda: run_closed_loop(server.target, one, 1))
    record = read_record(response, short)
    by_point = {point.value: sum(vanisher.point is point for vanisher in vanishers) for point in VanishPoint}
    return VanishResult(num_clients, by_point, settled_s, leftovers, extra_files, record.ttft_s)


def tokenize(server: RunningServer, text: str) -> tuple[int, ...]:
    """The server's own token ids of a text."""
    found = json.loads(server.post("/tokenize", {"prompt": text}))
    return tuple(found["tokens"])


def _wait_until_settled(server: RunningServer, files_before: int, deadline: float) -> tuple[Leftovers, int]:
    while True:
        server.check_alive()
        leftovers = None
        try:
            leftovers = read_leftovers(server.get("/metrics"))
        except URLError as error:
            last = str(error)
        else:
            extra_files = _num_files(server.pid) - files_before
            # The connection that /metrics came over may still be open.
            if leftovers.none and extra_files <= 1:
                return leftovers, extra_files
            last = f"{leftovers}, {extra_files} more open files than before"
        if time.perf_counter() > deadline:
            raise TimeoutError(f"{server.command.name} did not settle: {last}")
        time.sleep(0.02)


def _num_files(pid: int) -> int:
    return psutil.Process(pid).num_fds()


def main(arguments: Sequence[str] | None = None) -> None:
    """Check the fake backend and the demo model, print and save."""
    parser = argparse.ArgumentParser(description="clients that vanish leave nothing behind")
    parser.add_argument("--clients", type=int, default=500, help="clients that vanish (%(default)s)")
    parser.add_argument("--model", choices=("fake", "grist", "both"), default="both", help="(%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of where each client vanishes (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    results = {}
    commands = {"fake": (pagemill.fake_command(num_slots=64), 2000), "grist": (pagemill.demo_command(), 1000)}
    for name, (command, max_tokens) in commands.items():
        if options.model in (name, "both"):
            results[name] = check_server(command, PROMPT, max_tokens, options.clients, seed=options.seed)
    for name, result in results.items():
        print(
            f"{name}: {result.num_clients} clients vanished; after {result.settled_s:.2f} s {result.leftovers}, "
            f"{result.extra_files} extra open files; the next request's first token came in "
            f"{result.next_ttft_s * 1000:.0f} ms"
        )
    if not options.no_save:
        saved = {name: asdict(result) for name, result in results.items()}
        print("saved", save("vanish", {"options": vars(options), "results": saved}))


if __name__ == "__main__":
    main()
