"""The nouns of the training data: messages, turns, conversations, and the split each turn belongs to.

Owns no state. The split is a stable hash of a turn's content key, so a held-out item is held out in every phrasing,
every conversation and every run, whatever the seed.
"""

import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Message = dict[str, Any]
Tool = dict[str, Any]
Split = Literal["train", "dev", "test"]

TEST_PER_MILLE = 40
DEV_PER_MILLE = 30


@dataclass(frozen=True, slots=True)
class Turn:
    """One exchange: what the user says, what the tools return, and what the assistant answers.

    `key` is the normalised content that decides the split; wording that must not leak is part of it, casing and
    punctuation are not. The last message is the assistant's.
    """

    task: str
    key: str
    messages: tuple[Message, ...]

    @property
    def split(self) -> Split:
        """The split this turn belongs to, from its content alone."""
        return split_of(self.task, self.key)


@dataclass(frozen=True, slots=True)
class Conversation:
    """A system prompt, the tools on offer, and the turns in order."""

    system: str | None
    tools: tuple[Tool, ...]
    turns: tuple[Turn, ...]

    @property
    def messages(self) -> list[Message]:
        """All messages as a chat API would send them, the system prompt first where there is one."""
        head: list[Message] = [] if self.system is None else [{"role": "system", "content": self.system}]
        return head + [message for turn in self.turns for message in turn.messages]


@dataclass(frozen=True, slots=True)
class Task:
    """A named source of turns. `weight` is its share of the turns in the training mixture."""

    name: str
    weight: float
    draw: Callable[[random.Random], Turn]


def split_of(task: str, key: str) -> Split:
    """Map a content key to its split; stable across runs and machines."""
    digest = hashlib.sha256(f"{task}|{key.lower()}".encode()).digest()
    bucket = int.from_bytes(digest[:4], "big") % 1000
    if bucket < TEST_PER_MILLE:
        return "test"
    if bucket < TEST_PER_MILLE + DEV_PER_MILLE:
        return "dev"
    return "train"


def exchange(task: str, key: str, question: str, answer: str) -> Turn:
    """Build the plain turn: one user message, one assistant message."""
    return Turn(task, key, ({"role": "user", "content": question}, {"role": "assistant", "content": answer}))


def casual(rng: random.Random, text: str, *, lower: bool = False) -> str:
    """Vary a question as people type it: no final mark, a small first letter, or (with `lower`) all small letters."""
    if rng.random() < 0.2 and text[-1] in "?.!":
        text = text[:-1]
    if lower and rng.random() < 0.15:
        return text.lower()
    if rng.random() < 0.15:
        text = text[0].lower() + text[1:]
    return text
