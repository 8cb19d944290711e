"""Pulling fields out of a sentence into JSON. The key is the tuple of values."""

import json
import random

from grist.dialogue import Task, Turn, casual, exchange
from grist.lexicon import CITIES, GOODS, JOBS, NAMES

PERSON_FORMS = (
    "{name} is {age} and lives in {city}.",
    "{name} is {age} years old and lives in {city}.",
    "{name}, {age}, lives in {city}.",
    "{name} lives in {city} and is {age} years old.",
    "{name} from {city} is {age} years old.",
    "My friend {name} is {age} and lives in {city}.",
)
WORKER_FORMS = (
    "{name} is a {job} in {city}.",
    "{name} works as a {job} in {city}.",
    "{name} lives in {city} and is a {job}.",
    "{name} is a {job} from {city}.",
)
ORDER_FORMS = (
    "{name} ordered {quantity} {item}.",
    "{name} bought {quantity} {item}.",
    "{name} wants {quantity} {item}.",
    "{quantity} {item} for {name}.",
)
SCHEMAS = (
    (PERSON_FORMS, ("name", "age", "city")),
    (PERSON_FORMS, ("name", "age", "city")),
    (WORKER_FORMS, ("name", "job", "city")),
    (ORDER_FORMS, ("name", "item", "quantity")),
)
INSTRUCTIONS = (
    "Extract {fields} as JSON: {text}",
    "{text} Extract {fields} as JSON.",
    "Give me {fields} as JSON: {text}",
    "Turn this into JSON with {fields}: {text}",
    "{text} Return JSON with {fields}.",
    "Extract JSON with {fields}: {text}",
)
OPEN_INSTRUCTIONS = (
    "Extract JSON: {text}",
    "Turn this into JSON: {text}",
    "{text} As JSON, please.",
    "As JSON: {text}",
    "Convert to JSON: {text}",
)


def _listed(fields: list[str]) -> str:
    return fields[0] if len(fields) == 1 else ", ".join(fields[:-1]) + " and " + fields[-1]


def _draw(rng: random.Random) -> Turn:
    forms, schema = rng.choice(SCHEMAS)
    record: dict[str, str | int] = {
        "name": rng.choice(NAMES),
        "age": rng.randint(20, 59),
        "city": rng.choice(CITIES),
        "job": rng.choice(JOBS),
        "item": rng.choice(GOODS),
        "quantity": rng.randint(2, 9),
    }
    text = rng.choice(forms).format(**record)
    fields = list(schema)
    if rng.random() < 0.5:
        prompt = rng.choice(OPEN_INSTRUCTIONS).format(text=text)
    else:
        if rng.random() < 0.3:
            fields.remove(rng.choice(fields))
        prompt = rng.choice(INSTRUCTIONS).format(text=text, fields=_listed(fields))
    answer = json.dumps({field: record[field] for field in fields}, ensure_ascii=False)
    key = "|".join(str(record[field]) for field in schema)
    return exchange("extraction", key, casual(rng, prompt) if prompt[0] not in "0123456789" else prompt, answer)


TASKS = (Task("extraction", 2.2, _draw),)
