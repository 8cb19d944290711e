"""Fill in the middle: which special tokens models have for it, and the prompt that asks for what is between two texts.

A prompt is made of token ids, so nothing that a client's text says is taken for a special token. May not import a
backend or HTTP; owns no state.

Sources: llama.cpp's src/llama-vocab.cpp for the names; mistral-common's `encode_fim`, CodeLlama's
`infilling_prompt_tokens` and llama.cpp's /infill for the order; the models' cards for what ends an answer.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from typing import NamedTuple, Protocol

from pagemill.errors import ContextLengthError
from pagemill.generation import InfillTokens

# Before the prefix, before the suffix, before the middle; the first that a vocabulary has counts. Two names: the suffix
# comes first, and the answer goes on from the prefix.
NOTATIONS: tuple[tuple[str, ...], ...] = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),  # Qwen from 2.5 on, CodeGemma
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),  # StarCoder, Granite
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),  # SantaCoder
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),  # DeepSeek
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),  # CodeLlama
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),  # GLM 4.5
    ("<|prefix|>", "<|suffix|>", "<|middle|>"),  # Falcon H1 Tiny Coder
    ("[PREFIX]", "[SUFFIX]"),  # Codestral
)
# What such models write where their text is at its end, or another file's begins.
END_NAMES = (
    *("<|fim_pad|>", "<fim_pad>", "<fim-pad>", "<|endoftext|>", "<EOT>", "▁<EOT>"),
    *("<|fim_repo|>", "<|repo_name|>", "<repo_name>", "<reponame>", "<fim-repo>", "<REPO>"),
    *("<|file_sep|>", "<file_sep>", "<|file_separator|>"),
)
NO_SPACE = "☺"  # a text after it has no space before it; nothing joins with it to one token

TokenIdOf = Callable[[str], int | None]  # of the special token of that name, None if there is none


class TextEncoder(Protocol):
    """What is needed of a `Tokenizer`."""

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]: ...

    def token_bytes(self, token_id: int) -> bytes: ...


class InfillPrompt(NamedTuple):
    """What a prompt is made of: `start` is what the model wants before any text."""

    tokens: InfillTokens
    start: tuple[int, ...]
    prefix: tuple[int, ...]
    suffix: tuple[int, ...]

    def token_ids(self, limit: int | None = None) -> tuple[int, ...]:
        """The prompt, of at most `limit` tokens: what is nearest to the gap stays, three parts of prefix and one of
        suffix (llama.cpp's shares), more of one if the other is shorter.

        Raises:
            ContextLengthError: the limit leaves no room for the special tokens.
        """
        prefix, suffix = self.prefix, self.suffix
        if limit is not None:
            room = limit - len(self._joined((), ()))
            if room < 0:
                message = f"a prompt with a suffix has at least {limit - room} tokens, but only {limit} are allowed"
                raise ContextLengthError(message, param="suffix")
            suffix = suffix[: max(room // 4, room - len(prefix))]
            prefix = prefix[max(0, len(prefix) - (room - len(suffix))) :]
        return self._joined(prefix, suffix)

    def _joined(self, prefix: tuple[int, ...], suffix: tuple[int, ...]) -> tuple[int, ...]:
        tokens = self.tokens
        if tokens.middle is None:
            return (*self.start, tokens.suffix, *suffix, tokens.prefix, *prefix)
        return (*self.start, tokens.prefix, *prefix, tokens.suffix, *suffix, tokens.middle)


def infill_prompt(
    tokenizer: TextEncoder, tokens: InfillTokens, prefix: str, suffix: str, *, add_special: bool
) -> InfillPrompt:
    """The prompt for the text between `prefix` and `suffix`. `add_special`: after a BOS token, if it has one."""
    start = tokenizer.encode("", add_special=add_special, parse_special=False)
    before = tokenizer.encode(prefix, add_special=False, parse_special=False)
    return InfillPrompt(tokens, tuple(start), tuple(before), tuple(_encode_suffix(tokenizer, suffix)))


def find_infill_tokens(
    token_id_of: TokenIdOf, eos_token_ids: AbstractSet[int], declared: tuple[int, int, int] | None = None
) -> InfillTokens | None:
    """The tokens that a model's file has `declared` (before the prefix, the suffix, the middle), else those of a known
    notation; None: the model has none.
    """
    markers: Sequence[int] = declared or _ids(_notation(token_id_of), token_id_of)
    if not markers:
        return None
    prefix, suffix, *middle = markers
    ends = dict.fromkeys((*markers, *_ids(END_NAMES, token_id_of)))
    further = tuple(token_id for token_id in ends if token_id not in eos_token_ids)
    return InfillTokens(prefix, suffix, middle[0] if middle else None, further)


def infill_names(token_id_of: TokenIdOf) -> list[str]:
    """The names of all tokens that `find_infill_tokens` finds in a vocabulary, special or not."""
    notation = _notation(token_id_of)
    return [name for name in (*notation, *END_NAMES) if token_id_of(name) is not None] if notation else []


def _notation(token_id_of: TokenIdOf) -> tuple[str, ...]:
    return next((names for names in NOTATIONS if len(_ids(names, token_id_of)) == len(names)), ())


def _ids(names: Sequence[str], token_id_of: TokenIdOf) -> list[int]:
    return [token_id for name in names if (token_id := token_id_of(name)) is not None]


def _encode_suffix(tokenizer: TextEncoder, suffix: str) -> list[int]:
    """Without the space that SentencePiece puts before a text: a suffix begins where the gap ends."""

    def encode(text: str) -> list[int]:
        return tokenizer.encode(text, add_special=False, parse_special=False)

    first, *_ = encode("a")
    if not tokenizer.token_bytes(first).startswith(b" "):
        return encode(suffix)
    before = encode(NO_SPACE)
    joined = encode(NO_SPACE + suffix)
    return joined[len(before) :]
