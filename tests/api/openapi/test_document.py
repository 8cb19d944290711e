"""The document is valid, and it and the routes know each other."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from pagemill import __version__
from pagemill.api.openapi.document import documented, route_keys
from support.api_server import RunningServer, Serve

Document = Mapping[str, Any]


@pytest.fixture(scope="module")
def document(server: RunningServer) -> Document:
    answer = server.get("/openapi.json")
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    found: Document = answer.json()
    return found


def test_the_document_is_valid_openapi_of_this_version(document: Document) -> None:
    OpenAPIV31SpecValidator(document).validate()
    assert document["info"]["version"] == __version__


def test_every_route_is_documented_and_nothing_else(server: RunningServer) -> None:
    there, known = set(route_keys(server.app.routes)), set(documented())
    missing = sorted(there - known)
    assert not missing, (
        f"{missing}: not in the OpenAPI document. Write an Operation under that key into `documented.py` beside the "
        "route (pagemill/api/<dialect>/documented.py): its summary, the class of its body with an example that works, "
        "and a schema of its answer; then a real answer into tests/api/openapi/test_answers.py."
    )
    assert known <= there, f"{sorted(known - there)}: documented, but there is no such route"


def test_every_operation_is_shown_under_its_path(document: Document) -> None:
    shown = {(method, path) for path, item in document["paths"].items() for method in item}
    assert len(shown) == len(documented())
    assert ("get", "/v1/models/{model}") in shown
    assert ("head", "/api/blobs/{digest}") in shown


def test_operations_have_names_of_their_own(document: Document) -> None:
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(set(names)) == len(names)
    assert "post_v1_chat_completions" in names


def test_a_field_has_its_bounds_its_choices_and_its_default(document: Document) -> None:
    schemas = document["components"]["schemas"]
    messages = schemas["anthropic.MessagesRequest"]
    assert messages["required"] == ["model", "messages", "max_tokens"]
    assert messages["properties"]["max_tokens"] == {"type": "integer", "minimum": 0}
    assert messages["properties"]["top_p"]["anyOf"][0] == {"type": "number", "exclusiveMinimum": 0, "maximum": 1}
    assert messages["properties"]["speed"] == {"enum": [None, "standard"]}
    assert messages["properties"]["messages"]["items"] == {"$ref": "#/components/schemas/anthropic.Message"}
    assert schemas["anthropic.Message"]["properties"]["role"] == {"enum": ["user", "assistant", "system"]}
    assert schemas["ollama.ChatRequest"]["properties"]["stream"]["default"] is True


def test_unknown_fields_are_only_documented_as_null_where_they_pass(document: Document, server: RunningServer) -> None:
    schemas = document["components"]["schemas"]
    assert schemas["openai.ChatCompletionRequest"]["additionalProperties"] == {"type": "null"}
    assert schemas["openai.StreamOptions"]["additionalProperties"] is False
    assert schemas["openai.Message"]["additionalProperties"] is True
    body = {"prompt": "x", "max_tokens": 1, "stream": True}
    assert server.post("/v1/completions", {**body, "unheard_of": None}).status_code == 200
    assert server.post("/v1/completions", {**body, "stream_options": {"unheard_of": None}}).status_code == 400


def test_without_keys_the_document_asks_for_none(document: Document) -> None:
    assert document["security"] == []


def test_with_keys_the_document_and_what_it_describes_need_one(serve: Serve) -> None:
    server = serve(api_key=("sesame",))
    assert server.get("/openapi.json").status_code == 401
    answer = server.get("/openapi.json", headers={"authorization": "Bearer sesame"})
    assert answer.json()["security"] == [{"bearer": []}, {"x-api-key": []}]
    assert answer.json()["paths"]["/livez"]["get"]["security"] == []


def test_routes_that_are_turned_off_are_not_in_the_document(serve: Serve) -> None:
    assert "/ui/" not in serve(ui=False).get("/openapi.json").json()["paths"]


def test_the_document_is_made_once(server: RunningServer) -> None:
    first, second = server.get("/openapi.json").content, server.get("/openapi.json").content
    assert first == second
    assert json.loads(first)["openapi"] == "3.1.1"
