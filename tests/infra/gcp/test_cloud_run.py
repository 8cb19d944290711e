"""The Cloud Run services: in the form that gcloud takes, and in that of the API, by its own protobuf."""

from collections.abc import Mapping
from typing import Any

import pytest
from google.cloud import run_v2
from google.protobuf import json_format

from support.targets import CLOUD_RUN, FILLED_IN, cloud_run_service

Json = dict[str, Any]


def as_api_service(service: Json) -> Json:
    """The same service as the v2 API has it. What has no counterpart there is an error, since it would be ignored."""
    (traffic,) = service["spec"]["traffic"]
    assert traffic == {"latestRevision": True, "percent": 100}
    return {
        "ingress": {"all": "INGRESS_TRAFFIC_ALL"}[service["metadata"]["annotations"]["run.googleapis.com/ingress"]],
        "traffic": [{"type": "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "percent": 100}],
        "template": _template(service["spec"]["template"]),
    }


def _template(template: Json) -> Json:
    notes, spec = dict(template["metadata"]["annotations"]), dict(template["spec"])
    (container,) = spec.pop("containers")
    made = {
        "scaling": {
            "minInstanceCount": int(notes.pop("autoscaling.knative.dev/minScale")),
            "maxInstanceCount": int(notes.pop("autoscaling.knative.dev/maxScale")),
        },
        "executionEnvironment": {"gen2": "EXECUTION_ENVIRONMENT_GEN2"}[
            notes.pop("run.googleapis.com/execution-environment")
        ],
        "serviceAccount": spec.pop("serviceAccountName"),
        "maxInstanceRequestConcurrency": spec.pop("containerConcurrency"),
        "timeout": f"{spec.pop('timeoutSeconds')}s",
        "containers": [_container(container, notes)],
        "volumes": [_volume(volume) for volume in spec.pop("volumes", ())],
    }
    if "nodeSelector" in spec:
        selector = spec.pop("nodeSelector")
        made["nodeSelector"] = {"accelerator": selector["run.googleapis.com/accelerator"]}
        redundancy_off = notes.pop("run.googleapis.com/gpu-zonal-redundancy-disabled")
        made["gpuZonalRedundancyDisabled"] = redundancy_off == "true"
    unknown = [*notes, *spec]
    assert not unknown, f"unknown: {unknown}"
    return made


def _container(container: Json, notes: dict[str, str]) -> Json:
    resources = {
        **container["resources"],
        "cpuIdle": notes.pop("run.googleapis.com/cpu-throttling") == "true",
        "startupCpuBoost": notes.pop("run.googleapis.com/startup-cpu-boost") == "true",
    }
    return {**container, "resources": resources, "env": [_variable(item) for item in container["env"]]}


def _variable(item: Json) -> Json:
    if "value" in item:
        return item
    reference = item["valueFrom"]["secretKeyRef"]
    return {
        "name": item["name"],
        "valueSource": {"secretKeyRef": {"secret": reference["name"], "version": reference["key"]}},
    }


def _volume(volume: Json) -> Json:
    csi = volume["csi"]
    assert csi["driver"] == "gcsfuse.run.googleapis.com"
    return {
        "name": volume["name"],
        "gcs": {"bucket": csi["volumeAttributes"]["bucketName"], "readOnly": csi["readOnly"]},
    }


def parsed(service: Json) -> Any:
    return json_format.ParseDict(as_api_service(service), run_v2.Service()._pb)


@pytest.fixture(params=CLOUD_RUN)
def service(request: pytest.FixtureRequest) -> Json:
    return cloud_run_service(request.param)


def container_of(service: Json) -> Json:
    (container,) = service["spec"]["template"]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def test_the_api_takes_the_service(service: Json) -> None:
    message = parsed(service)
    assert message.template.scaling.min_instance_count == 0
    assert message.template.scaling.max_instance_count >= 1
    assert message.template.containers[0].image == FILLED_IN["IMAGE"]


@pytest.mark.parametrize("where", ["containers", "probes"])
def test_an_unknown_field_would_be_found(service: Json, where: str) -> None:
    place: dict[str, Any] = container_of(service)
    (place if where == "containers" else place["startupProbe"])["unheardOf"] = 1
    with pytest.raises(json_format.ParseError, match="unheardOf"):
        parsed(service)


def test_an_annotation_that_the_api_has_no_field_for_would_be_found(service: Json) -> None:
    service["spec"]["template"]["metadata"]["annotations"]["run.googleapis.com/unheard-of"] = "true"
    with pytest.raises(AssertionError, match="unheard-of"):
        as_api_service(service)


@pytest.mark.parametrize(("name", "longest_s"), [("cpu", 600), ("gpu", 1800)])
def test_the_startup_probe_keeps_to_cloud_runs_limits(name: str, longest_s: int) -> None:
    probe = container_of(cloud_run_service(name))["startupProbe"]
    assert probe["periodSeconds"] * probe["failureThreshold"] <= longest_s
    assert probe["timeoutSeconds"] <= probe["periodSeconds"]


def test_keys_are_a_version_of_a_secret_so_that_a_rollback_brings_back_the_old_ones(service: Json) -> None:
    variables = {item["name"]: item for item in container_of(service)["env"]}
    assert variables["PAGEMILL_API_KEY"]["valueFrom"]["secretKeyRef"] == {"name": "pagemill-api-keys", "key": "1"}


def test_nobody_is_made_an_invoker_by_the_service_itself(service: Json) -> None:
    assert "run.googleapis.com/invoker-iam-disabled" not in service["metadata"]["annotations"]


def test_a_gpu_has_the_cpus_memory_and_billing_that_cloud_run_asks_for_with_it() -> None:
    service = cloud_run_service("gpu")
    limits: Mapping[str, str] = container_of(service)["resources"]["limits"]
    assert limits["nvidia.com/gpu"] == "1"
    assert int(limits["cpu"]) >= 4
    assert int(limits["memory"].removesuffix("Gi")) >= 16
    message = parsed(service)
    assert not message.template.containers[0].resources.cpu_idle
    assert message.template.node_selector.accelerator == "nvidia-l4"
    assert message.template.gpu_zonal_redundancy_disabled
