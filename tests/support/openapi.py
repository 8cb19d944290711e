"""The document of a server as a judge of its answers: each is held to what is documented for its route and status."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
from jsonschema import Draft202012Validator

JSON, SSE, NDJSON = "application/json", "text/event-stream", "application/x-ndjson"


class DocumentedAnswers:
    """Judges answers."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document

    def check(self, route: str, answer: httpx.Response) -> None:
        """Fails unless the answer of a route (`GET /v1/models`) is documented."""
        method, _, path = route.partition(" ")
        responses = self.document["paths"][path.replace(":path", "")][method.lower()]["responses"]
        assert str(answer.status_code) in responses, f"{route}: {answer.status_code} {answer.text[:200]}"
        said = self._resolved(responses[str(answer.status_code)])
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if not said.get("content"):
            assert not answer.content
            return
        assert kind in said["content"], f"{route}: {kind}"
        content = said["content"][kind]
        for item in items(kind, answer.text):
            self._validate(item, content["x-item-schema" if kind in (SSE, NDJSON) else "schema"])

    def _resolved(self, said: Mapping[str, Any]) -> Mapping[str, Any]:
        found: Any = said
        if "$ref" in said:
            found = self.document
            for name in said["$ref"].removeprefix("#/").split("/"):
                found = found[name]
        resolved: Mapping[str, Any] = found
        return resolved

    def _validate(self, item: Any, schema: Mapping[str, Any]) -> None:
        Draft202012Validator({**schema, "components": self.document["components"]}).validate(item)


def items(kind: str, text: str) -> Iterator[Any]:
    """What an answer holds: one thing, or those of a stream."""
    match kind:
        case "application/json":
            yield json.loads(text, parse_constant=_refused)
        case "application/x-ndjson":
            yield from (json.loads(line, parse_constant=_refused) for line in text.splitlines())
        case "text/event-stream":
            for line in text.split("\n"):
                if line.startswith("data: ") and line != "data: [DONE]":
                    yield json.loads(line.removeprefix("data: "), parse_constant=_refused)
        case _:
            yield text


def _refused(name: str) -> None:
    raise AssertionError(f"{name} in an answer")
