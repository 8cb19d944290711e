"""Calling a tool in the Hermes style and using its result. The key is the function together with its arguments.

A catalogue entry is one function; which of them are on offer, and how their declarations are spelled, varies.
"""

import json
import random
from collections.abc import Callable
from dataclasses import dataclass

from grist.dialogue import Message, Tool, Turn, casual
from grist.lexicon import CITIES

Outcome = tuple[str, str]  # what the tool returns, what the assistant then says


@dataclass(frozen=True, slots=True)
class Function:
    """One callable tool: its schema fields, and how to ask for it and answer from it."""

    family: str
    name: str
    description: str
    parameter: str
    kind: str


NAMES_BY_FAMILY: dict[str, tuple[str, tuple[str, ...], tuple[str, ...], str]] = {
    "weather": ("Get the current weather in a city", ("get_weather",), ("city",), "string"),
    "time": ("Get the current time in a city", ("get_time",), ("city",), "string"),
    "calculator": ("Evaluate an arithmetic expression", ("calculate",), ("expression",), "string"),
    "timer": ("Set a timer", ("set_timer",), ("minutes",), "integer"),
}
DISTRACTORS = (
    Function("none", "search_web", "Search the web", "query", "string"),
    Function("none", "send_email", "Send an email", "text", "string"),
    Function("none", "get_news", "Get the latest news", "topic", "string"),
)
QUESTIONS: dict[str, tuple[str, ...]] = {
    "weather": (
        "What is the weather in {x}?",
        "What's the weather in {x}?",
        "How is the weather in {x}?",
        "What is the weather like in {x}?",
        "Weather in {x}?",
        "Tell me the weather in {x}.",
        "How warm is it in {x}?",
        "What is the temperature in {x}?",
    ),
    "time": (
        "What time is it in {x}?",
        "What is the time in {x}?",
        "Tell me the time in {x}.",
        "Time in {x}?",
        "What is the current time in {x}?",
    ),
    "calculator": ("What is {x}?", "Calculate {x}.", "Compute {x}.", "How much is {x}?", "What's {x}?", "{x}"),
    "timer": (
        "Set a timer for {x} minutes.",
        "Start a timer for {x} minutes.",
        "Set a {x} minute timer.",
        "Remind me in {x} minutes.",
        "Timer for {x} minutes, please.",
    ),
}
SKIES = ("sunny", "cloudy", "rainy", "windy", "foggy", "snowy")
CATALOGUE = tuple(
    Function(family, name, description, parameter, kind)
    for family, (description, names, parameters, kind) in NAMES_BY_FAMILY.items()
    for name in names
    for parameter in parameters
)


def schema(rng: random.Random, function: Function) -> Tool:
    """The OpenAI-style declaration, in the spellings clients send: keys sorted or not, extras or not."""
    property_: dict[str, str] = {"type": function.kind}
    if rng.random() < 0.15:
        property_["description"] = f"The {function.parameter}"
    parameters: dict[str, object] = {"type": "object", "properties": {function.parameter: property_}}
    if rng.random() < 0.7:
        parameters["required"] = [function.parameter]
    declared: dict[str, object] = {"name": function.name}
    if rng.random() < 0.8:
        declared["description"] = function.description
    declared["parameters"] = parameters
    tool: Tool = {"type": "function", "function": declared}
    if rng.random() < 0.1:
        tool = json.loads(json.dumps(tool, sort_keys=True))
    return tool


def draw_functions(rng: random.Random) -> tuple[list[Function], list[Function]]:
    """Return one to three functions on offer, in order, and those among them that can be asked for."""
    families = rng.sample(list(NAMES_BY_FAMILY), rng.choice((1, 1, 1, 2)))
    usable = [rng.choice([f for f in CATALOGUE if f.family == family]) for family in families]
    offered = usable + ([rng.choice(DISTRACTORS)] if len(usable) < 2 and rng.random() < 0.2 else [])
    rng.shuffle(offered)
    return offered, usable


def _weather(rng: random.Random, city: str) -> Outcome:
    degrees, sky = rng.randint(-5, 35), rng.choice(SKIES)
    result: dict[str, object] = {"temperature": degrees, "condition": sky}
    if rng.random() < 0.3:
        result = {"city": city} | result
    content = json.dumps(result) if rng.random() < 0.7 else f"{degrees} degrees, {sky}"
    return content, f"It is {degrees} degrees and {sky} in {city}."


def _time(rng: random.Random, city: str) -> Outcome:
    clock = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
    content = json.dumps({"time": clock}) if rng.random() < 0.6 else clock
    return content, f"It is {clock} in {city}."


def _calculator(rng: random.Random, expression: str) -> Outcome:
    left, operator, right = expression.split()
    value = {"+": int(left) + int(right), "-": int(left) - int(right), "*": int(left) * int(right)}[operator]
    content = json.dumps({"result": value}) if rng.random() < 0.6 else str(value)
    return content, f"{expression} = {value}"


def _timer(rng: random.Random, minutes: str) -> Outcome:
    content = json.dumps({"status": "ok"}) if rng.random() < 0.6 else rng.choice(("ok", "done"))
    return content, f"The timer is set for {minutes} minutes."


OUTCOMES: dict[str, Callable[[random.Random, str], Outcome]] = {
    "weather": _weather,
    "time": _time,
    "calculator": _calculator,
    "timer": _timer,
}


def _draw_argument(rng: random.Random, family: str) -> str:
    if family == "calculator":
        return f"{rng.randint(13, 60)} {rng.choice('+-*')} {rng.randint(2, 60)}"
    return str(rng.randint(2, 60)) if family == "timer" else rng.choice(CITIES)


def draw_call(rng: random.Random, function: Function) -> Turn:
    """A question, the call it needs, the tool's result and the answer drawn from it."""
    argument = _draw_argument(rng, function.family)
    question = casual(rng, rng.choice(QUESTIONS[function.family]).format(x=argument))
    content, answer = OUTCOMES[function.family](rng, argument)
    value = int(argument) if function.kind == "integer" else argument
    call = {"type": "function", "function": {"name": function.name, "arguments": {function.parameter: value}}}
    messages: tuple[Message, ...] = (
        {"role": "user", "content": question},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": content},
        {"role": "assistant", "content": answer},
    )
    return Turn("tool", f"{function.name}|{argument}|{question.lower()}", messages)
