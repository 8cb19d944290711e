"""Engine statistics as Prometheus metric families, by vLLM's stems, so that dashboards port by one rename.

Owns no state: each scrape reads one snapshot of each loaded engine. This module imports prometheus-client, so it is
itself imported only at the first scrape. A model that was unloaded and loaded again starts its counters at zero, as
after a restart; Prometheus' `rate` expects that.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from pagemill.generation import FinishReason

if TYPE_CHECKING:
    from pagemill.engine.statistics import EngineStats, HistogramSnapshot

PREFIX = "pagemill_"
LABELS = ("model_name",)

HISTOGRAM_HELP = {
    "time_to_first_token_seconds": "Time from arrival to the first token.",
    "inter_token_latency_seconds": "Time between two tokens of one sequence.",
    "request_time_per_output_token_seconds": "A request's decode time divided by its output tokens after the first.",
    "e2e_request_latency_seconds": "Time from arrival to the last token.",
    "request_queue_time_seconds": "Time that a request waited before it was first scheduled.",
    "request_inference_time_seconds": "Time from first scheduled to the last token.",
    "request_prefill_time_seconds": "Time from first scheduled to the first token.",
    "request_decode_time_seconds": "Time from the first token to the last.",
    "request_prompt_tokens": "Prompt tokens of a request.",
    "request_generation_tokens": "Output tokens of a request.",
    "iteration_tokens_total": "Tokens computed in one step.",
}

Snapshots = Sequence[tuple[str, "EngineStats"]]


class EngineCollector(Collector):
    """Turns `(model name, statistics)` pairs into metric families, each labelled with `model_name`."""

    def __init__(self, snapshots: "Callable[[], Iterable[tuple[str, EngineStats]]]") -> None:
        self._snapshots = snapshots

    def describe(self) -> Iterable[Metric]:
        """Nothing: the registry need not look at an engine to register this."""
        return ()

    def collect(self) -> Iterator[Metric]:
        snapshots = tuple(self._snapshots())
        yield from _gauges(snapshots)
        yield from _counters(snapshots)
        yield _finished(snapshots)
        for stem, text in HISTOGRAM_HELP.items():
            yield _histogram(stem, text, snapshots)


class RefusalCollector(Collector):
    """How many requests the limits of their clients have refused, by which limit."""

    def __init__(self, num_refused: Mapping[str, int]) -> None:
        self._num_refused = num_refused

    def collect(self) -> Iterator[Metric]:
        text = "Requests refused because their client had asked too much."
        family = CounterMetricFamily(PREFIX + "requests_refused", text, labels=("reason",))
        for reason, count in self._num_refused.items():
            family.add_metric((reason,), count)
        yield family


def _gauges(snapshots: Snapshots) -> Iterator[Metric]:
    readings: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
        ("num_requests_running", "Sequences that are being computed.", lambda stats: stats.num_running),
        ("num_requests_waiting", "Sequences that wait to be scheduled.", lambda stats: stats.num_waiting),
        ("kv_cache_usage_perc", "Part of the KV cache in use; 1 is all of it.", _kv_usage),
        ("kv_cache_waste_perc", "Part of the KV cache in use that holds nothing; 1 is all of it.", _kv_waste),
    )
    for stem, text, read in readings:
        family = GaugeMetricFamily(PREFIX + stem, text, labels=LABELS)
        for name, stats in snapshots:
            family.add_metric((name,), read(stats))
        yield family


def _kv_usage(stats: "EngineStats") -> float:
    return stats.kv.used_tokens / stats.kv.total_tokens if stats.kv.total_tokens else 0.0


def _kv_waste(stats: "EngineStats") -> float:
    return stats.kv.unfilled_tokens / stats.kv.used_tokens if stats.kv.used_tokens else 0.0


def _counters(snapshots: Snapshots) -> Iterator[Metric]:
    readings: tuple[tuple[str, str, Callable[[EngineStats], float]], ...] = (
        ("prompt_tokens", "Prompt tokens of the requests that were scheduled.", lambda stats: stats.prompt_tokens),
        ("generation_tokens", "Tokens generated.", lambda stats: stats.generation_tokens),
        (
            "prompt_tokens_cached",
            "Prompt tokens that were not computed again.",
            lambda stats: stats.cached_prompt_tokens,
        ),
        ("prefix_cache_queries", "Tokens looked up in the prefix cache.", lambda stats: stats.prefix_cache_queries),
        ("prefix_cache_hits", "Tokens found in the prefix cache.", lambda stats: stats.prefix_cache_hits),
        ("num_preemptions", "Sequences that were preempted.", lambda stats: stats.num_preemptions),
        ("context_shifts", "Times that a full context dropped its older half.", lambda stats: stats.num_shifts),
    )
    for stem, text, read in readings:
        family = CounterMetricFamily(PREFIX + stem, text, labels=LABELS)
        for name, stats in snapshots:
            family.add_metric((name,), read(stats))
        yield family


def _finished(snapshots: Snapshots) -> Metric:
    """Counts by reason. Every reason has a series from the start, so that a rate over it is never absent."""
    family = CounterMetricFamily(
        PREFIX + "request_success", "Sequences that ended, by reason.", labels=(*LABELS, "finished_reason")
    )
    for name, stats in snapshots:
        for reason in FinishReason:
            family.add_metric((name, reason.value), stats.finished.get(reason.value, 0))
    return family


def _histogram(stem: str, text: str, snapshots: Snapshots) -> Metric:
    family = HistogramMetricFamily(PREFIX + stem, text, labels=LABELS)
    for name, stats in snapshots:
        snapshot = stats.histograms[stem]
        family.add_metric((name,), _cumulative_buckets(snapshot), sum_value=snapshot.sum)
    return family


def _cumulative_buckets(snapshot: "HistogramSnapshot") -> list[tuple[str, float]]:
    """(upper bound, observations at or under it), the last bound being infinity."""
    bounds = [*map(floatToGoString, snapshot.bounds), "+Inf"]
    return list(zip(bounds, accumulate(snapshot.counts), strict=True))
