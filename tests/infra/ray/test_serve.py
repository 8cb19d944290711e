"""The Ray Serve configuration by Ray's own schema, and the KubeRay service that carries it."""

import warnings
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from pagemill.cli.http_server import ABORT_GRACE_S
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from support.targets import KEY_FILE
from support.validators import INFRA

Json = dict[str, Any]
SERVE = INFRA / "ray/serve.yaml"
# Of KubeRay's `ray.io/v1`, whose schema is in no package: the fields that may be used here.
SERVICE_FIELDS = {
    "serveConfigV2",
    "rayClusterConfig",
    "serviceUnhealthySecondThreshold",
    "deploymentUnhealthySecondThreshold",
}
CLUSTER_FIELDS = {"rayVersion", "enableInTreeAutoscaling", "autoscalerOptions", "headGroupSpec", "workerGroupSpecs"}
GROUP_FIELDS = {"rayStartParams", "template", "groupName", "replicas", "minReplicas", "maxReplicas"}


@pytest.fixture
def config() -> Json:
    read: Json = yaml.safe_load(SERVE.read_text())
    return read


@pytest.fixture
def service() -> Json:
    read: Json = yaml.safe_load((INFRA / "ray/rayservice.yaml").read_text())
    return read


def application(config: Json) -> Json:
    (found,) = config["applications"]
    assert isinstance(found, dict)
    return found


def deployment(config: Json) -> Json:
    (found,) = application(config)["deployments"]
    assert isinstance(found, dict)
    return found


def settings_of(config: Json) -> Settings:
    return load_settings(application(config)["args"], {"PAGEMILL_API_KEY_FILE": KEY_FILE})


def groups(service: Json) -> list[Json]:
    cluster = service["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def unknown_to_ray(config: Any) -> list[str]:
    """Fields that Ray's schema passes over in silence."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own use of what pydantic is about to give up
        from ray.serve.schema import ServeDeploySchema
    understood = ServeDeploySchema.model_validate(config).model_dump(exclude_unset=True)
    return list(_lost(config, understood, ""))


def _lost(given: Any, understood: Any, path: str) -> Iterator[str]:
    if isinstance(given, dict) and isinstance(understood, dict):
        for name, value in given.items():
            if name in understood:
                yield from _lost(value, understood[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}"
    elif isinstance(given, list):
        for number, (one, other) in enumerate(zip(given, understood, strict=True)):
            yield from _lost(one, other, f"{path}[{number}]")


def test_ray_takes_the_configuration_and_knows_every_field(config: Json) -> None:
    assert unknown_to_ray(config) == []


@pytest.mark.parametrize("place", [application, deployment], ids=["application", "deployment"])
def test_an_unknown_field_would_be_found(config: Json, place: Callable[[Json], Json]) -> None:
    place(config)["unheard_of"] = 1
    (found,) = unknown_to_ray(config)
    assert found.endswith(".unheard_of")


def test_a_wrong_value_would_be_found(config: Json) -> None:
    deployment(config)["max_ongoing_requests"] = 0
    with pytest.raises(ValueError, match="max_ongoing_requests"):
        unknown_to_ray(config)


def test_a_replica_is_sent_as_many_requests_as_it_runs_and_another_comes_before(config: Json) -> None:
    settings = settings_of(config)
    assert deployment(config)["max_ongoing_requests"] == settings.max_num_seqs
    assert deployment(config)["autoscaling_config"]["target_ongoing_requests"] < settings.max_num_seqs


def test_a_replica_computes_with_the_cpus_that_ray_counts_for_it(config: Json) -> None:
    assert settings_of(config).threads == deployment(config)["ray_actor_options"]["num_cpus"]


def test_running_requests_end_before_ray_kills_the_replica(config: Json) -> None:
    assert settings_of(config).drain_timeout_s + ABORT_GRACE_S < deployment(config)["graceful_shutdown_timeout_s"]


def test_the_configuration_shows_no_key(config: Json) -> None:
    assert not {"api_key", "api_key_file"} & set(application(config)["args"])
    assert "runtime_env" not in application(config)


def test_the_handler_makes_the_deployment_that_is_configured(config: Json) -> None:
    module, _, function = application(config)["import_path"].partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Ray's own
        made = getattr(import_module(module), function)(application(config)["args"])
    assert made._bound_deployment.name == deployment(config)["name"]


def test_kuberay_is_given_the_same_configuration(service: Json) -> None:
    assert service["spec"]["serveConfigV2"] == SERVE.read_text()


def test_kuberay_knows_every_field(service: Json) -> None:
    assert (service["apiVersion"], service["kind"]) == ("ray.io/v1", "RayService")
    assert set(service["spec"]) <= SERVICE_FIELDS
    assert set(service["spec"]["rayClusterConfig"]) <= CLUSTER_FIELDS
    for group in groups(service):
        assert set(group) <= GROUP_FIELDS


def test_its_pods_are_valid_and_run_without_rights(service: Json) -> None:
    for group in groups(service):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "ray"}, **group["template"]}
        kubernetes_validate.validate(pod, "1.34", strict=True)
        (container,) = pod["spec"]["containers"]
        assert "@sha256:" in container["image"]
        assert container["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert pod["spec"]["enableServiceLinks"] is False


def test_a_worker_does_not_start_without_keys(service: Json) -> None:
    (worker,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    assert container["env"] == [{"name": "PAGEMILL_API_KEY_FILE", "value": KEY_FILE}]
    (volume,) = (volume for volume in worker["template"]["spec"]["volumes"] if volume["name"] == "keys")
    assert volume["secret"]["secretName"] == "pagemill-api-keys"
    assert "optional" not in volume["secret"]
    assert {"name": "keys", "mountPath": str(Path(KEY_FILE).parent), "readOnly": True} in container["volumeMounts"]


def test_workers_are_as_large_as_a_replica_and_as_many_as_there_may_be(config: Json, service: Json) -> None:
    (worker,) = service["spec"]["rayClusterConfig"]["workerGroupSpecs"]
    (container,) = worker["template"]["spec"]["containers"]
    assert int(container["resources"]["limits"]["cpu"]) == deployment(config)["ray_actor_options"]["num_cpus"]
    assert worker["maxReplicas"] == deployment(config)["autoscaling_config"]["max_replicas"]
