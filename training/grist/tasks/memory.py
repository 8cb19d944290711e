"""Recalling what the user said earlier in the conversation. The key is the name, the other fact and what is asked."""

import random

from grist.dialogue import Message, Task, Turn, casual
from grist.lexicon import ANIMALS, CITIES, COLOURS, JOBS, NAMES

NAME_OPENINGS = (
    "My name is {x}.",
    "I am {x}.",
    "I'm {x}.",
    "Hi, I am {x}.",
    "Hello, my name is {x}.",
    "Hi, my name is {x}.",
    "Call me {x}.",
    "Hey, I'm {x}.",
    "You can call me {x}.",
)
NAME_QUESTIONS = (
    "What is my name?",
    "What's my name?",
    "Do you remember my name?",
    "Who am I?",
    "Tell me my name.",
    "Do you know my name?",
)

# kind: (how it is told, how it is asked, how it is answered, the values)
FACT_KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str, list[str]]] = {
    "city": (
        ("I live in {x}.", "I am from {x}.", "My city is {x}."),
        ("Where do I live?", "Which city do I live in?", "What is my city?"),
        "You live in {x}.",
        CITIES,
    ),
    "colour": (
        ("My favorite color is {x}.", "I like the color {x}.", "My favourite colour is {x}."),
        ("What is my favorite color?", "Which color do I like?", "What is my favourite colour?"),
        "Your favorite color is {x}.",
        COLOURS,
    ),
    "job": (
        ("I work as a {x}.", "My job is {x}.", "I am a {x}."),
        ("What is my job?", "What do I do for work?", "What do I work as?"),
        "Your job is {x}.",
        JOBS,
    ),
    "pet": (
        ("I have a {x}.", "My pet is a {x}.", "I own a {x}."),
        ("What pet do I have?", "What is my pet?", "Which animal do I have?"),
        "Your pet is a {x}.",
        ANIMALS,
    ),
}


def _acknowledge(name: str | None) -> str:
    return f"Nice to meet you, {name}!" if name else "Good to know."


def _draw_memory(rng: random.Random) -> Turn:
    """Tell a name and one more fact, in one message or two and in either order; then ask for one of them."""
    name, kind = rng.choice(NAMES), rng.choice(list(FACT_KINDS))
    telling, asking, answering, values = FACT_KINDS[kind]
    value = rng.choice(values)
    name_line = rng.choice(NAME_OPENINGS).format(x=name)
    fact_line = rng.choice(telling).format(x=value)
    messages: list[Message] = []

    def say(user: str, assistant: str) -> None:
        messages.extend(({"role": "user", "content": user}, {"role": "assistant", "content": assistant}))

    form = rng.random()
    if form < 0.45:
        say(f"{name_line} {fact_line}", _acknowledge(name))
    elif form < 0.8:
        say(name_line, _acknowledge(name))
        say(fact_line, _acknowledge(None))
    else:
        say(fact_line, _acknowledge(None))
        say(name_line, _acknowledge(name))
    if rng.random() < 0.5:
        say(casual(rng, rng.choice(NAME_QUESTIONS)), f"Your name is {name}.")
        asked = "name"
    else:
        say(casual(rng, rng.choice(asking)), answering.format(x=value))
        asked = kind
    return Turn("memory", f"{name}|{kind}|{value}|{asked}", tuple(messages))


def _draw_name_only(rng: random.Random) -> Turn:
    """Tell a name only and ask for it back at once."""
    name, opening, question = rng.choice(NAMES), rng.choice(NAME_OPENINGS), rng.choice(NAME_QUESTIONS)
    messages: tuple[Message, ...] = (
        {"role": "user", "content": opening.format(x=name)},
        {"role": "assistant", "content": _acknowledge(name)},
        {"role": "user", "content": casual(rng, question)},
        {"role": "assistant", "content": f"Your name is {name}."},
    )
    return Turn("memory", f"{name}|{opening}|{question}", messages)


def _draw(rng: random.Random) -> Turn:
    return _draw_memory(rng) if rng.random() < 0.7 else _draw_name_only(rng)


TASKS = (Task("memory", 1.8, _draw),)
