"""Three models and memory for two: requests of many clients, none of which may be lost, and the budget must hold.

    python -m load_tests.several_models --models 88M 88M:Q4_K_M 88M:folder --clients 8 --requests 200

First a server without a tight budget is asked once of each model, to learn what the server itself takes and what each
model does. The budget of the run is the first, and the two largest of the second, and half of the smallest: any two
models fit, three do not. Requests are in all dialects, streamed and not, some with a `keep_alive`. Resident memory is
sampled throughout, and at the end the kernel's own high-water mark (VmHWM) is read, which no sample can miss.

The peer is the same server with memory for all three: the ratio of the times is what loading on demand costs.
"""

import argparse
import asyncio
import json
import random
import re
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import httpx
import psutil

from load_tests.memory import status_bytes
from load_tests.model_folders import model_folder
from load_tests.models import find_model
from load_tests.peers import pagemill
from load_tests.report import save, table
from load_tests.runs import default_threads, run_async
from load_tests.servers import RunningServer, ServerCommand
from pagemill.machine import available_memory_bytes

MIB = 2**20
SAMPLE_EVERY_S = 0.002
PROMPTS = ("What is Pagemill?", "Tell me of pages, " * 20, "One, two, three, " * 60)
PATHS = ("/v1/chat/completions", "/v1/completions", "/v1/messages", "/api/chat", "/api/generate")


@dataclass(frozen=True, slots=True)
class Asked:
    """One request."""

    path: str
    model: str
    body: dict[str, object]


@dataclass(frozen=True, slots=True)
class Run:
    """What became of all requests. Bytes are of the server's resident memory."""

    wall_s: float
    num_lost: int
    median_s: float
    slowest_s: float
    num_loads: int
    num_evictions: int
    most_loaded: int  # models at once, as sampled
    peak_sampled: int
    peak: int  # VmHWM


@dataclass(frozen=True, slots=True)
class Figures:
    """In bytes, but for the runs."""

    own: int
    sizes: dict[str, int]
    budget: int
    for_two: Run
    for_all: Run

    def as_table(self) -> str:
        """The two runs side by side, and what should hold."""
        rows = [
            (name, f"{getattr(self.for_two, name):.3f}".rstrip("0").rstrip("."), f"{getattr(self.for_all, name):.3f}")
            for name in ("wall_s", "median_s", "slowest_s", "num_lost", "num_loads", "num_evictions", "most_loaded")
        ]
        peaks = (f"{self.for_two.peak / self.budget:.3f}", f"{self.for_all.peak / self.budget:.3f}")
        rows.append(("peak / budget for two", *peaks))
        ratio = self.for_two.wall_s / self.for_all.wall_s
        return f"{table(('', 'budget for two', 'for all'), rows)}\n\nfor two / for all, wall: {ratio:.2f}"


def plan(models: Sequence[str], num_requests: int, seed: int) -> list[Asked]:
    """Mixed in every way, the same for the same seed."""
    choose = random.Random(seed)
    return [_asked(choose.choice(PATHS), choose.choice(list(models)), choose) for _ in range(num_requests)]


def _asked(path: str, model: str, choose: random.Random) -> Asked:
    text, num_tokens, stream = choose.choice(PROMPTS), choose.randint(1, 32), choose.random() < 0.5
    body: dict[str, object] = {"model": model, "stream": stream}
    if path.startswith("/api/"):
        body["options"] = {"num_predict": num_tokens, "seed": choose.randint(0, 9)}
        if choose.random() < 0.2:
            body["keep_alive"] = choose.choice((0, "1s", -1))
    else:
        body |= {"max_tokens": num_tokens}
    if path in ("/api/generate", "/v1/completions"):
        body["prompt"] = text
    else:
        body["messages"] = [{"role": "user", "content": text}]
    return Asked(path, model, body)


def is_whole(asked: Asked, answer: httpx.Response) -> bool:
    """Whether it has come to its end without an error."""
    text = answer.text
    if answer.status_code != 200 or '"error"' in text:
        return False
    if not asked.body["stream"]:
        return isinstance(answer.json(), dict)
    if asked.path.startswith("/api/"):
        return bool(json.loads(text.splitlines()[-1])["done"])
    return "message_stop" in text if asked.path == "/v1/messages" else text.rstrip().endswith("data: [DONE]")


def folder_of(models: Sequence[str]) -> tempfile.TemporaryDirectory[str]:
    """A models folder with links to them: `find_model`'s names, and SIZE:folder for a model folder."""
    folder = tempfile.TemporaryDirectory(prefix="pagemill-models-")
    for model in models:
        size, _, kind = model.partition(":")
        path = model_folder(size) if kind == "folder" else find_model(model)
        (Path(folder.name) / path.name).symlink_to(path)
    return folder


