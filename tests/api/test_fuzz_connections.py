"""Whatever comes over a socket: broken framing, halves of requests, several at once, or one very slowly. What can be
answered is, nothing is left, and others are served meanwhile.
"""

import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pagemill.backends.fake import FakeBackend
from support.api_server import RunningServer, assert_idle, running_server

pytestmark = [
    pytest.mark.slow,
    # The server, on a thread of this process, draws request ids while Hypothesis draws examples.
    pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies"),
]

PATIENCE_S = 5.0
BODY = b'{"prompt": "hello", "max_tokens": 3, "stream": true}'
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
KEPT = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"


def sized(body: bytes, length: object, head: bytes = HEAD) -> bytes:
    return head + f"Content-Length: {length}\r\n\r\n".encode() + body


def chunked(*chunks: bytes, end: bytes = b"0\r\n\r\n") -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)
    return HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + parts + end


@pytest.fixture(scope="module")
def server() -> Iterator[RunningServer]:
    with running_server(FakeBackend(max_model_len=128, max_num_seqs=8), max_body_bytes=4096) as running:
        yield running


def exchanged(server: RunningServer, *pieces: bytes, pause_s: float = 0.0, half_closes: bool = False) -> bytes:
    """What the server says to these bytes, until it ends the connection. The client may end its half before."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE_S) as connection:
        answer = b""
        try:
            for piece in pieces:
                connection.sendall(piece)
                time.sleep(pause_s)
            if half_closes:
                connection.shutdown(socket.SHUT_WR)
            while data := connection.recv(65536):
                answer += data
        except TimeoutError:
            pytest.fail(f"no end of the answer to {pieces}: {answer!r}")
        except OSError:  # it does not want to hear the rest
            pass
        return answer


def statuses(answer: bytes) -> list[int]:
    """Of the answers in these bytes."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", answer)]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (sized(BODY, len(BODY)), [200]),
        (chunked(BODY), [200]),
        (chunked(*(BODY[index : index + 1] for index in range(len(BODY)))), [200]),
        (sized(BODY, 10), [400]),
        (sized(BODY, 0), [400]),
        (sized(BODY, -1), [400]),
        (sized(BODY, "ten"), [400]),
        (sized(BODY, 5000), [413]),
        (sized(BODY, 10**30), [400]),
        (chunked(BODY, end=b"zz\r\n\r\n"), [400]),
        (chunked(b" " * 3000, b" " * 3000), [413]),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", [400]),
        (b"GET\r\n\r\n", [400]),
        (b"GET /v1/models\xff HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
        (sized(BODY, len(BODY), KEPT) + sized(BODY, len(BODY), KEPT) + sized(BODY, len(BODY)), [200, 200, 200]),
        (sized(b"{", 1, KEPT) + sized(BODY, len(BODY)), [400, 200]),
    ],
)
def test_framing_is_answered_by_what_it_is(server: RunningServer, sent: bytes, expected: list[int]) -> None:
    assert statuses(exchanged(server, sent)) == expected
    assert_idle(server)


@pytest.mark.parametrize("sent", [sized(BODY[:-5], len(BODY)), chunked(BODY[:-5], end=b""), HEAD, b"POST"])
def test_a_request_that_ends_before_its_end_is_given_up(server: RunningServer, sent: bytes) -> None:
    assert all(status < 500 for status in statuses(exchanged(server, sent, half_closes=True)))
    assert_idle(server)


def test_a_client_that_has_said_all_may_close_its_half_or_go(server: RunningServer) -> None:
    answer = exchanged(server, sized(BODY, len(BODY)), half_closes=True)
    assert statuses(answer) in ([200], [])  # for a server that is the same as a client that went away
    assert_idle(server)


def test_headers_without_end_are_cut_off(server: RunningServer) -> None:
    answer = exchanged(server, HEAD + b"x: " + b"y" * 200_000, half_closes=True)
    assert statuses(answer) in ([400], [431], [])
    assert_idle(server)


def test_slow_clients_keep_nobody_else_waiting(server: RunningServer) -> None:
    request = sized(BODY, len(BODY))
    with ExitStack() as stack:
        slow = [stack.enter_context(socket.create_connection(("127.0.0.1", server.port))) for _ in range(50)]
        for position in range(0, len(request) - 1, 8):
            for connection in slow:
                connection.sendall(request[position : min(position + 8, len(request) - 1)])
            if position % 64 == 0:
                started = time.monotonic()
                assert server.post("/v1/completions", {"prompt": "x", "max_tokens": 1}).status_code == 200
                assert time.monotonic() - started < PATIENCE_S
        for connection in slow[::2]:  # half of them come to their end, the others never do
            connection.sendall(request[-1:])
            connection.settimeout(PATIENCE_S)
            assert connection.recv(12) == b"HTTP/1.1 200"
    assert_idle(server)


PARTS = (
    *(HEAD, KEPT, BODY, b"\r\n", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\n", b"{", b"\x00", b"Expect: 100-continue\r\n"),
    *(b"Content-Length: 52\r\n\r\n", b"Content-Length: 1\r\n", b"Transfer-Encoding: chunked\r\n\r\n"),
    *(sized(BODY, len(BODY)), sized(BODY, len(BODY), KEPT), chunked(BODY), b"Upgrade: websocket\r\n"),
)
PIECES = st.one_of(
    st.sampled_from(PARTS),
    st.binary(max_size=30),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.lists(PIECES, min_size=1, max_size=5), st.booleans())
def test_any_pieces_of_requests_end_in_answers_or_in_silence(
    server: RunningServer, pieces: list[bytes], pauses: bool
) -> None:
    answer = exchanged(server, *pieces, pause_s=0.002 if pauses else 0.0, half_closes=True)
    assert all(status < 500 for status in statuses(answer)), answer
    assert_idle(server)
