"""What is measured of a stream, in the words of vLLM's benchmark: TTFT, TPOT, ITL, E2EL, throughput.

Pure arithmetic, owns no state, imports nothing of this project. Times are seconds of one monotonic clock.
"""

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class RequestRecord:
    """One request that ended well. `text_times_s`: when each chunk that carries text arrived, ascending, not empty."""

    started_s: float
    text_times_s: tuple[float, ...]
    ended_s: float  # when the response was complete
    prompt_tokens: int  # this and the next two as the server's usage says
    output_tokens: int
    cached_tokens: int

    @property
    def ttft_s(self) -> float:
        """Time to first token: to the first chunk that carries text."""
        return self.text_times_s[0] - self.started_s

    @property
    def e2el_s(self) -> float:
        """End-to-end latency: to the last chunk that carries text."""
        return self.text_times_s[-1] - self.started_s

    @property
    def tpot_s(self) -> float | None:
        """Time per output token after the first; None when there is only one."""
        return (self.e2el_s - self.ttft_s) / (self.output_tokens - 1) if self.output_tokens > 1 else None

    @property
    def itl_s(self) -> tuple[float, ...]:
        """Inter-token latencies: the gaps between chunks."""
        return tuple(later - earlier for earlier, later in zip(self.text_times_s, self.text_times_s[1:], strict=False))


@dataclass(frozen=True, slots=True)
class Distribution:
    """Summary of one latency over all requests (or gaps) of a run, in seconds."""

    mean: float
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run of one server. Rates are over the time from the first request's start to the last one's end."""

    num_requests: int
    duration_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    output_tokens_per_s: float
    total_tokens_per_s: float
    requests_per_s: float
    ttft_s: Distribution
    tpot_s: Distribution | None
    itl_s: Distribution | None
    e2el_s: Distribution

    def as_dict(self) -> dict[str, object]:
        """For JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Spread:
    """A figure over several runs: its median, and the least and the largest value."""

    median: float
    low: float
    high: float


def percentile(values: Sequence[float], percent: float) -> float:
    """The value below which `percent` of the values lie, interpolated linearly (numpy's default)."""
    if not values:
        raise ValueError("no values to take a percentile of")
    if not 0 <= percent <= 100:
        raise ValueError(f"percent must be in [0, 100], got {percent}")
    ordered = sorted(values)
    rank = (len(ordered) - 1) * percent / 100
    low = math.floor(rank)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (rank - low)


def distribution(values: Sequence[float]) -> Distribution:
    """Raises ValueError when there are no values."""
    return Distribution(
        mean=statistics.fmean(values),
        p50=percentile(values, 50),
        p90=percentile(values, 90),
        p99=percentile(values, 99),
    )


def spread(values: Sequence[float]) -> Spread:
    """Raises ValueError when there are no values."""
    return Spread(median=percentile(values, 50), low=min(values), high=max(values))


def summarize(records: Sequence[RequestRecord]) -> RunSummary:
    """All figures of one run. Raises ValueError when there are no records."""
    duration_s = max(record.ended_s for record in records) - min(record.started_s for record in records)
    output_tokens = sum(record.output_tokens for record in records)
    prompt_tokens = sum(record.prompt_tokens for record in records)
    tpot = [record.tpot_s for record in records if record.tpot_s is not None]
    itl = [gap for record in records for gap in record.itl_s]
    return RunSummary(
        num_requests=len(records),
        duration_s=duration_s,
        prompt_tokens=prompt_tokens,
        cached_tokens=sum(record.cached_tokens for record in records),
        output_tokens=output_tokens,
        output_tokens_per_s=output_tokens / duration_s,
        total_tokens_per_s=(prompt_tokens + output_tokens) / duration_s,
        requests_per_s=len(records) / duration_s,
        ttft_s=distribution([record.ttft_s for record in records]),
        tpot_s=distribution(tpot) if tpot else None,
        itl_s=distribution(itl) if itl else None,
        e2el_s=distribution([record.e2el_s for record in records]),
    )
