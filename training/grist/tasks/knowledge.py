"""Closed facts: capitals, and the order of days and months. The key is the item together with its phrasing."""

import random

from grist.dialogue import Task, Turn, casual, exchange
from grist.lexicon import CAPITALS, DAYS, MONTHS

CAPITAL_PHRASINGS = (
    "What is the capital of {x}?",
    "What's the capital of {x}?",
    "Capital of {x}?",
    "Which city is the capital of {x}?",
    "Tell me the capital of {x}.",
    "Name the capital of {x}.",
    "Do you know the capital of {x}?",
    "The capital of {x} is?",
    "What is the capital city of {x}?",
    "Please tell me the capital of {x}.",
)
NEIGHBOUR_PHRASINGS = (
    "What {unit} comes {side} {x}?",
    "Which {unit} comes {side} {x}?",
    "What {unit} is {side} {x}?",
    "What comes {side} {x}?",
    "Which {unit} is right {side} {x}?",
    "Tell me the {unit} {side} {x}.",
    "Name the {unit} {side} {x}.",
    "What is the {unit} {side} {x}?",
)


def _draw_capital(rng: random.Random) -> Turn:
    country = rng.choice(list(CAPITALS))
    phrasing = rng.choice(CAPITAL_PHRASINGS)
    question = casual(rng, phrasing.format(x=country), lower=True)
    return exchange("capital", f"{country}|{phrasing}", question, f"The capital of {country} is {CAPITALS[country]}.")


def _draw_neighbour(rng: random.Random) -> Turn:
    unit, cycle = rng.choice((("day", DAYS), ("month", MONTHS)))
    side, step = rng.choice((("after", 1), ("before", -1)))
    index = rng.randrange(len(cycle))
    phrasing = rng.choice(NEIGHBOUR_PHRASINGS)
    question = casual(rng, phrasing.format(unit=unit, side=side, x=cycle[index]), lower=True)
    answer = f"The {unit} {side} {cycle[index]} is {cycle[(index + step) % len(cycle)]}."
    return exchange("calendar", f"{cycle[index]}|{side}|{phrasing}", question, answer)


TASKS = (Task("capital", 2.5, _draw_capital), Task("calendar", 1.5, _draw_neighbour))
