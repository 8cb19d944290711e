"""How much one client may ask: the counts by themselves, and a server that holds to them."""

from collections.abc import Iterator

import openai
import pytest

from pagemill.api.request_limits import RequestLimits
from pagemill.backends.fake import FakeBackend
from pagemill.errors import RateLimitError
from support.api_server import RunningServer, Serve, running_server, wait_until

KEYS = ("sk-ann", "sk-bob")


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_a_minutes_requests_may_come_at_once_and_then_one_by_one(clock: Clock) -> None:
    limits = RequestLimits(6, 0, clock=clock)
    remaining = []
    for _ in range(6):
        allowance = limits.enter("ann")
        assert allowance is not None
        remaining.append(allowance.remaining)
    assert remaining == [5, 4, 3, 2, 1, 0]
    with pytest.raises(RateLimitError, match="6 requests a minute") as caught:
        limits.enter("ann")
    assert caught.value.retry_after_s == 10
    clock.now += 9.9
    with pytest.raises(RateLimitError) as caught:
        limits.enter("ann")
    assert caught.value.retry_after_s == 1
    clock.now += 0.2
    assert limits.enter("ann") is not None
    with pytest.raises(RateLimitError):
        limits.enter("ann")


def test_who_waits_as_long_as_told_gets_in(clock: Clock) -> None:
    limits = RequestLimits(7, 0, clock=clock)
    for _ in range(50):
        try:
            limits.enter("ann")
        except RateLimitError as error:
            clock.now += error.retry_after_s
            limits.enter("ann")


def test_a_bucket_never_holds_more_than_a_minutes_requests(clock: Clock) -> None:
    limits = RequestLimits(3, 0, clock=clock)
    limits.enter("ann")
    clock.now += 3600
    for _ in range(3):
        limits.enter("ann")
    with pytest.raises(RateLimitError):
        limits.enter("ann")


def test_clients_have_limits_of_their_own(clock: Clock) -> None:
    limits = RequestLimits(1, 0, clock=clock)
    limits.enter("ann")
    limits.enter("bob")
    with pytest.raises(RateLimitError):
        limits.enter("ann")


def test_a_request_that_ends_makes_room_for_another(clock: Clock) -> None:
    limits = RequestLimits(0, 2, clock=clock, retry_after_s=3)
    assert limits.enter("ann") is None
    limits.enter("ann")
    with pytest.raises(RateLimitError, match="2 requests of yours are running") as caught:
        limits.enter("ann")
    assert caught.value.retry_after_s == 3
    limits.leave("ann")
    limits.enter("ann")
    assert limits.num_refused == {"rate": 0, "concurrency": 1}


def test_a_request_refused_for_concurrency_takes_nothing_of_the_rate(clock: Clock) -> None:
    limits = RequestLimits(2, 1, clock=clock)
    limits.enter("ann")
    with pytest.raises(RateLimitError, match="concurrent"):
        limits.enter("ann")
    limits.leave("ann")
    limits.enter("ann")


def test_memory_of_clients_is_bounded_and_keeps_those_with_requests(clock: Clock) -> None:
    limits = RequestLimits(1, 1, clock=clock, max_clients=3)
    limits.enter("busy")
    for index in range(100):
        limits.enter(f"client {index}")
        limits.leave(f"client {index}")
    assert len(limits._clients) == 3
    with pytest.raises(RateLimitError, match="running"):
        limits.enter("busy")
    limits.leave("busy")


@pytest.fixture
def limited() -> Iterator[RunningServer]:
    """A server whose clients may ask thrice a minute."""
    with running_server(api_key=KEYS, max_requests_per_minute=3) as server:
        yield server


def headers(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


def test_a_client_past_its_rate_gets_a_429_with_the_time_to_wait(limited: RunningServer) -> None:
    remaining = []
    for _ in range(3):
        response = limited.get("/v1/models", headers=headers(KEYS[0]))
        assert response.status_code == 200
        assert response.headers["x-ratelimit-limit-requests"] == "3"
        assert response.headers["x-ratelimit-reset-requests"].endswith("s")
        remaining.append(response.headers["x-ratelimit-remaining-requests"])
    assert remaining == ["2", "1", "0"]
    response = limited.get("/v1/models", headers=headers(KEYS[0]))
    assert response.status_code == 429
    assert 1 <= int(response.headers["retry-after"]) <= 20
    assert response.json()["error"]["code"] == "rate_limit_exceeded"
    assert set(limited.get("/api/tags", headers=headers(KEYS[0])).json()) == {"error"}
    assert limited.get("/v1/models", headers=headers(KEYS[1])).status_code == 200


def test_probes_and_metrics_are_never_limited_and_tell_of_refusals(limited: RunningServer) -> None:
    for _ in range(5):
        limited.get("/v1/models", headers=headers(KEYS[0]))
    for _ in range(5):
        assert limited.get("/readyz").status_code == 200
        text = limited.get("/metrics", headers=headers(KEYS[0])).text
    assert 'pagemill_requests_refused_total{reason="rate"} 2.0' in text
    assert 'pagemill_requests_refused_total{reason="concurrency"} 0.0' in text


def test_a_wrong_key_takes_nothing_from_anyone(limited: RunningServer) -> None:
    for _ in range(5):
        assert limited.get("/v1/models", headers=headers("sk-wrong")).status_code == 401
    assert limited.get("/v1/models", headers=headers(KEYS[0])).headers["x-ratelimit-remaining-requests"] == "2"


def test_a_server_without_keys_limits_addresses(serve: Serve) -> None:
    server = serve(max_requests_per_minute=1)
    assert server.get("/v1/models").status_code == 200
    assert server.get("/v1/models").status_code == 429


def test_a_stream_counts_until_it_ends_or_its_client_is_gone(serve: Serve) -> None:
    server = serve(FakeBackend(reply=lambda prompt: [120] * 4000, step_delay_s=0.005), max_concurrent_requests=1)
    client = server.client()
    with client.completions.create(model="fake", prompt="x", max_tokens=3000, stream=True) as stream:
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as caught:
            client.completions.create(model="fake", prompt="x", max_tokens=1)
        assert caught.value.response.headers["retry-after"] == "1"
    wait_until(lambda: server.get("/v1/models").status_code == 200)


def test_without_the_settings_there_are_no_limits_and_no_headers(server: RunningServer) -> None:
    response = server.get("/v1/models")
    assert not any(name.startswith("x-ratelimit") for name in response.headers)
    assert "requests_refused" not in server.get("/metrics").text
