"""Measures a model in training: exact answers per task on the dev split, by teacher forcing.

Greedy decoding reproduces an answer exactly when every position of it is the arg-max given the true prefix, so one
forward pass a conversation is enough.
"""

import random
from collections import defaultdict

import torch
from tokenizers import Tokenizer

from grist.conversations import TASKS, draw_system, draw_turn
from grist.dialogue import Conversation, Split
from grist.model import Llama
from grist.packing import IGNORED, Encoded, encode, to_rows
from grist.rendering import render
from grist.tasks import tool_use

ROWS_PER_PASS = 32


def dev_conversations(num_per_task: int, split: Split = "dev") -> list[Conversation]:
    """Single-turn conversations from `split`, the same at every call."""
    rng = random.Random("probe")
    conversations = [
        Conversation(draw_system(rng), (), (draw_turn(rng, task.draw, split),))
        for task in TASKS
        for _ in range(num_per_task)
    ]
    conversations += [draw_tool_probe(rng, split) for _ in range(num_per_task)]
    return conversations


def draw_tool_probe(rng: random.Random, split: Split) -> Conversation:
    """One tool call from `split`; function and argument are drawn together, as a function may have no such key."""
    while True:
        offered, usable = tool_use.draw_functions(rng)
        turn = tool_use.draw_call(rng, rng.choice(usable))
        if turn.split == split:
            return Conversation(draw_system(rng), tuple(tool_use.schema(rng, each) for each in offered), (turn,))


def exact_by_task(model: Llama, tokenizer: Tokenizer, conversations: list[Conversation]) -> dict[str, float]:
    """The share of conversations in which every assistant token is the arg-max, per task."""
    encoded = encode(tokenizer, [render(c.messages, c.tools) for c in conversations])
    order = sorted(range(len(encoded)), key=lambda index: len(encoded[index].ids))
    hits: dict[str, list[bool]] = defaultdict(list)
    for start in range(0, len(order), ROWS_PER_PASS):
        picked = order[start : start + ROWS_PER_PASS]
        for index, correct in zip(picked, _all_correct(model, [encoded[index] for index in picked]), strict=True):
            hits[conversations[index].turns[-1].task].append(correct)
    return {task: sum(each) / len(each) for task, each in hits.items()}


@torch.inference_mode()
def _all_correct(model: Llama, items: list[Encoded]) -> list[bool]:
    rows = to_rows([[item] for item in items], max(len(item.ids) for item in items), 0)
    with torch.autocast("cpu", torch.bfloat16):
        predicted = model(rows.ids).argmax(dim=-1)
    agree = (predicted == rows.targets) | (rows.targets == IGNORED)
    return [bool(each) for each in agree.all(dim=1)]
