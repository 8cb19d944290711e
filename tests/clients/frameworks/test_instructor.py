"""instructor in its modes: an answer held to a schema, to JSON at all, and a tool's call; and streamed as it grows."""

from typing import Any

import instructor
import pytest
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

from clients.served import CHAT_MODEL, EXTRACTION, MARIA, WEATHER, Person, say


class WeatherCall(BaseModel):
    """Get the current weather in a city"""

    model_config = ConfigDict(title="get_weather")  # the tool's name

    city: str


def create(url: str, mode: instructor.Mode, text: str, kind: type[BaseModel]) -> Any:
    client: Any = instructor.from_openai(OpenAI(base_url=f"{url}/v1", api_key="unused"), mode=mode)
    found = client.create(model=CHAT_MODEL, messages=say(text), response_model=kind, temperature=0, max_retries=0)
    assert isinstance(found, kind)
    return found.model_dump()


@pytest.mark.parametrize("mode", [instructor.Mode.JSON_SCHEMA, instructor.Mode.JSON])
def test_an_answer_is_parsed_into_a_class(mode: instructor.Mode, server_url: str) -> None:
    assert create(server_url, mode, EXTRACTION, Person) == MARIA.model_dump()


def test_a_tools_call_is_parsed_into_a_class(server_url: str) -> None:
    assert create(server_url, instructor.Mode.TOOLS, WEATHER, WeatherCall) == {"city": "Paris"}


@pytest.mark.parametrize("provider", ["openai", "ollama"])
def test_an_answer_grows_while_it_is_streamed(provider: str, server_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "unused")
    options: Any = {"base_url": f"{server_url}/v1", "mode": instructor.Mode.JSON_SCHEMA}
    client: Any = instructor.from_provider(f"{provider}/{CHAT_MODEL}", **options)
    parts = list(client.create_partial(messages=say(EXTRACTION), response_model=Person, temperature=0))
    assert len(parts) > 1
    assert parts[-1].model_dump() == MARIA.model_dump()
