"""The fake backend's tokenizer: one token a byte, and three special ones. Owns no state."""

BOS, EOS, IM_START = 256, 257, 258
SPECIAL_TOKENS = {BOS: "<|bos|>", EOS: "<|im_end|>", IM_START: "<|im_start|>"}
VOCAB_SIZE = 259


class FakeTokenizer:
    """One token a byte; special tokens by their names."""

    vocab_size = VOCAB_SIZE
    bos_token = SPECIAL_TOKENS[BOS]
    eos_token = SPECIAL_TOKENS[EOS]
    eos_token_ids = frozenset({EOS})

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        token_ids = [BOS] if add_special else []
        while parse_special and text:
            found = min(
                ((text.find(name), token_id) for token_id, name in SPECIAL_TOKENS.items() if name in text), default=None
            )
            if found is None:
                break
            start, token_id = found
            token_ids += [*text[:start].encode(), token_id]
            text = text[start + len(SPECIAL_TOKENS[token_id]) :]
        return [*token_ids, *text.encode()]

    def token_bytes(self, token_id: int) -> bytes:
        return bytes([token_id]) if token_id < BOS else SPECIAL_TOKENS[token_id].encode()

    def is_special(self, token_id: int) -> bool:
        return token_id >= BOS
