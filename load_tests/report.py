"""Tables, ratios and dated JSON of what was measured. Owns no state but the files it writes under results/."""

import json
import os
import platform
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from load_tests.measures import RunSummary, Spread, spread

RESULTS = Path(__file__).parent / "results"
OURS = "pagemill"


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """All repeats of one server in one cell."""

    server: str
    output_tokens_per_s: Spread
    median_ttft_s: Spread
    median_tpot_s: Spread | None

    @classmethod
    def of(cls, server: str, runs: Sequence[RunSummary]) -> "ServerFigures":
        """The spread over the repeats of each repeat's own figure."""
        tpot = [run.tpot_s.p50 for run in runs if run.tpot_s is not None]
        return cls(
            server=server,
            output_tokens_per_s=spread([run.output_tokens_per_s for run in runs]),
            median_ttft_s=spread([run.ttft_s.p50 for run in runs]),
            median_tpot_s=spread(tpot) if tpot else None,
        )


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell (scenario and number of clients): ours beside the best of the peers. Ratios above 1 favour us."""

    throughput_ratio: float  # ours / the peer's with the most output tokens per second
    throughput_peer: str
    ttft_ratio: float  # the peer's with the lowest median TTFT / ours
    ttft_peer: str


def compare(ours: ServerFigures, peers: Sequence[ServerFigures]) -> Comparison:
    """Medians over repeats; for each figure the peer that is best at it. Raises ValueError when there is no peer."""
    fastest = max(peers, key=lambda peer: peer.output_tokens_per_s.median)
    soonest = min(peers, key=lambda peer: peer.median_ttft_s.median)
    return Comparison(
        throughput_ratio=ours.output_tokens_per_s.median / fastest.output_tokens_per_s.median,
        throughput_peer=fastest.server,
        ttft_ratio=soonest.median_ttft_s.median / ours.median_ttft_s.median,
        ttft_peer=soonest.server,
    )


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table whose columns line up."""
    lines = [list(header), *map(list, rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(header))]
    cells = [[text.ljust(width) for text, width in zip(line, widths, strict=True)] for line in lines]
    cells.insert(1, ["-" * width for width in widths])
    return "\n".join("| " + " | ".join(line) + " |" for line in cells)


def format_spread(value: Spread | None, scale: float = 1.0, digits: int = 1) -> str:
    """`median (low-high)`."""
    if value is None:
        return "-"
    median, low, high = (f"{part * scale:.{digits}f}" for part in (value.median, value.low, value.high))
    return f"{median} ({low}-{high})"


def environment() -> dict[str, object]:
    """What the figures depend on: hardware, versions, commit, and how busy the machine was before."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "system": platform.platform(terse=True),
        "load_average_1m": os.getloadavg()[0],
        "python": platform.python_version(),
        "versions": {
            name: _version(name) for name in ("pagemill", "llama-cpp-python", "uvicorn", "starlette", "uvloop")
        },
        "commit": _commit(),
    }


def save(name: str, figures: Mapping[str, object]) -> Path:
    """Write results/<date>-<name>.json, with the environment."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}-{name}.json"
    path.write_text(json.dumps({"name": name, "environment": environment(), **figures}, indent=1) + "\n")
    return path


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")


def _version(distribution: str) -> str | None:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return None


def _commit() -> str | None:
    folder = Path(__file__).parent
    try:
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=12"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout.strip()
