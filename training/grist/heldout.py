"""Writes the held-out set: `python -m grist.heldout`.

Three hundred prompts, twenty a family, whose keys all fall in the test split. Seeded; the file is committed.
"""

import json
import random
from pathlib import Path

from grist.conversations import TASKS, draw_system, draw_task, draw_turn
from grist.dialogue import Conversation, Message, Turn
from grist.probe import draw_tool_probe
from grist.rendering import assistant_text

HELDOUT_PATH = Path(__file__).with_name("heldout.jsonl")
NUM_PER_FAMILY = 20
CONTEXT_SHARE = 0.25
SEED = 300


def _record(family: str, messages: list[Message], tools: list[Message], expected: Message) -> dict[str, object]:
    return {"task": family, "messages": messages, "tools": tools, "expected": assistant_text(expected)}


def _with_context(rng: random.Random, turn: Turn) -> Conversation:
    """The turn alone or after one training turn, with or without a system prompt."""
    before: tuple[Turn, ...] = ()
    if rng.random() < CONTEXT_SHARE and turn.task != "memory":
        task = draw_task(rng)
        before = (draw_turn(rng, task.draw, "train"),) if task.name != "memory" else ()
    return Conversation(draw_system(rng), (), (*before, turn))


def heldout_records(seed: int) -> list[dict[str, object]]:
    """All records, family by family, no prompt twice."""
    rng = random.Random(f"heldout/{seed}")
    records: list[dict[str, object]] = []
    for task in TASKS:
        seen: set[str] = set()
        while len(seen) < NUM_PER_FAMILY:
            turn = draw_turn(rng, task.draw, "test")
            prompt = json.dumps(turn.messages[:-1])
            if prompt in seen:
                continue
            seen.add(prompt)
            messages = _with_context(rng, turn).messages
            records.append(_record(task.name, messages[:-1], [], messages[-1]))
    for family, num_dropped in (("tool call", 3), ("tool answer", 1)):
        for _ in range(NUM_PER_FAMILY):
            conversation = draw_tool_probe(rng, "test")
            messages = conversation.messages
            expected = messages[len(messages) - num_dropped]
            records.append(_record(family, messages[:-num_dropped], list(conversation.tools), expected))
    return records


def main() -> None:
    """Write the file."""
    lines = [json.dumps(record, ensure_ascii=False) for record in heldout_records(SEED)]
    HELDOUT_PATH.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
