"""Rules for every target that no validator knows: what a template says must be true of Pagemill."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

import pytest
from starlette.routing import Route

from pagemill.api.middleware import OPEN_PATHS
from pagemill.bootstrap import build_app, build_pool
from pagemill.cli.container import container_settings
from pagemill.cli.http_server import ABORT_GRACE_S
from pagemill.settings import Settings
from pagemill.settings_layers import ENVIRONMENT_PREFIX, load_settings
from pagemill.validated import fields
from pagemill_handlers.aws_lambda.settings import PREFIX as LAMBDA_PREFIX
from pagemill_handlers.aws_lambda.settings import load_lambda_settings
from support.aws_calls import Json
from support.targets import KEY, KEY_FILE, LAMBDAS, Target, targets

ALL = tuple(targets())


def those(*chosen: Target) -> list[Any]:
    return [pytest.param(target, id=target.name) for target in chosen]


TARGETS = those(*ALL)
SERVERS = those(*(target for target in ALL if target.port is not None))
PROBED = those(*(target for target in ALL if target.probes))
IN_CONTAINERS = those(*(target for target in ALL if target.grace_s is not None))
LIMITED = those(*(target for target in ALL if target.concurrency is not None))
FUNCTIONS = those(*(target for target in ALL if target.name in LAMBDAS))


def settings_of(target: Target) -> Settings:
    return load_settings({}, target.environment, fallbacks=container_settings(target.environment))


def own_variables(environment: Mapping[str, str]) -> Iterator[str]:
    """Pagemill's, but for those that a handler has beside the settings."""
    for name in environment:
        if name.startswith(ENVIRONMENT_PREFIX) and not name.startswith(LAMBDA_PREFIX):
            yield name.removeprefix(ENVIRONMENT_PREFIX).lower()


@pytest.mark.parametrize("target", TARGETS)
def test_every_variable_is_a_setting_and_its_value_is_taken(target: Target) -> None:
    settings_of(target)
    assert set(own_variables(target.environment)) <= set(fields(Settings))


@pytest.mark.parametrize("target", FUNCTIONS)
def test_every_variable_of_lambda_is_one_of_its_settings(target: Target) -> None:
    assert load_lambda_settings(target.environment).mode == "streamed"


@pytest.mark.parametrize("target", SERVERS)
def test_a_server_listens_where_its_requests_come(target: Target) -> None:
    settings = settings_of(target)
    assert (settings.host, settings.port) == ("0.0.0.0", target.port)


def routes() -> set[str]:
    settings = Settings(backend="fake")
    app = build_app(settings, build_pool(settings, load_at_once=False))
    return {route.path for route in app.routes if isinstance(route, Route)}


def paths_of(probe: Json) -> Iterator[str]:
    yield probe["httpGet"]["path"]


@pytest.mark.parametrize("target", PROBED)
def test_probes_ask_for_paths_that_exist_and_need_no_key(target: Target) -> None:
    asked = set(chain.from_iterable(map(paths_of, target.probes)))
    assert {"/readyz", "/livez"} <= asked
    assert asked <= routes()
    assert asked <= OPEN_PATHS


@pytest.mark.parametrize("target", PROBED)
def test_probes_ask_the_port_on_which_the_process_listens(target: Target) -> None:
    asked = {probe["httpGet"].get("port", target.port) for probe in target.probes}
    assert asked <= {target.port, "http"}


@pytest.mark.parametrize("target", PROBED)
def test_a_live_process_is_not_killed_while_it_loads(target: Target) -> None:
    """The startup probe waits for minutes; the liveness probe, which does not, begins to count when it has passed."""
    startup = target.probes[0]
    allowed_s = startup.get("initialDelaySeconds", 0) + startup.get("periodSeconds", 10) * startup["failureThreshold"]
    assert startup["httpGet"]["path"] == "/readyz"
    assert allowed_s >= 240


@pytest.mark.parametrize("target", IN_CONTAINERS)
def test_running_requests_end_before_the_process_is_killed(target: Target) -> None:
    assert target.grace_s is not None
    assert settings_of(target).drain_timeout_s + ABORT_GRACE_S < target.grace_s


@pytest.mark.parametrize("target", LIMITED)
def test_a_process_is_sent_as_many_requests_as_it_runs_at_once(target: Target) -> None:
    assert target.concurrency == settings_of(target).max_num_seqs


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_is_behind_iam_or_asks_for_a_key(target: Target) -> None:
    """Those without a key are behind their platform's own gate: AWS's SigV4, or RunPod's API keys."""
    settings = settings_of(target)
    if target.name in {*LAMBDAS, "sagemaker", "runpod/load-balancing", "runpod/queue"}:
        assert (settings.api_key, settings.api_key_file) == ((), None)
    else:
        assert (settings.api_key, settings.api_key_file) in (((KEY,), None), ((), KEY_FILE))
