"""Logprobs on the wire: chat's list of token objects, completions' parallel lists, and vLLM's `prompt_logprobs`.

A `TextLogprobs` owns the position in one choice's text. Logprobs below -9999 are shown as that: JSON has no -infinity.
"""

import codecs
from collections.abc import Sequence
from typing import Any

from pagemill.backends.base import Tokenizer
from pagemill.generation import TokenLogprob, TokenLogprobs

LOWEST = -9999.0


def chat_logprobs(tokenizer: Tokenizer, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
    """The `logprobs` object of a chat choice or chunk."""
    content = [
        {
            **_token(tokenizer, entry.token_id, entry.logprob),
            "top_logprobs": [_token(tokenizer, *alternative) for alternative in entry.top],
        }
        for entry in entries
    ]
    return {"content": content, "refusal": None}


def _token(tokenizer: Tokenizer, token_id: int, logprob: float) -> dict[str, Any]:
    data = tokenizer.token_bytes(token_id)
    return {"token": data.decode(errors="replace"), "logprob": max(logprob, LOWEST), "bytes": list(data)}


def prompt_logprobs(
    tokenizer: Tokenizer, entries: Sequence[TokenLogprobs | None], count: int
) -> list[dict[str, Any] | None]:
    """vLLM's `prompt_logprobs`: for each prompt token, by id, itself and the `count` likeliest. `rank` is null for a
    prompt token that is none of those.
    """
    return [None if entry is None else _ranked(tokenizer, entry, count) for entry in entries]


def _ranked(tokenizer: Tokenizer, entry: TokenLogprobs, count: int) -> dict[str, Any]:
    ranks = {alternative.token_id: rank for rank, alternative in enumerate(entry.top, start=1)}
    shown = {alternative.token_id: alternative.logprob for alternative in entry.top[:count]}
    shown.setdefault(entry.token_id, entry.logprob)
    return {
        str(token_id): {
            "logprob": max(logprob, LOWEST),
            "rank": ranks.get(token_id),
            "decoded_token": tokenizer.token_bytes(token_id).decode(errors="replace"),
        }
        for token_id, logprob in shown.items()
    }


class TextLogprobs:
    """The `logprobs` objects of one completions choice, piece by piece. `text_offset` counts characters.

    Tokens that are no whole characters are named "bytes:\\xf0\\x9f", as OpenAI does, so that they stay distinct.
    """

    def __init__(self, tokenizer: Tokenizer, *, count: int, skip_special_tokens: bool) -> None:
        self._tokenizer = tokenizer
        self._count = count
        self._skip_special_tokens = skip_special_tokens
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._offset = 0

    def of_prompt(self, text: str, token_ids: Sequence[int], entries: Sequence[TokenLogprobs | None]) -> dict[str, Any]:
        """Of the echoed prompt. A special token that is not in its text (BOS) takes no room there."""
        offsets = []
        for token_id in token_ids:
            offsets.append(self._offset)
            data = self._tokenizer.token_bytes(token_id)
            if not self._tokenizer.is_special(token_id) or text.startswith(data.decode(), self._offset):
                self._offset += len(self._decoder.decode(data))
        return self._lists(token_ids, entries, offsets)

    def of_output(self, entries: Sequence[TokenLogprobs]) -> dict[str, Any]:
        """Of generated tokens."""
        offsets = []
        for entry in entries:
            offsets.append(self._offset)
            if not (self._skip_special_tokens and self._tokenizer.is_special(entry.token_id)):
                self._offset += len(self._decoder.decode(self._tokenizer.token_bytes(entry.token_id)))
        return self._lists([entry.token_id for entry in entries], entries, offsets)

    def _lists(
        self, token_ids: Sequence[int], entries: Sequence[TokenLogprobs | None], offsets: list[int]
    ) -> dict[str, Any]:
        return {
            "text_offset": offsets,
            "token_logprobs": [None if entry is None else max(entry.logprob, LOWEST) for entry in entries],
            "tokens": [self._name(token_id) for token_id in token_ids],
            "top_logprobs": [None if entry is None else self._top(entry) for entry in entries],
        }

    def _top(self, entry: TokenLogprobs) -> dict[str, float]:
        found: dict[str, float] = {}
        for token_id, logprob in (*entry.top[: self._count], TokenLogprob(entry.token_id, entry.logprob)):
            found.setdefault(self._name(token_id), max(logprob, LOWEST))
        return found

    def _name(self, token_id: int) -> str:
        data = self._tokenizer.token_bytes(token_id)
        try:
            return data.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def joined(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several pieces of completions logprobs as one."""
    names = ("text_offset", "token_logprobs", "tokens", "top_logprobs")
    return {name: [item for part in parts for item in part[name]] for name in names}
