"""The model's own tokenizer, by llama.cpp's vocabulary functions, which are safe to call from several threads.

Owns only caches: a lost race between threads computes an entry twice, to the same value. The vocabulary belongs to the
model: nothing may be called after the model is freed.
"""

import ctypes
from functools import cached_property

from pagemill.backends.gguf.library import Library
from pagemill.errors import BackendError, InvalidRequestError
from pagemill.generation import InfillTokens

PIECE_BYTES = 64  # longer pieces are read again
ATTRIBUTES_WITHOUT_TEXT = 1 | 8  # LLAMA_TOKEN_ATTR_UNKNOWN | LLAMA_TOKEN_ATTR_CONTROL, as llama_token_to_piece has it


class GGUFTokenizer:
    """See `pagemill.backends.base.Tokenizer`."""

    def __init__(self, library: Library, vocab: int) -> None:
        self._c = library.c
        self._vocab_or_none: int | None = vocab  # llama_vocab *
        self._bytes_of: dict[int, bytes] = {}
        self._special: dict[int, bool] = {}

    @property
    def _vocab(self) -> int:
        if self._vocab_or_none is None:
            raise BackendError("the model is closed")
        return self._vocab_or_none

    @cached_property
    def vocab_size(self) -> int:
        return int(self._c.llama_vocab_n_tokens(self._vocab))

    @cached_property
    def bos_token(self) -> str:
        return self._name_of(self._c.llama_vocab_bos(self._vocab))

    @cached_property
    def eos_token(self) -> str:
        return self._name_of(self._c.llama_vocab_eos(self._vocab))

    @cached_property
    def eos_token_ids(self) -> frozenset[int]:
        is_eog, vocab = self._c.llama_vocab_is_eog, self._vocab
        return frozenset(token_id for token_id in range(self.vocab_size) if is_eog(vocab, token_id))

    @cached_property
    def infill_tokens(self) -> InfillTokens | None:
        """As the file's metadata has them, or llama.cpp's names for them; else by further names."""
        from pagemill.prompts.infill import find_infill_tokens

        c, vocab = self._c, self._vocab
        prefix, suffix, middle = (
            int(find(vocab)) for find in (c.llama_vocab_fim_pre, c.llama_vocab_fim_suf, c.llama_vocab_fim_mid)
        )
        declared = (prefix, suffix, middle) if min(prefix, suffix, middle) >= 0 else None
        return find_infill_tokens(self._special_token_id, self.eos_token_ids, declared)

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        data = _utf8(text)
        size = len(data) + 16  # no token is shorter than a byte; BOS, EOS and a space prefix come on top
        while True:
            ids = (ctypes.c_int32 * size)()
            count = self._c.llama_tokenize(self._vocab, data, len(data), ids, size, add_special, parse_special)
            if count >= 0:
                return ids[:count]
            if count == -(2**31):
                raise InvalidRequestError(f"a text of {len(data)} bytes is too long to tokenize", param="prompt")
            size = -count

    def token_bytes(self, token_id: int) -> bytes:
        known = self._bytes_of.get(token_id)
        if known is None:
            known = self._bytes_of[token_id] = self._read_piece(token_id)
        return known

    def is_special(self, token_id: int) -> bool:
        known = self._special.get(token_id)
        if known is None:
            self._check(token_id)
            attributes = self._c.llama_vocab_get_attr(self._vocab, token_id)
            known = self._special[token_id] = bool(attributes & ATTRIBUTES_WITHOUT_TEXT)
        return known

    def close(self) -> None:
        """Forget the vocabulary, before its model is freed. What is cached can still be asked for."""
        self._vocab_or_none = None

    def _read_piece(self, token_id: int) -> bytes:
        self._check(token_id)
        size = PIECE_BYTES
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._c.llama_token_to_piece(self._vocab, token_id, buffer, size, 0, True)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def _special_token_id(self, name: str) -> int | None:
        first, *others = self.encode(name, add_special=False, parse_special=True)
        return None if others or not self.is_special(first) else first

    def _check(self, token_id: int) -> None:
        """llama.cpp throws through C, which ends the process, on an id that is not in the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            raise InvalidRequestError(f"token id {token_id} is not in the vocabulary of {self.vocab_size}")

    def _name_of(self, token_id: int) -> str:
        """A file that names no such token leaves llama.cpp at GPT-2's default of 11, which is some ordinary text."""
        if token_id < 0 or not self.is_special(token_id):
            return ""
        return self.token_bytes(token_id).decode("utf-8", errors="replace")


def _utf8(text: str) -> bytes:
    """JSON can carry half a surrogate pair, which has no UTF-8: it becomes U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").encode()
