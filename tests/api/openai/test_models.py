"""`/v1/models`: what is served, under which names."""

import openai
import pytest

from support.api_server import RunningServer, Serve, fake_reference


def test_official_client_lists_the_model(server: RunningServer) -> None:
    models = list(server.client().models.list())
    assert [model.id for model in models] == ["fake"]
    assert models[0].object == "model"
    assert models[0].owned_by == "pagemill"
    assert models[0].created > 0


def test_max_model_len_is_shown_once_loaded(server: RunningServer) -> None:
    assert server.get("/v1/models").json()["data"][0]["max_model_len"] == server.backend.max_model_len


def test_official_client_retrieves_a_model_by_any_of_its_names(server: RunningServer) -> None:
    assert server.client().models.retrieve("fake").id == "fake"
    assert server.client().models.retrieve("fake:latest").id == "fake:latest"


def test_unknown_model_is_a_404(server: RunningServer) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        server.client().models.retrieve("gpt-4")
    assert caught.value.code == "model_not_found"


def test_served_names_are_all_listed_and_all_usable(serve: Serve) -> None:
    names = ("first", "second", "org/third")
    server = serve(reference=fake_reference(*names), served_model_name=names)
    assert [model.id for model in server.client().models.list()] == list(names)
    assert server.client().models.retrieve("org/third").id == "org/third"
    for name in names:
        body = {"model": name, "prompt": "x", "max_tokens": 1}
        assert server.post("/v1/completions", body).json()["model"] == name
