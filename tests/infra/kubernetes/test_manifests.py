"""What kustomize makes of infra/kubernetes: valid by Kubernetes' schemas and those of the operators, and safe."""

import re
from collections.abc import Mapping
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from pagemill.api.operations import metrics
from pagemill.errors import SettingsError
from pagemill.settings_layers import load_settings
from support.targets import OVERLAYS, manifests
from support.validators import INFRA, kustomize

Json = dict[str, Any]
ROOM = INFRA / "kubernetes"
CLUSTERS = ("1.32", "1.34", "1.37")  # versions of Kubernetes whose schemas hold
COMPONENTS = ("keda", "s3-weights", "servicemonitor")
# Custom resources, and the modules with classes made from the schemas that their projects publish.
CUSTOM: Mapping[str, str] = {
    "keda.sh/v1alpha1": "cloudcoil.models.keda.v1alpha1",
    "monitoring.coreos.com/v1": "cloudcoil.models.prometheus_operator.v1",
    "serving.knative.dev/v1": "cloudcoil.models.knative_serving.serving.v1",
}


def errors(document: Json, cluster: str) -> list[str]:
    """What the schema of the document's kind says to it; unknown fields are errors."""
    if document["apiVersion"] in CUSTOM:
        schema = custom_schema(document["apiVersion"], document["kind"])
        return [error.message for error in jsonschema.Draft202012Validator(schema).iter_errors(document)]
    try:
        kubernetes_validate.validate(document, cluster, strict=True)
    except kubernetes_validate.ValidationError as error:
        return [str(error)]
    return []


@cache
def custom_schema(version: str, kind: str) -> Json:
    """The schema of a custom resource, with unknown fields forbidden."""
    model = getattr(import_module(CUSTOM[version]), kind)  # now, since the modules are large
    schema: Json = model.model_json_schema()
    for part in (schema, *schema["$defs"].values()):
        if "properties" in part:
            part.setdefault("additionalProperties", False)
    return schema


def kinds(documents: list[Json]) -> dict[str, Json]:
    return {document["kind"]: document for document in documents}


def with_components(folder: Path, overlay: str, *components: str) -> list[Json]:
    """An overlay with components, as somebody's own kustomization in the folder has it."""
    (folder / "kubernetes").symlink_to(ROOM)
    lines = ["resources:", f"  - kubernetes/overlays/{overlay}", "components:"]
    lines += [f"  - kubernetes/components/{name}" for name in components]
    (folder / "kustomization.yaml").write_text("\n".join(lines))
    return list(yaml.safe_load_all(kustomize(folder)))


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> list[Json]:
    return manifests(request.param)


@pytest.fixture
def everything(tmp_path: Path) -> list[Json]:
    return with_components(tmp_path, "cpu", *COMPONENTS)


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_every_manifest_is_valid(overlay: list[Json], cluster: str) -> None:
    assert len(overlay) >= 5
    assert {document["kind"]: found for document in overlay if (found := errors(document, cluster))} == {}


@pytest.mark.parametrize("base", ["cpu", "gpu"])
def test_every_component_is_valid_upon_an_overlay(base: str, tmp_path: Path) -> None:
    documents = with_components(tmp_path, base, *COMPONENTS)
    assert {"ScaledObject", "ServiceMonitor"} <= set(kinds(documents))
    assert {document["kind"]: found for document in documents if (found := errors(document, CLUSTERS[-1]))} == {}


@pytest.mark.parametrize(
    ("kind", "wrong"),
    [("Deployment", {"replica": 1}), ("ScaledObject", {"maxReplicas": 3}), ("ServiceMonitor", {"endpoint": []})],
)
def test_an_unknown_field_would_be_found(everything: list[Json], kind: str, wrong: Json) -> None:
    document = kinds(everything)[kind]
    document["spec"].update(wrong)
    assert next(iter(wrong)) in str(errors(document, CLUSTERS[-1]))


