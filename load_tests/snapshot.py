"""Prefix snapshots: the first token after a start, with a long system prompt, with its snapshot and without.

    python -m load_tests.snapshot --repeats 5

Every start is a fresh process, and those with and without take turns; the files are in the page cache. As soon as the
server says that it is ready, one chat is sent, of the system prompt and a short question. Two times are taken: from
before the process is started, and from the request, each to the first byte of content. The aim is a tenth, from the
request.

The answers must be, token for token, those of a third server, which was started without the snapshot and has computed
the prefix for a request before. Those of the cold start may part from them where two tokens are as good as equally
likely, since kernels round differently for a few tokens than for hundreds; where they do, is told.
"""

import argparse
import http.client
import json
import random
import subprocess
import sys
import time
import urllib.error
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from load_tests.measures import Spread, spread
from load_tests.model_folders import model_folder
from load_tests.models import CACHE, find_model
from load_tests.peers import pagemill
from load_tests.report import format_spread, save, table
from load_tests.runs import default_threads
from load_tests.servers import RunningServer, ServerCommand
from pagemill.engine.common_prefix import common_prefix_length
from pagemill.store.snapshot_file import open_snapshot

AIM = 0.1
RETRY_S = 0.002
GIVE_UP_S = 120.0
LETTERS = "etaoinshrdlucm"  # any two are a word of one token in the random models
MODELS = ("grist", "88M:Q8_0", "88M:bf16")
WITH, WITHOUT, PREFILLED = "with", "without", "prefilled"
TOLERANCE = 0.03  # of the number of tokens


@dataclass(frozen=True, slots=True)
class FirstToken:
    """One start. Seconds."""

    since_start_s: float
    since_request_s: float
    cached_tokens: int
    text: str


@dataclass(frozen=True, slots=True)
class Figures:
    """All starts of one model."""

    model: str
    num_tokens: int  # of the prefix
    snapshot_bytes: int
    starts: dict[str, list[FirstToken]]  # with, without, prefilled

    def since_start(self, which: str) -> Spread:
        return spread([start.since_start_s for start in self.starts[which]])

    def since_request(self, which: str) -> Spread:
        return spread([start.since_request_s for start in self.starts[which]])


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the snapshots, start every server many times, print and save."""
    parser = argparse.ArgumentParser(description="time to first token of a long system prompt after a start")
    parser.add_argument("--models", default=",".join(MODELS), help="sizes and types, bf16 is a folder (%(default)s)")
    parser.add_argument("--tokens", type=int, default=1500, help="of the system prompt (%(default)s)")
    parser.add_argument("--repeats", type=int, default=5, help="starts of each (%(default)s)")
    parser.add_argument("--slots", type=int, default=4, help="sequences at once (%(default)s)")
    parser.add_argument("--max-model-len", type=int, default=2048, help="context of each in tokens (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="(%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    figures = [measure(name, options) for name in options.models.split(",")]
    print(report(figures))
    if not options.no_save:
        print("saved", save("snapshot", {"options": vars(options), "models": [asdict(model) for model in figures]}))


def measure(name: str, options: argparse.Namespace) -> Figures:
    """Start one model's server in turns with its snapshot and without."""
    path = CACHE / f"{name.replace(':', '-')}-{options.tokens}.snapshot"
    system = make_prompt_and_snapshot(name, path, options)
    token_ids = open_snapshot(path).head.token_ids
    commands = {WITH: command(name, str(path), options), WITHOUT: command(name, "off", options)}
    starts: dict[str, list[FirstToken]] = {WITH: [], WITHOUT: []}
    for repeat in range(options.repeats + 1):
        for which in (WITH, WITHOUT) if repeat % 2 == 0 else (WITHOUT, WITH):
            start = start_once(commands[which], system)
            print(f"  {name} #{repeat} {which:7} {start.since_start_s * 1000:7.0f} ms since the start", flush=True)
            if repeat:  # the first one only warms the page cache
                starts[which].append(start)
    starts[PREFILLED] = [start_once(commands[WITHOUT], system, prefill=token_ids)]
    check_same(name, [*starts[WITH], *starts[PREFILLED]])
    return Figures(name, len(token_ids), path.stat().st_size, starts)


def make_prompt_and_snapshot(name: str, path: Path, options: argparse.Namespace) -> str:
    """A system prompt with which a chat's prefix has about as many tokens as was asked for, and its snapshot."""
    num_words = options.tokens
    while True:
        system = words(num_words)
        make_snapshot(name, system, path, options)
        num_tokens = len(open_snapshot(path).head.token_ids)
        if abs(num_tokens - options.tokens) <= TOLERANCE * options.tokens:
            return system
        num_words = num_words * options.tokens // num_tokens


def words(count: int) -> str:
    """Words that no model has seen together."""
    letters = random.Random(count)
    return " ".join(letters.choice(LETTERS) + letters.choice(LETTERS) for _ in range(count))


