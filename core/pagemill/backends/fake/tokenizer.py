"""The fake backend's tokenizer: one token a byte, and three special ones, or six. Owns no state."""

from pagemill.generation import InfillTokens
from pagemill.prompts.infill import find_infill_tokens

BOS, EOS, IM_START = 256, 257, 258
SPECIAL_TOKENS = {BOS: "<|bos|>", EOS: "<|im_end|>", IM_START: "<|im_start|>"}
INFILL_TOKENS = {0xF8: "<|fim_prefix|>", 0xF9: "<|fim_suffix|>", 0xFA: "<|fim_middle|>"}  # no UTF-8 has these bytes
VOCAB_SIZE = 259


class FakeTokenizer:
    """One token a byte; special tokens by their names. `infill`: with those for filling in the middle."""

    vocab_size = VOCAB_SIZE
    bos_token = SPECIAL_TOKENS[BOS]
    eos_token = SPECIAL_TOKENS[EOS]
    eos_token_ids = frozenset({EOS})

    def __init__(self, *, infill: bool = False) -> None:
        self._names = {**SPECIAL_TOKENS, **(INFILL_TOKENS if infill else {})}

    @property
    def infill_tokens(self) -> InfillTokens | None:
        ids = {name: token_id for token_id, name in self._names.items()}
        return find_infill_tokens(ids.get, self.eos_token_ids)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        token_ids = [BOS] if add_special else []
        while parse_special and text:
            found = min(
                ((text.find(name), token_id) for token_id, name in self._names.items() if name in text), default=None
            )
            if found is None:
                break
            start, token_id = found
            token_ids += [*text[:start].encode(), token_id]
            text = text[start + len(self._names[token_id]) :]
        return [*token_ids, *text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return self._names[token_id].encode() if token_id in self._names else bytes([token_id])

    def is_special(self, token_id: int) -> bool:
        return token_id in self._names
