"""The RunPod endpoints: the fields that RunPod's API knows, and what our worker needs of them."""

import importlib.util
from typing import Any

import pytest

from pagemill.settings_layers import load_settings
from support.targets import RUNPOD, runpod_definition

Json = dict[str, Any]
# RunPod publishes no schema as a package. These are the fields of `POST /v1/templates` of its REST API, and of
# `saveEndpoint` of its GraphQL API (only there can an endpoint's type be said), with their types.
TEMPLATE_FIELDS = {
    "category": str,
    "containerDiskInGb": int,
    "containerRegistryAuthId": str,
    "dockerEntrypoint": list,
    "dockerStartCmd": list,
    "env": dict,
    "imageName": str,
    "isPublic": bool,
    "isServerless": bool,
    "name": str,
    "ports": list,
    "readme": str,
    "volumeInGb": int,
    "volumeMountPath": str,
}
ENDPOINT_FIELDS = {
    "executionTimeoutMs": int,
    "flashBootType": str,
    "gpuCount": int,
    "gpuIds": str,
    "idleTimeout": int,
    "locations": str,
    "name": str,
    "networkVolumeId": str,
    "scalerType": str,
    "scalerValue": int,
    "templateId": str,
    "type": str,
    "workersMax": int,
    "workersMin": int,
}
GPU_POOLS = {"AMPERE_16", "AMPERE_24", "ADA_24", "AMPERE_48", "ADA_48_PRO", "AMPERE_80", "ADA_80_PRO"}
LOAD_BALANCER_LIMIT_S = 330  # after which RunPod gives a request up


@pytest.fixture(params=RUNPOD)
def definition(request: pytest.FixtureRequest) -> Json:
    return runpod_definition(request.param)


@pytest.mark.parametrize(("part", "known"), [("template", TEMPLATE_FIELDS), ("endpoint", ENDPOINT_FIELDS)])
def test_every_field_is_known_and_of_its_type(definition: Json, part: str, known: dict[str, type]) -> None:
    assert {name: type(value) for name, value in definition[part].items()}.items() <= known.items()


def test_endpoints_scale_to_nothing_and_not_without_bounds(definition: Json) -> None:
    endpoint = definition["endpoint"]
    assert endpoint["workersMin"] == 0
    assert 1 <= endpoint["workersMax"] <= 10
    assert 1 <= endpoint["idleTimeout"] <= 3600
    assert endpoint["scalerType"] in ("QUEUE_DELAY", "REQUEST_COUNT")
    assert set(endpoint["gpuIds"].split(",")) <= GPU_POOLS


def test_a_template_is_private_and_holds_no_secret(definition: Json) -> None:
    template = definition["template"]
    assert template["isPublic"] is False
    assert template["isServerless"] is True
    assert not [name for name in template["env"] if "KEY" in name or "TOKEN" in name]


def test_load_balancing_sends_workers_what_they_run_at_once_and_ends_before_runpod_does() -> None:
    definition = runpod_definition("load-balancing")
    settings = load_settings({}, definition["template"]["env"])
    assert definition["endpoint"]["type"] == "LB"
    assert settings.max_num_seqs is not None
    assert definition["endpoint"]["scalerValue"] < settings.max_num_seqs
    assert 0 < settings.request_timeout_s < LOAD_BALANCER_LIMIT_S


def test_the_port_of_health_checks_is_exposed() -> None:
    template = runpod_definition("load-balancing")["template"]
    assert template["ports"] == [f"{template['env']['PORT_HEALTH']}/http"]


def test_the_queue_runs_a_module_that_exists() -> None:
    definition = runpod_definition("queue")
    assert definition["endpoint"]["type"] == "QB"
    python, option, module = definition["template"]["dockerEntrypoint"]
    assert (python, option) == ("python", "-m")
    assert importlib.util.find_spec(f"{module}.__main__") is not None
