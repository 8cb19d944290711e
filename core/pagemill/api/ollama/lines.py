"""The JSON objects of generate and chat responses, each a line of NDJSON.

A `Lines` belongs to one request and holds the parts of its lines that never change, made once: of a token, only its
text is encoded. Owns nothing that changes but its clock.
"""

import json
from collections.abc import Mapping, Sequence
from json.encoder import encode_basestring  # what json.dumps(text, ensure_ascii=False) calls, without the way there
from typing import NamedTuple

from pagemill.api.answer_reader import WholeCall
from pagemill.api.ollama.timestamp import Clock
from pagemill.backends.base import Tokenizer
from pagemill.generation import TokenLogprobs

LEAST_LOGPROB = -9999.0  # JSON has no -Infinity


class Said(NamedTuple):
    """What a line adds to the answer."""

    content: str = ""
    thinking: str = ""
    calls: tuple[WholeCall, ...] = ()


class Lines:
    """Makes the lines of one response. `chat`: its text is in a message, not in `response`."""

    __slots__ = ("_after_text", "_before_text", "_before_time", "_clock")

    def __init__(self, model: str, *, chat: bool) -> None:
        self._clock = Clock()
        self._before_time = f'{{"model":{_dumps(model)},"created_at":"'
        self._before_text = '","message":{"role":"assistant","content":' if chat else '","response":'
        self._after_text = "}" if chat else ""

    def part(self, said: Said, logprobs: str = "") -> bytes:
        """A line that is not the last. `logprobs` is what `logprobs_json` made, if they are asked for."""
        return f'{self._start(said)}{_field("logprobs", logprobs)},"done":false}}\n'.encode()

    def last(self, said: Said, fields: Mapping[str, object], logprobs: str = "") -> bytes:
        """The last line, or the whole of a response that is not streamed: what is said, and how the request went."""
        rest = _dumps({"done": True, **fields})[1:]
        return f"{self._start(said)}{_field('logprobs', logprobs)},{rest}\n".encode()

    def _start(self, said: Said) -> str:
        text = encode_basestring(said.content)
        if said.thinking:
            text += f',"thinking":{encode_basestring(said.thinking)}'
        if said.calls:
            calls = [_call(call) for call in said.calls]
            text += (
                f',"tool_calls":{json.dumps(calls, separators=(",", ":"))}'  # ASCII: there may be half a surrogate pair
            )
        return f"{self._before_time}{self._clock.now()}{self._before_text}{text}{self._after_text}"


def _call(call: WholeCall) -> dict[str, object]:
    function = {"index": call.call_index, "name": call.name, "arguments": call.arguments_object()}
    return {"id": call.id, "function": function}


def error_line(body: Mapping[str, object]) -> bytes:
    """The last line of a response that failed on the way."""
    return f"{_dumps(body)}\n".encode()


def logprobs_json(logprobs: Sequence[TokenLogprobs], tokenizer: Tokenizer) -> str:
    """The value of `logprobs`: for each token its text, bytes and logprob, and the most likely tokens'."""
    entries = []
    for token in logprobs:
        entry = _entry(token.token_id, token.logprob, tokenizer)
        if token.top:
            entry["top_logprobs"] = [_entry(other.token_id, other.logprob, tokenizer) for other in token.top]
        entries.append(entry)
    return _dumps(entries)


def _entry(token_id: int, logprob: float, tokenizer: Tokenizer) -> dict[str, object]:
    data = tokenizer.token_bytes(token_id)
    text = data.decode("utf-8", errors="replace")
    return {"token": text, "logprob": max(logprob, LEAST_LOGPROB), "bytes": list(data)}


def _field(name: str, value: str) -> str:
    return f',"{name}":{value}' if value else ""


def _dumps(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
