"""What the suites of clients are about: the models that are served, what they are asked, and what they answer.

The demo model was trained on such questions. Also imported in .venv-clients, where Pagemill is not installed.
"""

from typing import Any

from pydantic import BaseModel

CHAT_MODEL = "grist"
EMBEDDING_MODEL = "minilm"
KEY = "right"  # of the server that asks for one

CAPITAL = "What is the capital of Norway?"
CAPITAL_ANSWER = "The capital of Norway is Oslo."

WEATHER = "What is the weather in Paris?"
WEATHER_REPORT = "21 degrees, sunny"  # what the tool says
WEATHER_ANSWER = "It is 21 degrees and sunny in Paris."
WEATHER_PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"type": "string"}},
    "required": ["city"],
}


class Person(BaseModel):
    name: str
    age: int
    city: str


MARIA = Person(name="Maria", age=34, city="Oslo")
EXTRACTION = "Extract JSON: Maria is 34 and lives in Oslo."

SENTENCES = ["A man is eating food.", "A man is eating a piece of bread.", "Stars are far away."]
NUM_DIMENSIONS = 384


def get_weather(city: str) -> str:
    """Get the current weather in a city"""
    assert city == "Paris"
    return WEATHER_REPORT


def say(text: str) -> list[Any]:
    """A conversation that begins with it."""
    return [{"role": "user", "content": text}]


def cosine(left: list[float], right: list[float]) -> float:
    """Of two vectors of length 1."""
    return sum(a * b for a, b in zip(left, right, strict=True))


def assert_alike_are_close(embeddings: list[Any]) -> None:
    """The vectors of `SENTENCES` are what a model of sentences makes of them."""
    food, bread, stars = embeddings
    assert len(food) == NUM_DIMENSIONS
    assert cosine(food, bread) > 0.5
    assert cosine(food, stars) < 0.3
