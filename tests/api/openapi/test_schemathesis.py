"""schemathesis asks what the document allows, and what it doesn't: the server answers as documented.

By hand for longer: SCHEMATHESIS_EXAMPLES=1000 pytest tests/api/openapi/test_schemathesis.py
"""

import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from pagemill.api.app import create_app
from pagemill.api.openapi.document import document
from pagemill.backends.fake import FakeBackend
from pagemill.pool import ModelPool
from pagemill.settings import Settings
from pagemill.store.catalog import Catalog
from support.api_server import RunningServer, running_server, wait_until
from support.chat_scripts import parrot

KEY = "sesame"
NUM_EXAMPLES = int(os.environ.get("SCHEMATHESIS_EXAMPLES", "15"))
NAMES: list[str | None] = ["fake", "fake:latest", "nonesuch"]  # random ones would all be of no model

# What the document can't say of a body (fields that go together, what fits the context) is refused, too.
NOT_TRUE = [positive_data_acceptance]


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("models")
    backend = FakeBackend(reply=parrot, max_model_len=128, max_num_seqs=8)
    with running_server(backend, api_key=(KEY,), models_dir=str(folder), manage_models=True) as running:
        yield running


def described() -> Any:
    """The document of a server's routes, without those that can't be asked here."""
    settings = Settings(model="fake", api_key=(KEY,))
    app = create_app(ModelPool(Catalog([]), load=None, keep_alive_s=0), settings)  # type: ignore[arg-type]  # nothing is loaded
    found = document(app.routes, needs_key=True)
    del found["paths"]["/api/pull"]  # asks other servers
    del found["paths"]["/api/push"]  # is a 501, whatever the request
    for schema in found["components"]["schemas"].values():
        properties = schema.get("properties", {})
        if schema.get("additionalProperties") == {"type": "null"} and "model" in properties:
            nulls = [None] if "anyOf" in properties["model"] else []
            properties["model"] = {"enum": NAMES + nulls}
    return schemathesis.openapi.from_dict(found)


schema = described()


@schema.auth()
class Key:
    """Every request carries the key, but those that a check sends without."""

    def get(self, case: Any, context: Any) -> str:
        return KEY

    def set(self, case: Any, data: str, context: Any) -> None:
        case.headers["authorization"] = f"Bearer {data}"


@schema.parametrize()  # type: ignore[untyped-decorator]  # schemathesis leaves it so
@hypothesis_settings(max_examples=NUM_EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None)
def test_every_answer_is_documented(case: Any, guarded: RunningServer) -> None:
    case.call_and_validate(base_url=guarded.url, excluded_checks=NOT_TRUE, timeout=30, allow_redirects=False)


def test_afterwards_nothing_is_left(guarded: RunningServer) -> None:
    wait_until(lambda: guarded.engine.num_unfinished() == 0 and guarded.engine.stats().kv.used_tokens == 0)
    answer = guarded.post(
        "/v1/completions", {"prompt": "x", "max_tokens": 1}, headers={"authorization": f"Bearer {KEY}"}
    )
    assert answer.status_code == 200
