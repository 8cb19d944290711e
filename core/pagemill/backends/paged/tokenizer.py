"""The tokenizer of a model folder, by the `tokenizers` library. Imports no transformers.

Safe from several threads, with the interpreter free while a text is encoded. Owns a cache of the tokens' bytes, where a
lost race computes an entry twice, to the same value.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from tokenizers import AddedToken, Tokenizer

from pagemill.backends.paged.text_only import TextOnly
from pagemill.backends.paged.token_bytes import make_token_decoder
from pagemill.backends.paged.tokenizer_files import (
    TOKENIZER,
    TokenizerConfig,
    eos_token_ids,
    read_chat_template,
    read_tokenizer_config,
    why_no_tokenizer,
)
from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.prompts.infill import find_infill_tokens, infill_names


class ModelFiles(Protocol):
    """What is needed of a `Checkpoint`: where it lies, and the contents of its two configurations."""

    @property
    def folder(self) -> Path: ...

    @property
    def config(self) -> Mapping[str, Any]: ...

    @property
    def generation_config(self) -> Mapping[str, Any]: ...


class PagedTokenizer:
    """See `pagemill.backends.base.Tokenizer`. What surrounds a text (`add_special`) is what tokenizer.json says, as in
    transformers since version 5: `add_bos_token` in tokenizer_config.json is for folders without it.

    The bytes of a SentencePiece token include the space before its word, for the first token of an output too: it
    continues the prompt. (transformers takes one space off the beginning of what it decodes, wherever that stood.)
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        config: TokenizerConfig,
        *,
        vocab_size: int,
        eos_token_ids: frozenset[int],
        chat_template: str | None,
    ) -> None:
        self.vocab_size = vocab_size
        self.bos_token = config.bos_token or ""
        self.eos_token = config.eos_token or ""
        self.eos_token_ids = eos_token_ids
        self.chat_template = chat_template  # Jinja source
        self._tokenizer = tokenizer
        self._added: dict[int, AddedToken] = tokenizer.get_added_tokens_decoder()
        special = [token for token in self._added.values() if token.special]
        self._special_texts = tuple(token.content for token in special)
        self._any_normalized = tokenizer.normalizer is not None and any(token.normalized for token in special)
        decoder = tokenizer.decoder
        self._decode = make_token_decoder(None if decoder is None else json.loads(decoder.__getstate__()))
        self._bytes_of: dict[int, bytes] = {}
        self._text_only = TextOnly(tokenizer)
        self.infill_tokens = find_infill_tokens(self._special_token_id, eos_token_ids)

    @classmethod
    def load(cls, model: ModelFiles, vocab_size: int) -> "PagedTokenizer":
        """`vocab_size` is the model's, which may be padded beyond the tokenizer's.

        Raises:
            ModelLoadError: a file is missing or damaged, or the tokenizer is of a kind that is not supported.
        """
        tokenizer = _read(model.folder)
        config = read_tokenizer_config(model.folder)
        _mark_special(tokenizer, [*config.special_tokens, *infill_names(tokenizer.token_to_id)])
        ends = set(eos_token_ids(model.config, model.generation_config))
        own_end = None if config.eos_token is None else tokenizer.token_to_id(config.eos_token)
        if own_end is not None:
            ends.add(own_end)
        inside = frozenset(token_id for token_id in ends if token_id < vocab_size)
        chat_template = read_chat_template(model.folder)
        try:
            return cls(tokenizer, config, vocab_size=vocab_size, eos_token_ids=inside, chat_template=chat_template)
        except ModelLoadError as error:
            raise ModelLoadError(f"can't load {model.folder}: {error}") from error

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        text = _without_lone_surrogates(text)
        if parse_special or not self._may_name_special(text):
            return _encode(self._tokenizer, text, add_special)
        return _encode(self._text_only.tokenizer_for(text), text, add_special)

    def encode_pair(self, first: str, second: str) -> list[int]:
        """Token ids of two texts as one, with all that the model wants around them and between."""
        ids: list[int] = self._tokenizer.encode(first, second).ids
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        known = self._bytes_of.get(token_id)
        if known is None:
            known = self._bytes_of[token_id] = self._find_bytes(token_id)
        return known

    def is_special(self, token_id: int) -> bool:
        self._check(token_id)
        added = self._added.get(token_id)
        return added.special if added is not None else self._tokenizer.id_to_token(token_id) is None

    def _special_token_id(self, name: str) -> int | None:
        token_id: int | None = self._tokenizer.token_to_id(name)
        is_token = token_id is not None and token_id < self.vocab_size and self.is_special(token_id)
        return token_id if is_token else None

    def _find_bytes(self, token_id: int) -> bytes:
        self._check(token_id)
        added = self._added.get(token_id)
        if added is not None:
            return str(added.content).encode()
        text = self._tokenizer.id_to_token(token_id)
        return b"" if text is None else self._decode(text)  # None: the model's vocabulary is padded

    def _check(self, token_id: int) -> None:
        if not 0 <= token_id < self.vocab_size:
            raise InvalidRequestError(f"token id {token_id} is not in the vocabulary of {self.vocab_size}")

    def _may_name_special(self, text: str) -> bool:
        return self._any_normalized or any(special in text for special in self._special_texts)


def _without_lone_surrogates(text: str) -> str:
    """Half a surrogate pair, which JSON can carry and UTF-8 can't, becomes U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _encode(tokenizer: Tokenizer, text: str, add_special: bool) -> list[int]:
    """`encode` would take a third longer, and let no other thread run meanwhile."""
    ids: list[int] = tokenizer.encode_batch_fast([text], add_special_tokens=add_special)[0].ids
    return ids


def _read(folder: Path) -> Tokenizer:
    path = folder / TOKENIZER
    if not path.is_file():
        raise ModelLoadError(why_no_tokenizer(folder))
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises Exception itself
        raise ModelLoadError(f"can't load the tokenizer {path}: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _mark_special(tokenizer: Tokenizer, texts: Sequence[str]) -> None:
    """Tokens that other files name as special are special, as in transformers, though tokenizer.json says otherwise;
    so are those for filling in the middle, as in llama.cpp.
    """
    is_special = {token.content: token.special for token in tokenizer.get_added_tokens_decoder().values()}
    known = [text for text in texts if tokenizer.token_to_id(text) is not None]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False) for text in known if not is_special.get(text)])
