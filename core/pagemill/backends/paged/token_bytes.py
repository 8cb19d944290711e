"""The bytes that a vocabulary's entries stand for, as the decoder in tokenizer.json spells them. Owns no state.

Byte-level BPE writes each byte as one letter (GPT-2's table), SentencePiece a space as "▁" and a byte that no piece
covers as "<0x0A>", WordPiece "##" before what continues a word. Tokens are decoded one by one here, as they are
generated.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pagemill.errors import ModelLoadError

Step = Callable[[str], str | bytes]
BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


def make_token_decoder(decoder: Mapping[str, Any] | None) -> Callable[[str], bytes]:
    """From a token's text in the vocabulary to the UTF-8 bytes it stands for; `decoder` is that of tokenizer.json.

    What a decoder does to a whole text only, taking the space off its beginning, is left out: an output continues its
    prompt, so the space belongs to it.

    Raises:
        ModelLoadError: the decoder is missing, or of a kind that can't decode tokens one by one.
    """
    steps = _steps(_parts(decoder))

    def decode(token: str) -> bytes:
        text: str | bytes = token
        for step in steps:
            if isinstance(text, bytes):
                return text
            text = step(text)
        return text if isinstance(text, bytes) else text.encode()

    return decode


def byte_letters() -> dict[str, int]:
    """The byte that each letter of GPT-2's table stands for: printable Latin-1 itself, the others from U+0100 on."""
    printable = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + index): byte for index, byte in enumerate(others)}


def _parts(decoder: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if decoder is None:
        raise ModelLoadError("tokenizer.json has no decoder, so its tokens can't be turned into text")
    if decoder["type"] == "Sequence":
        return [part for inner in decoder["decoders"] for part in _parts(inner)]
    return [decoder]


def _steps(parts: Sequence[Mapping[str, Any]]) -> list[Step]:
    steps: list[Step] = []
    for index, part in enumerate(parts):
        if part["type"] == "Fuse":  # from here on the decoder works on the whole text
            _check_whole_text(parts[index + 1 :])
            break
        steps.append(_step(part))
    return steps


def _step(part: Mapping[str, Any]) -> Step:
    match part:
        case {"type": "ByteLevel"}:
            return _byte_level()
        case {"type": "ByteFallback"}:
            return _byte_fallback
        case {"type": "Metaspace", "replacement": str(mark)}:
            return lambda token: token.replace(mark, " ")
        case {"type": "WordPiece", "prefix": str(prefix)}:
            return lambda token: token.removeprefix(prefix) if token.startswith(prefix) else " " + token
        case {"type": "Replace", "pattern": {"String": str(pattern)}, "content": str(content)}:
            return lambda token: token.replace(pattern, content)
    raise ModelLoadError(f"the decoder {part} of tokenizer.json is not supported")


def _check_whole_text(parts: Sequence[Mapping[str, Any]]) -> None:
    for part in parts:
        if part["type"] != "Strip" or part["content"] != " " or part["stop"] != 0:
            raise ModelLoadError(f"the decoder {part} of tokenizer.json, after Fuse, is not supported")


def _byte_level() -> Step:
    letters = byte_letters()

    def decode(token: str) -> str | bytes:
        try:
            return bytes([letters[letter] for letter in token])
        except KeyError:
            return token  # spelled as it is, as in `tokenizers`

    return decode


def _byte_fallback(token: str) -> str | bytes:
    match = BYTE_TOKEN.fullmatch(token)
    return token if match is None else bytes([int(match[1], 16)])
