"""The statistics, against numpy and figures worked out by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_tests.measures import RequestRecord, distribution, percentile, spread, summarize


def record(
    start: float, text_times: tuple[float, ...], output_tokens: int, *, end: float | None = None
) -> RequestRecord:
    ended = text_times[-1] if end is None else end
    return RequestRecord(start, text_times, ended, prompt_tokens=10, output_tokens=output_tokens, cached_tokens=4)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50),
    st.floats(0, 100),
)
def test_percentiles_are_numpys(values: list[float], percent: float) -> None:
    assert percentile(values, percent) == pytest.approx(float(np.percentile(values, percent)), rel=1e-9, abs=1e-6)


@pytest.mark.parametrize("percent", [-0.1, 100.1])
def test_a_percentile_beyond_its_range_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percent must be in"):
        percentile([1.0], percent)


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile([], 50)


def test_a_distribution_has_mean_and_percentiles() -> None:
    values = [float(value) for value in range(101)]
    assert (distribution(values).mean, distribution(values).p50, distribution(values).p90) == (50, 50, 90)
    assert distribution(values).p99 == 99


def test_a_spread_is_the_median_between_the_extremes() -> None:
    assert spread([3.0, 1.0, 2.0, 10.0]) == spread([10.0, 3.0, 2.0, 1.0])
    assert (spread([3.0, 1.0, 8.0]).median, spread([3.0, 1.0, 8.0]).low, spread([3.0, 1.0, 8.0]).high) == (3, 1, 8)


def test_latencies_of_a_request_are_vllms() -> None:
    one = record(100.0, (100.5, 100.7, 101.3), output_tokens=5)
    assert one.ttft_s == pytest.approx(0.5)
    assert one.e2el_s == pytest.approx(1.3)
    assert one.tpot_s == pytest.approx((1.3 - 0.5) / 4)  # by tokens, not by chunks
    assert one.itl_s == pytest.approx((0.2, 0.6))


def test_a_single_token_has_no_time_per_output_token() -> None:
    one = record(0.0, (0.4,), output_tokens=1)
    assert one.tpot_s is None
    assert summarize([one]).tpot_s is None
    assert summarize([one]).itl_s is None


def test_rates_are_over_the_time_from_the_first_start_to_the_last_end() -> None:
    summary = summarize([record(10.0, (11.0, 12.0), 20, end=12.5), record(11.0, (11.5, 14.0), 30, end=15.0)])
    assert summary.duration_s == pytest.approx(5.0)
    assert summary.output_tokens_per_s == pytest.approx(50 / 5)
    assert summary.total_tokens_per_s == pytest.approx(70 / 5)
    assert summary.requests_per_s == pytest.approx(2 / 5)
    assert (summary.num_requests, summary.prompt_tokens, summary.cached_tokens) == (2, 20, 8)
    assert summary.ttft_s.p50 == pytest.approx((1.0 + 0.5) / 2)
