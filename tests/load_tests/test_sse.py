"""Reading raw responses: chunked framing, events, counts. Any split into packets gives the same events."""

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from load_tests.client import RawResponse
from load_tests.scenarios import PlannedRequest
from load_tests.sse import BadResponseError, body_frames, events, read_record

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: text/event-stream\r\n\r\n"
PLANNED = PlannedRequest((1, 2, 3), 2)


def event(text: str, *, usage: tuple[int, int] | None = None, cached: int = 0) -> bytes:
    body: dict[str, object] = {"choices": [{"text": text}], "usage": None}
    if usage is not None:
        body["usage"] = {
            "prompt_tokens": usage[0],
            "completion_tokens": usage[1],
            "prompt_tokens_details": {"cached_tokens": cached},
        }
    return b"data: " + json.dumps(body).encode() + b"\n\n"


def chunked(*payloads: bytes) -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(payload), payload) for payload in payloads) + b"0\r\n\r\n"


def response(raw: bytes, *cuts: int, status: int = 200) -> RawResponse:
    """The bytes cut into packets, of which the n-th arrived at second n."""
    edges = [0, *sorted({cut for cut in cuts if 0 < cut < len(raw)}), len(raw)]
    pieces = [raw[start:end] for start, end in pairwise(edges)]
    return RawResponse(0.0, status, [(float(second), piece) for second, piece in enumerate(pieces, 1)])


WHOLE = HEAD + chunked(event("a"), event("b"), event("", usage=(3, 2), cached=1), b"data: [DONE]\n\n")


@given(st.lists(st.integers(1, len(WHOLE) - 1), max_size=20))
def test_any_split_into_packets_gives_the_same_events_in_order_of_time(cuts: list[int]) -> None:
    split = response(WHOLE, *cuts)
    assert [data for _, data in events(split)] == [data for _, data in events(response(WHOLE))]
    times = [arrived for arrived, _ in events(split)]
    assert times == sorted(times)
    assert read_record(split, PLANNED).output_tokens == 2


def test_an_event_arrives_with_its_last_byte() -> None:
    end_of_first = WHOLE.index(b'"a"') + len(b'"a"}], "usage": null}\n\n')
    assert events(response(WHOLE, end_of_first))[0][0] == 1.0
    assert events(response(WHOLE, end_of_first - 1))[0][0] == 2.0


def test_a_record_has_the_times_of_chunks_with_text_and_the_counts_of_the_usage() -> None:
    second = WHOLE.index(b'"b"')
    record = read_record(response(WHOLE, second, len(WHOLE) - 3), PLANNED)
    assert record.text_times_s == (1.0, 2.0)
    assert record.ended_s == 3.0
    assert (record.prompt_tokens, record.output_tokens, record.cached_tokens) == (3, 2, 1)


def test_events_with_crlf_and_comments_are_read_too() -> None:
    raw = HEAD + chunked(b": ping\r\n\r\n", event("a").replace(b"\n", b"\r\n"))
    assert [json.loads(data)["choices"][0]["text"] for _, data in events(response(raw))] == ["a"]


def test_frames_are_the_servers_own_chunks() -> None:
    raw = HEAD + chunked(b"one", b"two and three")
    assert [payload for _, payload in body_frames(response(raw))] == [b"one", b"two and three"]


@pytest.mark.parametrize("usage", [(3, 1), (4, 2), (3, 3)])
def test_another_count_of_tokens_than_asked_for_is_an_error(usage: tuple[int, int]) -> None:
    raw = HEAD + chunked(event("a"), event("b", usage=usage))
    with pytest.raises(BadResponseError, match="asked for"):
        read_record(response(raw), PLANNED)


def test_an_error_status_an_error_event_and_a_missing_usage_are_errors() -> None:
    refused = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy"
    with pytest.raises(BadResponseError, match="status 503: b'busy'"):
        read_record(response(refused, status=503), PLANNED)
    with pytest.raises(BadResponseError, match="error event"):
        read_record(response(HEAD + chunked(event("a"), b'data: {"error": {}}\n\n')), PLANNED)
    with pytest.raises(BadResponseError, match="no usage"):
        read_record(response(HEAD + chunked(event("a"))), PLANNED)
