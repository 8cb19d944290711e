"""Copying, reversing, sorting and counting two to four words. The key is the word tuple under its operation."""

import random

from grist.dialogue import Task, Turn, casual, exchange
from grist.lexicon import CITIES, NAMES, WORDS

COPY_PHRASINGS = (
    "Repeat: {w}",
    "Repeat these words: {w}",
    "Say these words again: {w}",
    "Copy these words: {w}",
    "Copy: {w}",
    "Please repeat the words {w}",
    "Repeat after me: {w}",
    "Echo these words: {w}",
)
REVERSE_PHRASINGS = (
    "Reverse: {w}",
    "Reverse these words: {w}",
    "Reverse the order of these words: {w}",
    "Say these words backwards: {w}",
    "Please reverse the words {w}",
    "Write these words in reverse order: {w}",
    "Put these words in reverse order: {w}",
)
SORT_PHRASINGS = (
    "Sort: {w}",
    "Sort these words: {w}",
    "Sort these words alphabetically: {w}",
    "Put these words in alphabetical order: {w}",
    "Please sort the words {w}",
    "Sort these words from A to Z: {w}",
    "Alphabetize these words: {w}",
)
COUNT_PHRASINGS = (
    "Count: {w}",
    "Count these words: {w}",
    "How many words are there: {w}",
    "How many words are in this list: {w}",
    "Please count the words {w}",
    "How many words do you see: {w}",
    "Count the words: {w}",
)


def _draw_words(rng: random.Random) -> tuple[list[str], str]:
    """Two to four distinct words and how they are written down, by spaces or by commas."""
    words = rng.sample(WORDS, rng.choice((2, 3, 3, 4, 4)))
    return words, (", " if rng.random() < 0.4 else " ").join(words)


def _ask(rng: random.Random, phrasings: tuple[str, ...], listed: str) -> str:
    return casual(rng, rng.choice(phrasings).format(w=listed)) + ("." if rng.random() < 0.1 else "")


def _draw_copy(rng: random.Random) -> Turn:
    words, listed = _draw_words(rng)
    return exchange("copy", " ".join(words), _ask(rng, COPY_PHRASINGS, listed), " ".join(words))


def _draw_reverse(rng: random.Random) -> Turn:
    words, listed = _draw_words(rng)
    return exchange("reverse", " ".join(words), _ask(rng, REVERSE_PHRASINGS, listed), " ".join(reversed(words)))


def _draw_sort(rng: random.Random) -> Turn:
    words, listed = _draw_words(rng)
    return exchange("sort", " ".join(words), _ask(rng, SORT_PHRASINGS, listed), " ".join(sorted(words)))


def _draw_count(rng: random.Random) -> Turn:
    words, listed = _draw_words(rng)
    return exchange("count", " ".join(words), _ask(rng, COUNT_PHRASINGS, listed), f"There are {len(words)} words.")


TASKS = (
    Task("copy", 1.5, _draw_copy),
    Task("reverse", 2.5, _draw_reverse),
    Task("sort", 3.5, _draw_sort),
    Task("count", 1.5, _draw_count),
)


def _draw_drill(rng: random.Random) -> Turn:
    """Copy or reverse a long list of words and names: many looked-up tokens for few given ones."""
    items = rng.sample([*WORDS, *NAMES, *CITIES], rng.randint(5, 12))
    backwards = rng.random() < 0.4
    listed = (", " if rng.random() < 0.4 else " ").join(items)
    question = _ask(rng, REVERSE_PHRASINGS if backwards else COPY_PHRASINGS, listed)
    return exchange("drill", " ".join(items), question, " ".join(reversed(items) if backwards else items))


# Not a family of its own: a stage of the curriculum gives it a share, and it is never graded.
DRILL = Task("drill", 0.0, _draw_drill)