def make_snapshot(name: str, system: str, path: Path, options: argparse.Namespace) -> None:
    """As at build time: by the command."""
    prompt = path.with_suffix(".json")
    prompt.write_text(json.dumps({"messages": [{"role": "system", "content": system}]}))
    flags = ["--prompt", str(prompt), "--output", str(path), "--max-model-len", str(4 * options.tokens)]
    if is_folder(name):
        flags += ["--device", "cpu", "--dtype", "bfloat16"]
    program = str(Path(sys.executable).with_name("pagemill"))
    subprocess.run([program, "snapshot", str(location(name)), *flags, "--log-level", "error"], check=True)


def is_folder(name: str) -> bool:
    return name.endswith(":bf16")


def location(name: str) -> Path:
    return model_folder(name.partition(":")[0]) if is_folder(name) else find_model(name)


def command(name: str, snapshot: str, options: argparse.Namespace) -> ServerCommand:
    flags = ("--prefix-snapshot", snapshot)
    slots, length, threads = options.slots, options.max_model_len, options.threads
    if is_folder(name):
        return pagemill.paged_command(
            location(name), num_slots=slots, max_model_len=length, threads=threads, flags=flags
        )
    return pagemill.gguf_command(location(name), num_slots=slots, max_model_len=length, threads=threads, flags=flags)


def start_once(server_command: ServerCommand, system: str, *, prefill: Sequence[int] = ()) -> FirstToken:
    """Start a server and ask it as soon as it is ready, after a request of nothing but `prefill`, if any."""
    with RunningServer(server_command, wait_ready_s=0) as server:
        deadline = time.perf_counter() + GIVE_UP_S
        while time.perf_counter() < deadline:
            server.check_alive()
            try:
                server.get(server_command.ready_path)
            except (urllib.error.URLError, ConnectionError):
                time.sleep(RETRY_S)
            else:
                if prefill:
                    server.post("/v1/completions", {"prompt": list(prefill), "max_tokens": 1})
                return ask(server, system)
        raise TimeoutError(f"{server_command.name} was not ready in {GIVE_UP_S} s:\n{server.log_end()}")


def ask(server: RunningServer, system: str) -> FirstToken:
    """Send the chat to a server that is ready, and read its answer."""
    messages = [{"role": "system", "content": system}, {"role": "user", "content": "Who are you?"}]
    body = {
        "model": server.command.model,
        "messages": messages,
        "max_tokens": 32,
        "temperature": 0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=GIVE_UP_S)
    began_s = time.perf_counter()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json"})
    response = connection.getresponse()
    if response.status != 200:
        raise RuntimeError(f"status {response.status}: {response.read()[:500]!r}")
    text, arrived_s, cached_tokens = "", 0.0, 0
    for line in response:
        if not line.startswith(b"data: {"):
            continue
        chunk = json.loads(line.removeprefix(b"data: "))
        content = chunk["choices"][0]["delta"].get("content") if chunk["choices"] else None
        if content:
            arrived_s = arrived_s or time.perf_counter()
            text += content
        if chunk.get("usage"):
            cached_tokens = chunk["usage"]["prompt_tokens_details"]["cached_tokens"]
    connection.close()
    return FirstToken(arrived_s - server.started_s, arrived_s - began_s, cached_tokens, text)


def check_same(name: str, starts: Sequence[FirstToken]) -> None:
    """
    Raises:
        ValueError: two answers differ.
    """
    texts = {start.text for start in starts}
    if len(texts) != 1 or not all(texts):
        raise ValueError(f"{name}: the answers differ: {sorted(texts)}")


def report(figures: Sequence[Figures]) -> str:
    """A table: medians with their spread, and what part of the time without is left."""
    rows = []
    for model in figures:
        for event, of in (("process start", model.since_start), ("request", model.since_request)):
            with_, without = of(WITH), of(WITHOUT)
            ratio = f"{with_.median / without.median:.3f}"
            rows.append((model.model, event, format_spread(with_, 1000, 0), format_spread(without, 1000, 0), ratio))
    header = ("model", "first token after", "ms with", "ms without", "ratio")
    aim = f"aim: a ratio of {AIM} from the request\n"
    return "\n".join(("", *map(_about, figures), table(header, rows), aim))


def _about(model: Figures) -> str:
    ours, cold = model.starts[WITH][0], model.starts[WITHOUT][0]
    common = common_prefix_length(ours.text.encode(), cold.text.encode(), min(len(ours.text), len(cold.text)))
    same = "equal to" if ours.text == cold.text else f"for {common} of {len(ours.text)} characters equal to"
    return (
        f"{model.model}: a prefix of {model.num_tokens} tokens, {model.snapshot_bytes / 1e6:.1f} MB; "
        f"{ours.cached_tokens} restored, the answer equal to that after a prefill, and {same} that of a cold start"
    )


if __name__ == "__main__":
    main()
