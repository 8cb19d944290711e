"""From the packets of a raw response to timed server-sent events, and to the record of a request. Runs after the clock
has stopped. Owns no state.
"""

import json
from bisect import bisect_left
from itertools import accumulate
from typing import Any

from load_tests.client import RawResponse
from load_tests.measures import RequestRecord
from load_tests.scenarios import PlannedRequest


class BadResponseError(Exception):
    """The server did not do what was asked: an error status, an error event, or a wrong count of tokens."""


def body_frames(response: RawResponse) -> list[tuple[float, bytes]]:
    """The chunks of the body, each with the time at which its last byte arrived; one frame if it is not chunked."""
    raw = b"".join(data for _, data in response.packets)
    head, _, body = raw.partition(b"\r\n\r\n")
    if b"transfer-encoding: chunked" not in head.lower():
        return [(response.ended_s, body)]
    ends = list(accumulate(len(data) for _, data in response.packets))
    frames: list[tuple[float, bytes]] = []
    position = len(head) + 4
    while True:
        line_end = raw.index(b"\r\n", position)
        size = int(raw[position:line_end].partition(b";")[0], 16)
        if size == 0:
            return frames
        start = line_end + 2
        arrived = response.packets[bisect_left(ends, start + size)][0]
        frames.append((arrived, raw[start : start + size]))
        position = start + size + 2


def events(response: RawResponse) -> list[tuple[float, bytes]]:
    """The data of each server-sent event, with its time of arrival."""
    found = []
    rest = b""
    for arrived, payload in body_frames(response):
        *complete, rest = (rest + payload).replace(b"\r\n", b"\n").split(b"\n\n")
        for block in complete:
            lines = [line[5:].lstrip() for line in block.split(b"\n") if line.startswith(b"data:")]
            if lines:
                found.append((arrived, b"\n".join(lines)))
    return found


def read_record(response: RawResponse, planned: PlannedRequest) -> RequestRecord:
    """What was measured of one request.

    Raises:
        BadResponseError: it failed, or gave not exactly the tokens asked for.
    """
    if response.status != 200:
        body = b"".join(data for _, data in body_frames(response))
        raise BadResponseError(f"status {response.status}: {body[:500]!r}")
    text_times: list[float] = []
    usage: dict[str, Any] | None = None
    for arrived, data in events(response):
        if data == b"[DONE]":
            break
        event = json.loads(data)
        if "error" in event:
            raise BadResponseError(f"error event: {data[:500]!r}")
        if any(choice["text"] for choice in event.get("choices", ())):
            text_times.append(arrived)
        usage = event.get("usage") or usage
    if usage is None or not text_times:
        raise BadResponseError(f"no usage or no text in {len(response.packets)} packets")
    _check_counts(usage, planned)
    details = usage.get("prompt_tokens_details") or {}
    return RequestRecord(
        started_s=response.started_s,
        text_times_s=tuple(text_times),
        ended_s=response.ended_s,
        prompt_tokens=usage["prompt_tokens"],
        output_tokens=usage["completion_tokens"],
        cached_tokens=details.get("cached_tokens") or 0,
    )


def _check_counts(usage: dict[str, Any], planned: PlannedRequest) -> None:
    asked = (len(planned.prompt_token_ids), planned.max_tokens)
    got = (usage["prompt_tokens"], usage["completion_tokens"])
    if asked != got:
        raise BadResponseError(f"asked for (prompt, output) tokens {asked}, usage says {got}")
