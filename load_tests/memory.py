"""Peak resident memory of `pagemill serve` beyond the model's file and its KV cache, under load.

    python -m load_tests.memory --model 88M --clients 16

The arithmetic, all of it from /proc, the model's file and /api/ps:

    overhead = peak resident memory - resident pages of the model's file - KV cache

- Peak resident memory is the kernel's own high-water mark (VmHWM), at the end of the run: no sample can miss it.
- The model's pages are those of the mapping of its file (Rss in smaps). They only grow while it is used, so the last
  sample is the largest. Copies of weights that llama.cpp might make for itself are not subtracted: they are overhead.
- The KV cache is what /api/ps reports (`size`: weights and KV) less the file's tensors. llama.cpp fills it with zeros
  at the start, so all of it is resident; a KV cache larger than all anonymous memory would show that it is not, and is
  refused.
"""

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import gguf

from load_tests.models import find_model, shapes
from load_tests.peers import pagemill
from load_tests.report import save, table
from load_tests.runs import default_threads, send
from load_tests.scenarios import scenarios
from load_tests.servers import RunningServer
from load_tests.sse import read_record

MIB = 2**20
AIM_BYTES = 150 * MIB


@dataclass(frozen=True, slots=True)
class MemoryFigures:
    """In bytes."""

    peak: int  # VmHWM
    anonymous: int  # RssAnon
    model_pages: int
    kv: int

    @property
    def overhead(self) -> int:
        return self.peak - self.model_pages - self.kv


def status_bytes(status: str, name: str) -> int:
    """A field of /proc/PID/status that is in kB."""
    found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
    if found is None:
        raise LookupError(f"no {name} in /proc/PID/status")
    return int(found[1]) * 1024


def mapped_bytes(smaps: str, path: Path) -> int:
    """Resident bytes of the mappings of a file, from the text of /proc/PID/smaps."""
    total = 0
    mapping = ""
    for line in smaps.splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            mapping = line.split(maxsplit=5)[5] if line.count(" ") >= 5 and "/" in line else ""
        elif line.startswith("Rss:") and mapping == str(path):
            total += int(line.split()[1]) * 1024
    return total


def tensor_bytes(path: Path) -> int:
    """Of all weights in a GGUF file."""
    return sum(int(tensor.n_bytes) for tensor in gguf.GGUFReader(path).tensors)


def measure(model: Path, num_clients: int, num_requests: int, threads: int) -> MemoryFigures:
    """Serve a mixed load, then read the figures while the server still runs.

    Raises:
        RuntimeError: the KV cache that is reported can't all be resident.
    """
    scenario = scenarios()["mixed"]
    command = pagemill.gguf_command(model, num_slots=num_clients, max_model_len=scenario.max_model_len, threads=threads)
    planned = scenario.plan(num_requests, range(300, 2000), seed=0)
    with RunningServer(command) as server:
        responses = send(server, planned, num_clients)
        [loaded] = json.loads(server.get("/api/ps"))["models"]
        process = Path(f"/proc/{server.pid}")
        status, smaps = (process / "status").read_text(), (process / "smaps").read_text()
    for response, request in zip(responses, planned, strict=True):
        read_record(response, request)
    figures = MemoryFigures(
        peak=status_bytes(status, "VmHWM"),
        anonymous=status_bytes(status, "RssAnon"),
        model_pages=mapped_bytes(smaps, model),
        kv=loaded["size"] - tensor_bytes(model),
    )
    if figures.kv > figures.anonymous:
        raise RuntimeError(f"{figures} has more KV than anonymous memory: it is not all resident")
    return figures


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="peak resident memory beyond the model's file and its KV cache")
    parser.add_argument("--model", default="88M", help=f"grist, a .gguf path, or one of {', '.join(shapes())}")
    parser.add_argument("--clients", type=int, default=16, help="at once (%(default)s)")
    parser.add_argument("--requests", type=int, default=64, help="in all (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="of the server (%(default)s)")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    model = find_model(options.model)
    figures = measure(model, options.clients, options.requests, options.threads)
    named = {"peak resident (VmHWM)": figures.peak, "- pages of the model's file": figures.model_pages}
    rows = [*named.items(), ("- KV cache", figures.kv), ("= overhead", figures.overhead)]
    print(f"\n{options.model}, {options.clients} clients, {options.requests} mixed requests")
    print(table(("what", "MiB"), [(name, f"{value / MIB:.1f}") for name, value in rows]))
    print(f"aim: below {AIM_BYTES // MIB} MiB\n")
    if not options.no_save:
        saved = {**asdict(figures), "overhead": figures.overhead, "file": model.stat().st_size}
        print("saved", save("memory", {"options": vars(options), "bytes": saved}))


if __name__ == "__main__":
    main()
