"""/v1/models as Anthropic's client asks for it."""

import anthropic
import pytest

from support.api_server import RunningServer, Serve, fake_reference

HEADERS = {"anthropic-version": "2023-06-01"}


def test_models_are_listed_and_found(client: anthropic.Anthropic, server: RunningServer) -> None:
    (model,) = client.models.list()
    assert (model.id, model.type, model.display_name, model.max_tokens) == ("fake", "model", "fake", 4096)
    assert model.created_at.isoformat() == "2026-01-01T00:00:00+00:00"
    assert client.models.retrieve("fake") == model
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("claude")
    assert server.get("/v1/models").json()["object"] == "list", "OpenAI's clients see them in their own shape"
    assert server.get("/v1/models/fake").json()["object"] == "model"


def test_the_list_comes_in_pages(serve: Serve) -> None:
    names = ["a", "b", "c"]
    server = serve(reference=fake_reference("fake", *names), served_model_name=names)
    with anthropic.Anthropic(base_url=server.url, api_key="unused") as client:
        first = client.models.list(limit=3)
        assert ([model.id for model in first.data], first.has_more) == (["fake", "a", "b"], True)
        assert [model.id for model in client.models.list(limit=3)] == ["fake", "a", "b", "c"]
        before = client.models.list(before_id="c", limit=2)
        assert ([model.id for model in before.data], before.has_more) == (["a", "b"], True)
        assert not client.models.list(before_id="b").has_more


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=1001", "after_id=z", "before_id=z"])
def test_a_wrong_query_is_a_400_that_names_it(server: RunningServer, query: str) -> None:
    response = server.get(f"/v1/models?{query}", headers=HEADERS)
    assert response.status_code == 400
    assert query.partition("=")[0] in response.json()["error"]["message"]
