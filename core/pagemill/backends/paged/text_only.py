"""Encoding a text that spells out a special token and means it as text: no special token may come of it.

Owns up to two more forms of a model's tokenizer, each made when it is first needed, under a lock. The one that is
nearly always enough shares the vocabulary of the first.
"""

import json
import secrets
from threading import Lock

from tokenizers import Tokenizer


class TextOnly:
    """The other forms of one tokenizer, which must not change any more. Safe from several threads."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._added_tokens = sorted(tokenizer.get_added_tokens_decoder().items())
        self._special_ids = frozenset(token_id for token_id, token in self._added_tokens if token.special)
        self._not_cutting: Tokenizer | None = None
        self._renamed: Tokenizer | None = None
        self._lock = Lock()

    def tokenizer_for(self, text: str) -> Tokenizer:
        """A tokenizer that gives no special token for this text."""
        with self._lock:
            self._not_cutting = self._not_cutting or self._make_not_cutting()
        (encoding,) = self._not_cutting.encode_batch_fast([text], add_special_tokens=False)
        if self._special_ids.isdisjoint(encoding.ids):
            return self._not_cutting
        with self._lock:
            self._renamed = self._renamed or _make_renamed(self._tokenizer)
        return self._renamed

    def _make_not_cutting(self) -> Tokenizer:
        """One that does not cut a text at special tokens. Where these are entries of the vocabulary too, the model may
        still find them there.
        """
        first = self._tokenizer
        tokenizer = Tokenizer(first.model)
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            if (value := getattr(first, part)) is not None:
                setattr(tokenizer, part, value)
        for _, token in self._added_tokens:  # in the order of their ids, so that they get the same
            (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
        tokenizer.encode_special_tokens = True
        return tokenizer


def _make_renamed(tokenizer: Tokenizer) -> Tokenizer:
    """One whose special tokens have names that nobody can guess. Takes seconds if the vocabulary is large."""
    content = json.loads(tokenizer.to_str())
    mark = secrets.token_hex(16)
    renamed = {token["content"]: mark + token["content"] for token in content["added_tokens"] if token["special"]}
    for token in content["added_tokens"]:
        token["content"] = renamed.get(token["content"], token["content"])
    model = content["model"]
    if "unk_token" in model:
        model["unk_token"] = renamed.get(model["unk_token"], model["unk_token"])
    vocab = model["vocab"]
    if isinstance(vocab, list):
        model["vocab"] = [[renamed.get(piece, piece), score] for piece, score in vocab]
    else:
        model["vocab"] = {renamed.get(piece, piece): token_id for piece, token_id in vocab.items()}
    if "merges" in model:
        pairs = (merge.split(" ", 1) if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [pair for pair in pairs if renamed.keys().isdisjoint((*pair, "".join(pair)))]
    changed = Tokenizer.from_str(json.dumps(content))
    changed.encode_special_tokens = True
    return changed
