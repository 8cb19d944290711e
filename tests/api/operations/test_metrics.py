"""The metrics, read back by Prometheus' own parser."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families

from pagemill.api.operations.metrics import HISTOGRAM_HELP, EngineCollector
from pagemill.engine.kv_cache import KVCacheStats
from pagemill.engine.statistics import HISTOGRAM_BOUNDS, EngineStatistics, EngineStats
from pagemill.generation import FinishReason, Timings, Usage
from support.api_server import RunningServer, Serve, wait_until

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples_of(text: str) -> Samples:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(samples: Samples, name: str, **labels: str) -> float:
    return samples[f"pagemill_{name}", tuple(sorted({"model_name": "fake", **labels}.items()))]


def scrape(server: RunningServer) -> Samples:
    return samples_of(server.get("/metrics").text)


def exposition(*snapshots: tuple[str, EngineStats]) -> Samples:
    registry = CollectorRegistry()
    registry.register(EngineCollector(lambda: snapshots))
    return samples_of(generate_latest(registry).decode())


def snapshot(statistics: EngineStatistics, *, used: int = 0) -> EngineStats:
    kv = KVCacheStats(
        total_tokens=200, free_tokens=200 - used, cached_tokens=0, used_tokens=used, unfilled_tokens=used // 4
    )
    return statistics.snapshot(num_running=2, num_waiting=3, num_preemptions=4, num_shifts=5, kv=kv)


def test_requests_are_counted_by_how_they_ended(serve: Serve) -> None:
    server = serve()
    body = {"model": "fake", "prompt": "abcde", "stream": False, "raw": True}
    server.post("/api/generate", body | {"options": {"temperature": 0}})
    server.post("/api/generate", body | {"options": {"num_predict": 3}})
    wait_until(lambda: read(scrape(server), "request_success_total", finished_reason="length") == 1)
    samples = scrape(server)
    assert read(samples, "request_success_total", finished_reason="stop") == 1
    assert read(samples, "request_success_total", finished_reason="abort") == 0
    assert read(samples, "request_success_total", finished_reason="error") == 0
    num_prompt = read(samples, "prompt_tokens_total")
    assert num_prompt in (10, 12)  # with a BOS token or without
    assert read(samples, "generation_tokens_total") == 45 + 3
    assert read(samples, "prefix_cache_queries_total") == num_prompt
    assert read(samples, "prefix_cache_hits_total") == read(samples, "prompt_tokens_cached_total")
    assert read(samples, "num_requests_running") == read(samples, "num_requests_waiting") == 0
    for stem in ("time_to_first_token_seconds", "e2e_request_latency_seconds", "request_queue_time_seconds"):
        assert read(samples, f"{stem}_count") == 2, stem
        assert read(samples, f"{stem}_sum") > 0, stem
    assert read(samples, "request_generation_tokens_sum") == 48
    assert read(samples, "inter_token_latency_seconds_count") == 46


def test_process_metrics_are_there_and_global_ones_are_not(server: RunningServer) -> None:
    samples = scrape(server)
    assert samples["process_resident_memory_bytes", ()] > 2**20
    assert not any(name.startswith("python_") for name, _labels in samples)


def test_a_scraper_that_asks_for_openmetrics_gets_it(server: RunningServer) -> None:
    answer = server.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert answer.headers["content-type"].startswith("application/openmetrics-text")
    families = {family.name for family in parse_openmetrics(answer.text)}  # type: ignore[no-untyped-call]
    assert {"pagemill_generation_tokens", "pagemill_request_success", "pagemill_kv_cache_usage_perc"} <= families


def test_before_a_model_is_loaded_there_are_families_without_samples(serve: Serve) -> None:
    server = serve(load_delay_s=60, wait_ready=False)
    found = scrape(server)
    assert found["pagemill_models_loaded", ()] == 0
    assert not any(name.startswith("pagemill_") and "model_" not in name for name, labels in found if labels)


def test_every_histogram_of_the_engine_has_a_family() -> None:
    assert set(HISTOGRAM_HELP) == set(HISTOGRAM_BOUNDS)


def test_gauges_say_what_the_snapshot_says() -> None:
    samples = exposition(("fake", snapshot(EngineStatistics(), used=50)))
    assert read(samples, "kv_cache_usage_perc") == 0.25
    assert read(samples, "kv_cache_waste_perc") == 12 / 50
    assert read(samples, "num_requests_running") == 2
    assert read(samples, "num_requests_waiting") == 3
    assert read(samples, "num_preemptions_total") == 4
    assert read(samples, "context_shifts_total") == 5


def test_histogram_buckets_are_cumulative_and_end_in_infinity() -> None:
    statistics = EngineStatistics()
    for value in (0.01, 0.02, 0.06, 1000.0):
        statistics.time_to_first_token.observe(value)
    samples = exposition(("fake", snapshot(statistics)))
    stem = "time_to_first_token_seconds"
    buckets = {
        dict(labels)["le"]: value for (name, labels), value in samples.items() if name == f"pagemill_{stem}_bucket"
    }
    assert [buckets[bound] for bound in ("0.01", "0.025", "0.05", "0.075", "80.0", "+Inf")] == [1, 2, 2, 3, 3, 4]
    assert len(buckets) == len(HISTOGRAM_BOUNDS[stem]) + 1
    assert read(samples, f"{stem}_count") == 4
    assert read(samples, f"{stem}_sum") == 1000.09


def test_each_loaded_model_has_its_own_series() -> None:
    statistics = EngineStatistics()
    statistics.ended(FinishReason.STOP, Usage(5, 7, 0), Timings(0.0, 1.0, 2.0))
    samples = exposition(("one", snapshot(statistics)), ("two", snapshot(EngineStatistics())))
    ended = [read(samples, "request_success_total", model_name=name, finished_reason="stop") for name in ("one", "two")]
    assert ended == [1, 0]