def sizes_of(command: ServerCommand) -> tuple[int, dict[str, int]]:
    """(What the server takes without a model when it has had all of them, what each model is said to take)."""
    sizes: dict[str, int] = {}
    with RunningServer(command) as server:
        for name in names_on(server):
            server.post("/api/generate", {"model": name, "prompt": "a b c", "stream": False}, timeout_s=300)
            [loaded] = json.loads(server.get("/api/ps"))["models"]
            sizes[name] = loaded["size"]
            server.post("/api/generate", {"model": name, "keep_alive": 0}, timeout_s=300)
            while json.loads(server.get("/api/ps"))["models"]:
                time.sleep(0.01)
        return psutil.Process(server.pid).memory_info().rss, sizes


def names_on(server: RunningServer) -> list[str]:
    return sorted(model["name"].removesuffix(":latest") for model in json.loads(server.get("/api/tags"))["models"])


async def run(server: RunningServer, asked: Sequence[Asked], num_clients: int) -> Run:
    """Send them all, each client one after the other."""
    process, waiting = psutil.Process(server.pid), list(reversed(asked))
    seconds: list[float] = []
    lost: list[Asked] = []
    peak = most_loaded = 0

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(SAMPLE_EVERY_S)

    async def count(client: httpx.AsyncClient) -> None:
        nonlocal most_loaded
        while True:
            most_loaded = max(most_loaded, len((await client.get("/api/ps")).json()["models"]))
            await asyncio.sleep(0.02)

    async def one_client(client: httpx.AsyncClient) -> None:
        while waiting:
            request = waiting.pop()
            began = time.perf_counter()
            answer = await client.post(request.path, json=request.body)
            seconds.append(time.perf_counter() - began)
            if not is_whole(request, answer):
                lost.append(request)

    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{server.port}", timeout=600) as client:
        watching = [asyncio.create_task(watch()), asyncio.create_task(count(client))]
        began = time.perf_counter()
        await asyncio.gather(*(one_client(client) for _ in range(num_clients)))
        wall_s = time.perf_counter() - began
        for task in watching:
            task.cancel()
        metrics = (await client.get("/metrics")).text
    return Run(
        wall_s=wall_s,
        num_lost=len(lost),
        median_s=statistics.median(seconds),
        slowest_s=max(seconds),
        num_loads=total(metrics, "pagemill_model_load_seconds_count"),
        num_evictions=total(metrics, "pagemill_model_evictions_total"),
        most_loaded=most_loaded,
        peak_sampled=peak,
        peak=high_water(server.pid),
    )


def high_water(pid: int) -> int:
    """The most memory that the process ever had resident, in bytes."""
    return status_bytes(Path(f"/proc/{pid}/status").read_text(), "VmHWM")


def total(metrics: str, name: str) -> int:
    """Of a metric, over all models."""
    return sum(int(float(value)) for value in re.findall(rf"^{name}{{.*}} (\S+)$", metrics, re.MULTILINE))


def measure(folder: Path, num_requests: int, num_clients: int, threads: int, kv_bytes: int) -> Figures:
    """See the module."""

    def command(budget: int) -> ServerCommand:
        return pagemill.several_command(folder, memory_budget=budget, threads=threads, kv_cache_bytes=kv_bytes)

    plenty = available_memory_bytes()
    own, sizes = sizes_of(command(plenty))
    by_size = sorted(sizes.values(), reverse=True)
    budget = own + sum(by_size[:2]) + by_size[-1] // 2
    asked = plan(sorted(sizes), num_requests, seed=0)
    runs = []
    for limit in (budget, plenty):
        with RunningServer(command(limit)) as server:
            runs.append(run_async(partial(run, server, asked, num_clients)))
    return Figures(own, sizes, budget, runs[0], runs[1])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="several models under a memory budget that holds all but one")
    parser.add_argument("--models", nargs="+", default=["88M", "88M:Q4_K_M", "88M:folder"], help="%(default)s")
    parser.add_argument("--clients", type=int, default=8, help="at once (%(default)s)")
    parser.add_argument("--requests", type=int, default=200, help="in all (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of the server (%(default)s)")
    parser.add_argument("--kv-mib", type=int, default=128, help="KV cache of each model (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    with folder_of(options.models) as folder:
        figures = measure(Path(folder), options.requests, options.clients, options.threads, options.kv_mib * MIB)
    print(f"\n{', '.join(options.models)}; {options.clients} clients, {options.requests} mixed requests")
    print(figures.as_table())
    if not options.no_save:
        print("saved", save("several-models", {"options": vars(options), **asdict(figures)}))


if __name__ == "__main__":
    main()