def test_the_kustomization_that_the_page_shows_changes_what_it_says(tmp_path: Path) -> None:
    """Written by the page's reader into a folder beside `infra`."""
    (shown,) = re.findall(r"^```yaml\n(.*?)^```", (ROOM / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    (tmp_path / "infra").symlink_to(INFRA)
    (tmp_path / "kustomization.yaml").write_text(shown)
    documents = list(yaml.safe_load_all(kustomize(tmp_path)))
    assert {"Deployment", "ScaledObject", "ServiceMonitor"} <= set(kinds(documents))
    (container,) = workload(documents)["spec"]["template"]["spec"]["containers"]
    assert container["image"] == "YOUR-REGISTRY/pagemill-cpu@sha256:DIGEST"
    settings = kinds(documents)["ConfigMap"]
    assert settings["data"]["PAGEMILL_MAX_NUM_SEQS"] == "32"
    assert container["envFrom"] == [{"configMapRef": {"name": settings["metadata"]["name"]}}]


def test_pods_meet_the_restricted_standard_which_their_namespace_enforces(overlay: list[Json]) -> None:
    by_kind = kinds(overlay)
    assert by_kind["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    spec = workload(overlay)["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] == 10001
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert spec["automountServiceAccountToken"] is False


def workload(documents: list[Json]) -> Json:
    (found,) = (item for item in documents if item["apiVersion"] in ("apps/v1", "serving.knative.dev/v1"))
    return found


def test_service_links_are_off_since_the_services_name_makes_them_settings(overlay: list[Json]) -> None:
    with pytest.raises(SettingsError, match="PAGEMILL_PORT"):
        load_settings({}, {"PAGEMILL_PORT": "tcp://10.96.0.17:80"})  # what a Service named pagemill puts into every pod
    assert workload(overlay)["spec"]["template"]["spec"]["enableServiceLinks"] is False


def test_no_pod_starts_without_keys(overlay: list[Json]) -> None:
    """The secret is not among the manifests, and the volume of it not optional."""
    spec = workload(overlay)["spec"]["template"]["spec"]
    assert "Secret" not in kinds(overlay)
    assert kinds(overlay)["ConfigMap"]["data"]["PAGEMILL_API_KEY_FILE"] == key_file(spec)


def key_file(spec: Json) -> str:
    """Where the container finds the keys, which it may read and others may not."""
    (volume,) = (volume for volume in spec["volumes"] if volume["name"] == "keys")
    assert volume["secret"]["secretName"] == "pagemill-api-keys"
    assert volume["secret"]["defaultMode"] == 0o440
    assert "optional" not in volume["secret"]
    assert spec["securityContext"]["fsGroup"] == 10001
    (item,) = volume["secret"]["items"]
    (container,) = spec["containers"]
    (mount,) = (mount for mount in container["volumeMounts"] if mount["name"] == "keys")
    return f"{mount['mountPath']}/{item['path']}"


def test_changed_settings_are_a_rollout(overlay: list[Json]) -> None:
    (container,) = workload(overlay)["spec"]["template"]["spec"]["containers"]
    (source,) = container["envFrom"]
    name = kinds(overlay)["ConfigMap"]["metadata"]["name"]
    assert source["configMapRef"]["name"] == name
    assert name.removeprefix("pagemill-settings-") != name


def test_images_are_named_by_digest(overlay: list[Json]) -> None:
    (container,) = workload(overlay)["spec"]["template"]["spec"]["containers"]
    assert "@sha256:" in container["image"]


def test_selectors_find_the_pods(overlay: list[Json]) -> None:
    labels = workload(overlay)["spec"]["template"]["metadata"]["labels"].items()
    for document in overlay:
        if document["kind"] == "Service" and document["apiVersion"] == "v1":
            assert document["spec"]["selector"].items() <= labels
        if document["kind"] == "PodDisruptionBudget":
            assert document["spec"]["selector"]["matchLabels"].items() <= labels


def test_nothing_leaves_a_pod_unless_it_fetches_its_weights(overlay: list[Json], everything: list[Json]) -> None:
    assert kinds(overlay)["NetworkPolicy"]["spec"]["egress"] == []
    ports = {port["port"] for rule in kinds(everything)["NetworkPolicy"]["spec"]["egress"] for port in rule["ports"]}
    assert ports == {53, 80, 443}


def test_gpu_pods_ask_for_a_gpu_and_tolerate_its_nodes() -> None:
    spec = workload(manifests("gpu"))["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    assert container["resources"]["limits"]["nvidia.com/gpu"] == container["resources"]["requests"]["nvidia.com/gpu"]
    assert spec["tolerations"] == [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}]
    mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
    assert {volume["name"] for volume in spec["volumes"]} == set(mounts.values())
    assert {"/models", "/dev/shm", "/tmp"} <= set(mounts)


def test_knative_takes_the_place_of_what_it_makes_itself() -> None:
    documents = manifests("knative")
    assert {document["kind"] for document in documents} == {
        "Namespace",
        "ServiceAccount",
        "ConfigMap",
        "NetworkPolicy",
        "Service",
    }
    annotations = workload(documents)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/min-scale"] == "0"


def test_prometheus_is_given_a_key_for_the_metrics(everything: list[Json]) -> None:
    (endpoint,) = kinds(everything)["ServiceMonitor"]["spec"]["endpoints"]
    assert endpoint["authorization"] == {
        "type": "Bearer",
        "credentials": {"name": "pagemill-api-keys", "key": "metrics-key"},
    }
    (service,) = (item for item in everything if item["kind"] == "Service")
    selector = kinds(everything)["ServiceMonitor"]["spec"]["selector"]["matchLabels"]
    assert selector.items() <= service["metadata"]["labels"].items()
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_keda_scales_the_deployment_by_metrics_that_exist(everything: list[Json]) -> None:
    by_kind = kinds(everything)
    scaled = by_kind["ScaledObject"]["spec"]
    assert scaled["scaleTargetRef"]["name"] == by_kind["Deployment"]["metadata"]["name"]
    assert "replicas" not in by_kind["Deployment"]["spec"]  # two would decide, and every deployment undo the other's
    (trigger,) = scaled["triggers"]
    gauges = {family.name for family in metrics.EngineCollector(list).collect()}
    used = set(re.findall(r"pagemill_\w+", trigger["metadata"]["query"]))
    assert used
    assert used <= gauges
    settings = by_kind["ConfigMap"]["data"]
    assert int(trigger["metadata"]["threshold"]) < int(settings["PAGEMILL_MAX_NUM_SEQS"])


def test_fetched_weights_fit_into_the_pods_share_of_the_disk(everything: list[Json]) -> None:
    spec = workload(everything)["spec"]["template"]["spec"]
    (tmp,) = (volume for volume in spec["volumes"] if volume["name"] == "tmp")
    (container,) = spec["containers"]
    room = container["resources"]["limits"]["ephemeral-storage"]
    assert int(tmp["emptyDir"]["sizeLimit"].removesuffix("Gi")) < int(room.removesuffix("Gi"))
