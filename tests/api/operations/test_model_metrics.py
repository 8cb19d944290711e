"""What `/metrics` tells of the models themselves, by a pool that has loaded, evicted and failed to load some."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from pagemill.api.operations.model_metrics import ModelCollector
from pagemill.errors import ModelLoadError
from pagemill.pool import ModelPool
from pagemill.store.catalog import Catalog
from support.hand_driven_loader import FOREVER, Loader, reference
from support.model_memory import Memory


async def test_loads_evictions_and_failures_are_counted_by_model() -> None:
    loader = Loader()
    catalog = Catalog([reference(name) for name in ("a", "b", "c")])
    pool = ModelPool(catalog, loader, keep_alive_s=FOREVER, memory=Memory(loader))
    for name in ("a", "b", "c", "a"):
        async with pool.lease(name):
            pass
    await pool.unload("a")
    loader.error = ModelLoadError("broken")
    try:
        async with pool.lease("b"):
            pass
    except ModelLoadError:
        pass
    registry = CollectorRegistry()
    registry.register(ModelCollector(pool))
    samples = {
        (sample.name, sample.labels.get("model_name")): sample.value
        for family in text_string_to_metric_families(generate_latest(registry).decode())
        for sample in family.samples
    }
    await pool.close()
    assert samples["pagemill_models_loaded", None] == 1
    assert samples["pagemill_memory_budget_bytes", None] == 25
    assert ("pagemill_model_memory_bytes", "c") in samples
    assert ("pagemill_model_memory_bytes", "a") not in samples
    loads = {name: samples["pagemill_model_load_seconds_count", name] for name in "abc"}
    assert loads == {"a": 2, "b": 1, "c": 1}
    assert {name: samples["pagemill_model_evictions_total", name] for name in "abc"} == {"a": 1, "b": 1, "c": 0}
    assert {name: samples["pagemill_model_load_failures_total", name] for name in "abc"} == {"a": 0, "b": 1, "c": 0}
