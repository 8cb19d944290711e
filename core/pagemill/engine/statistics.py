"""What the engine counts and times, under vLLM's metric names (without the prefix).

`EngineStatistics` is owned by the step loop's thread, which alone writes to it; `snapshot` may be called from any
thread and may be a step old. Plain integers and lists: a histogram costs a bisection, so it can be fed for every token.
May not import backends or a metrics library.
"""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from pagemill.engine.kv_cache import KVCacheStats
from pagemill.generation import FinishReason, Timings, Usage

LATENCY_BOUNDS = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0)
TOKEN_GAP_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0)
REQUEST_BOUNDS = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 60.0, 120.0, 240.0, 480.0)
COUNT_BOUNDS = tuple(float(2**power) for power in range(18))

HISTOGRAM_BOUNDS: dict[str, tuple[float, ...]] = {
    "time_to_first_token_seconds": LATENCY_BOUNDS,
    "inter_token_latency_seconds": TOKEN_GAP_BOUNDS,
    "request_time_per_output_token_seconds": TOKEN_GAP_BOUNDS,
    "e2e_request_latency_seconds": REQUEST_BOUNDS,
    "request_queue_time_seconds": REQUEST_BOUNDS,
    "request_inference_time_seconds": REQUEST_BOUNDS,
    "request_prefill_time_seconds": REQUEST_BOUNDS,
    "request_decode_time_seconds": REQUEST_BOUNDS,
    "request_prompt_tokens": COUNT_BOUNDS,
    "request_generation_tokens": COUNT_BOUNDS,
    "iteration_tokens_total": COUNT_BOUNDS,
}


class HistogramSnapshot(NamedTuple):
    """`counts[i]` observations fell into (bounds[i-1], bounds[i]]; the last count is of those above all bounds."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    sum: float


class EngineStats(NamedTuple):
    """The engine at one moment: gauges, then counters since start, then histograms since start."""

    num_running: int
    num_waiting: int
    kv: KVCacheStats
    prompt_tokens: int
    generation_tokens: int
    cached_prompt_tokens: int
    prefix_cache_queries: int  # tokens looked up
    prefix_cache_hits: int  # tokens found
    num_preemptions: int
    num_shifts: int
    finished: Mapping[str, int]  # by FinishReason
    histograms: Mapping[str, HistogramSnapshot]


class Histogram:
    """Counts of observations between fixed bounds."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float, times: int = 1) -> None:
        self.counts[bisect_left(self.bounds, value)] += times
        self.sum += value * times

    def snapshot(self) -> HistogramSnapshot:
        return HistogramSnapshot(self.bounds, tuple(self.counts), self.sum)


class EngineStatistics:
    """The running totals. See the module for who may call what."""

    def __init__(self) -> None:
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.cached_prompt_tokens = 0
        self.prefix_cache_queries = 0
        self.finished = dict.fromkeys((reason.value for reason in FinishReason), 0)
        self._histograms = {name: Histogram(bounds) for name, bounds in HISTOGRAM_BOUNDS.items()}
        self.inter_token_latency = self._histograms["inter_token_latency_seconds"]
        self.iteration_tokens = self._histograms["iteration_tokens_total"]
        self.time_to_first_token = self._histograms["time_to_first_token_seconds"]

    def started(self, num_prompt_tokens: int, num_cached: int) -> None:
        """A sequence was scheduled for the first time."""
        self.prompt_tokens += num_prompt_tokens
        self.prefix_cache_queries += num_prompt_tokens
        self.cached_prompt_tokens += num_cached

    def ended(self, reason: FinishReason, usage: Usage, timings: Timings) -> None:
        """A sequence ended. One that was never scheduled, or gave no token, has no inference to time."""
        self.finished[reason.value] += 1
        inference_s = timings.prefill_s + timings.decode_s
        observe = self._observe
        observe("e2e_request_latency_seconds", timings.queue_s + inference_s)
        observe("request_queue_time_seconds", timings.queue_s)
        observe("request_prompt_tokens", usage.prompt_tokens)
        observe("request_generation_tokens", usage.completion_tokens)
        if usage.completion_tokens > 0:
            observe("request_inference_time_seconds", inference_s)
            observe("request_prefill_time_seconds", timings.prefill_s)
            observe("request_decode_time_seconds", timings.decode_s)
        if usage.completion_tokens > 1:
            observe("request_time_per_output_token_seconds", timings.decode_s / (usage.completion_tokens - 1))

    def snapshot(
        self, *, num_running: int, num_waiting: int, num_preemptions: int, num_shifts: int, kv: KVCacheStats
    ) -> EngineStats:
        return EngineStats(
            num_running=num_running,
            num_waiting=num_waiting,
            kv=kv,
            prompt_tokens=self.prompt_tokens,
            generation_tokens=self.generation_tokens,
            cached_prompt_tokens=self.cached_prompt_tokens,
            prefix_cache_queries=self.prefix_cache_queries,
            prefix_cache_hits=self.cached_prompt_tokens,
            num_preemptions=num_preemptions,
            num_shifts=num_shifts,
            finished=dict(self.finished),
            histograms={name: histogram.snapshot() for name, histogram in self._histograms.items()},
        )

    def _observe(self, name: str, value: float) -> None:
        self._histograms[name].observe(value)
