"""Which models are loaded, what they take, how often they came and went, as Prometheus metric families.

Owns no state: each scrape reads the pool's slots. Imports prometheus-client, so it is imported at the first scrape.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric, SummaryMetricFamily
from prometheus_client.registry import Collector

from pagemill.api.operations.metrics import LABELS, PREFIX

if TYPE_CHECKING:
    from pagemill.pool import ModelPool, ModelSlot


class ModelCollector(Collector):
    """Of the models that a load was ever tried of."""

    def __init__(self, pool: "ModelPool") -> None:
        self._pool = pool

    def collect(self) -> Iterator[Metric]:
        slots = self._pool.slots()
        loaded = [slot for slot in slots if slot.model is not None]
        yield GaugeMetricFamily(PREFIX + "models_loaded", "Models that are loaded.", value=len(loaded))
        yield _memory(loaded)
        if self._pool.memory is not None:
            text = "Memory that this process may take with its models (the CPU's)."
            yield GaugeMetricFamily(PREFIX + "memory_budget_bytes", text, value=self._pool.memory.budget("cpu"))
        yield _loads(slots)
        yield _count("model_load_failures", "Loads that failed.", [(slot, slot.num_failures) for slot in slots])
        text = "Unloads to make room for another model."
        yield _count("model_evictions", text, [(slot, slot.num_evictions) for slot in slots])


def _memory(loaded: Sequence["ModelSlot"]) -> Metric:
    text = "Memory that a loaded model counts for: weights, KV cache, and under a budget the buffers of a step."
    family = GaugeMetricFamily(PREFIX + "model_memory_bytes", text, labels=LABELS)
    for slot in loaded:
        family.add_metric((slot.reference.name,), slot.num_bytes)
    return family


def _loads(slots: Sequence["ModelSlot"]) -> Metric:
    family = SummaryMetricFamily(PREFIX + "model_load_seconds", "Time that loads took.", labels=LABELS)
    for slot in slots:
        family.add_metric((slot.reference.name,), slot.num_loads, slot.load_seconds)
    return family


def _count(stem: str, text: str, counts: Sequence[tuple["ModelSlot", int]]) -> Metric:
    family = CounterMetricFamily(PREFIX + stem, text, labels=LABELS)
    for slot, count in counts:
        family.add_metric((slot.reference.name,), count)
    return family
