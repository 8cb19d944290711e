"""Addition and subtraction of whole numbers from 0 to 12. The key is the operand pair under its operation, and the
phrasing: the sums are a table to be learnt by heart, and what is held out is a way of asking for one.
"""

import random

from grist.dialogue import Task, Turn, casual, exchange

MAX_OPERAND = 12

ADD_PHRASINGS = (
    "What is {a} + {b}?",
    "What is {a} plus {b}?",
    "{a} + {b}",
    "{a} + {b} = ?",
    "Add {a} and {b}.",
    "{a}+{b}?",
    "How much is {a} + {b}?",
    "Calculate {a} + {b}.",
    "What's {a} + {b}?",
    "Compute {a} plus {b}.",
    "What is the sum of {a} and {b}?",
    "{a} plus {b}?",
    "Can you add {a} and {b}?",
    "Please compute {a}+{b}.",
)
SUBTRACT_PHRASINGS = (
    "What is {a} - {b}?",
    "What is {a} minus {b}?",
    "{a} - {b}",
    "{a} - {b} = ?",
    "Subtract {b} from {a}.",
    "{a}-{b}?",
    "How much is {a} - {b}?",
    "Calculate {a} - {b}.",
    "What's {a} - {b}?",
    "Compute {a} minus {b}.",
    "Take {b} away from {a}.",
    "{a} minus {b}?",
    "Can you subtract {b} from {a}?",
    "Please compute {a}-{b}.",
)


def _draw_sum(rng: random.Random) -> Turn:
    a, b = rng.randint(0, MAX_OPERAND), rng.randint(0, MAX_OPERAND)
    phrasing = rng.choice(ADD_PHRASINGS)
    question = casual(rng, phrasing.format(a=a, b=b))
    return exchange("add", f"{a}+{b}|{phrasing}", question, f"{a} + {b} = {a + b}")


def _draw_difference(rng: random.Random) -> Turn:
    a, b = rng.randint(0, MAX_OPERAND), rng.randint(0, MAX_OPERAND)
    phrasing = rng.choice(SUBTRACT_PHRASINGS)
    question = casual(rng, phrasing.format(a=a, b=b))
    return exchange("subtract", f"{a}-{b}|{phrasing}", question, f"{a} - {b} = {a - b}")


TASKS = (Task("add", 3.0, _draw_sum), Task("subtract", 3.5, _draw_difference))
