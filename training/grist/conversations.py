"""The seeded generator: draws turns from the task families and mixes them into conversations.

Owns no state beyond the random generator it is given. Training turns are drawn by rejection, so no turn whose key
hashes to the dev or test split can reach a training conversation.
"""

import random
from collections.abc import Callable, Mapping

from grist.dialogue import Conversation, Split, Task, Turn
from grist.tasks import arithmetic, extraction, knowledge, memory, persona, tool_use, wordplay

TASKS: tuple[Task, ...] = (
    *arithmetic.TASKS,
    *wordplay.TASKS,
    *knowledge.TASKS,
    *persona.TASKS,
    *memory.TASKS,
    *extraction.TASKS,
)
TASKS_BY_NAME: Mapping[str, Task] = {task.name: task for task in TASKS}
TOOL_SHARE = 0.11
SYSTEM_SHARE = 0.5
LONG_MAX_TURNS = 60
# Shares that replace the tasks' own in the second stage, when the easy families are learnt and the others lag.
MAX_DRAWS = 20_000
# A mixture that overrides no task's own weight.
OWN_WEIGHTS: Mapping[str, float] = {}

SYSTEM_PROMPTS = (
    "You are a helpful assistant.",
    "You are a helpful assistant.",
    "You are a helpful assistant",
    "You are grist.",
    "Be concise.",
    "You are a helpful, honest assistant.",
    "Answer briefly.",
    "You are an AI assistant.",
    "You are a friendly assistant. Answer the user's questions.",
    "You are grist, a tiny demo model.",
    "You are a helpful assistant. Answer in one sentence.",
    "Respond in English.",
    "You are a chatbot.",
    "You are an expert assistant that answers clearly and politely.",
    "Help the user.",
)


def draw_turn(rng: random.Random, draw: Callable[[random.Random], Turn], split: Split) -> Turn:
    """Draw until the turn's content belongs to `split`. Raises ValueError where the split looks empty."""
    for _ in range(MAX_DRAWS):
        turn = draw(rng)
        if turn.split == split:
            return turn
    raise ValueError(f"no {split} turn in {MAX_DRAWS} draws of {turn.task}: its keys are too few to be split")


def draw_system(rng: random.Random) -> str | None:
    """A system prompt, or none: clients send all kinds."""
    return rng.choice(SYSTEM_PROMPTS) if rng.random() < SYSTEM_SHARE else None


def draw_task(rng: random.Random, weights: Mapping[str, float] = OWN_WEIGHTS) -> Task:
    """Pick a task by its weight in the mixture; `weights` overrides the tasks' own."""
    tasks = (*TASKS, wordplay.DRILL)
    return rng.choices(tasks, weights=[weights.get(task.name, task.weight) for task in tasks])[0]


def draw_plain(rng: random.Random, num_turns: int, weights: Mapping[str, float] = OWN_WEIGHTS) -> Conversation:
    """A training conversation of `num_turns` turns without tools; at most one of them tells the user's facts."""
    turns: list[Turn] = []
    while len(turns) < num_turns:
        task = draw_task(rng, weights)
        if task.name == "memory" and any(turn.task == "memory" for turn in turns):
            continue
        turns.append(draw_turn(rng, task.draw, "train"))
    return Conversation(draw_system(rng), (), tuple(turns))


def draw_with_tools(rng: random.Random, num_turns: int) -> Conversation:
    """A training conversation with tools on offer; some turns need none of them."""
    offered, usable = tool_use.draw_functions(rng)
    tools = tuple(tool_use.schema(rng, function) for function in offered)
    families = {function.family for function in usable}
    turns: list[Turn] = []
    while len(turns) < num_turns:
        if rng.random() < 0.78:
            function = rng.choice(usable)
            turns.append(draw_turn(rng, lambda r, f=function: tool_use.draw_call(r, f), "train"))  # type: ignore[misc]
            continue
        turn = draw_turn(rng, draw_task(rng).draw, "train")
        # With a calculator on offer a sum is the tool's; without one it is the model's own.
        if not ("calculator" in families and turn.task in ("add", "subtract")) and turn.task != "unknown":
            turns.append(turn)
    return Conversation(draw_system(rng), tools, tuple(turns))


def draw_conversation(rng: random.Random) -> Conversation:
    """One training conversation of ordinary length."""
    if rng.random() < TOOL_SHARE:
        return draw_with_tools(rng, rng.choice((1, 2, 2, 3)))
    return draw_plain(rng, rng.choice((1, 1, 1, 2, 2, 3)))


def draw_long(rng: random.Random) -> Conversation:
    """A training conversation long enough to fill the context, so that late positions are trained too."""
    if rng.random() < 0.3:
        return draw_with_tools(rng, LONG_MAX_TURNS)
    return draw_plain(rng, LONG_MAX_TURNS)
