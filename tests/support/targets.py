"""The targets in infra/, each as what it says of the process that it runs, so that all are held to the same rules.

Owns no state. Placeholders that a deployment fills in are filled in with examples here.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from string import Template
from typing import Any

import yaml

from support.cloudformation import Resolver, read_template
from support.validators import INFRA, kustomize

Json = dict[str, Any]
AWS_IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/pagemill@sha256:" + "0" * 64
AWS_PARAMETERS: Mapping[str, Mapping[str, Any]] = {
    "lambda": {"ImageUri": AWS_IMAGE},
    "lambda-managed-instances": {
        "ImageUri": AWS_IMAGE,
        "VpcId": "vpc-0123456789abcdef0",
        "SubnetIds": "subnet-0123456789abcdef0,subnet-0123456789abcdef1",
    },
    "sagemaker": {
        "ImageUri": AWS_IMAGE,
        "RepositoryName": "pagemill",
        "ModelBucket": "models-of-ours",
        "ModelPrefix": "llama/",
    },
}
FILLED_IN = {
    "IMAGE": "registry.example.com/pagemill@sha256:" + "0" * 64,
    "PROJECT": "a-project",
    "BUCKET": "models-of-ours",
    "MODEL": "llama",
    "VOLUME_ID": "abcdefghij",
    "TEMPLATE_ID": "abcdefghij",
}
OVERLAYS = ("cpu", "gpu", "knative")
CLOUD_RUN = ("cpu", "gpu")
RUNPOD = ("load-balancing", "queue")
LAMBDAS = ("lambda", "lambda-managed-instances")
CLOUD_RUN_GRACE_S, SAGEMAKER_GRACE_S = 10.0, 30.0  # between SIGTERM and SIGKILL; theirs, not settings
KEY = "an-api-key"  # what a reference to a secret becomes
KEY_FILE = "/run/pagemill/keys/api-keys"  # where pods find theirs


@dataclass(frozen=True, slots=True)
class Target:
    """A process that a target runs."""

    name: str
    environment: Mapping[str, str]
    port: int | None = None  # to which requests are sent
    probes: tuple[Json, ...] = ()  # Kubernetes' form
    grace_s: float | None = None  # from SIGTERM to SIGKILL
    concurrency: int | None = None  # requests that it is sent at once, where the target limits them


def targets() -> Iterator[Target]:
    """All of them."""
    for name in LAMBDAS:
        yield aws_function(name)
    yield sagemaker()
    for name in CLOUD_RUN:
        yield cloud_run(name)
    for name in OVERLAYS:
        yield kubernetes(name)
    for name in RUNPOD:
        yield runpod(name)


def aws_function(folder: str) -> Target:
    resolver = Resolver(read_template(INFRA / "aws" / folder / "template.yaml"), AWS_PARAMETERS[folder])
    function = resolver.resources()["Function"]["Properties"]
    variables = {name: str(value) for name, value in function["Environment"]["Variables"].items()}
    provider = function.get("CapacityProviderConfig", {})
    return Target(folder, variables, concurrency=provider.get("PerExecutionEnvironmentMaxConcurrency"))


def sagemaker() -> Target:
    resolver = Resolver(read_template(INFRA / "aws/sagemaker/template.yaml"), AWS_PARAMETERS["sagemaker"])
    container = resolver.resources()["Model"]["Properties"]["PrimaryContainer"]
    variables = {name: str(value) for name, value in container["Environment"].items()}
    return Target("sagemaker", variables, port=8080, grace_s=SAGEMAKER_GRACE_S)


def cloud_run_service(name: str) -> Json:
    """The service as `gcloud run services replace` gets it."""
    service: Json = yaml.safe_load(filled_in(INFRA / f"gcp/cloud-run/{name}.yaml"))
    return service


def cloud_run(name: str) -> Target:
    spec = cloud_run_service(name)["spec"]["template"]["spec"]
    return _container_target(f"cloud-run/{name}", spec, {"PORT": "8080"}, CLOUD_RUN_GRACE_S)


def manifests(overlay: str) -> list[Json]:
    """What kustomize makes of an overlay."""
    return list(yaml.safe_load_all(kustomize(INFRA / "kubernetes/overlays" / overlay)))


def kubernetes(overlay: str) -> Target:
    documents = manifests(overlay)
    (settings,) = (item["data"] for item in documents if item["kind"] == "ConfigMap")
    (workload,) = (
        item
        for item in documents
        if (item["kind"], item["apiVersion"]) in (("Deployment", "apps/v1"), ("Service", "serving.knative.dev/v1"))
    )
    spec = workload["spec"]["template"]["spec"]
    grace_s = spec.get("terminationGracePeriodSeconds", spec.get("timeoutSeconds"))
    pre_stop = spec["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    return _container_target(f"kubernetes/{overlay}", spec, settings, grace_s - pre_stop)


def runpod_definition(name: str) -> Json:
    definition: Json = json.loads(filled_in(INFRA / f"runpod/{name}.json"))
    return definition


def runpod(name: str) -> Target:
    template = runpod_definition(name)["template"]
    port = int(template["ports"][0].removesuffix("/http")) if template["ports"] else None
    return Target(f"runpod/{name}", template["env"], port=port)


def filled_in(path: Any) -> str:
    """A file with its ${PLACEHOLDERS} filled in; one that has no example is a KeyError."""
    text: str = path.read_text()
    return Template(text.replace("${NAMES}", "NAMES")).substitute(FILLED_IN)


def _container_target(name: str, spec: Json, around: Mapping[str, str], grace_s: float) -> Target:
    (container,) = spec["containers"]
    (port,) = container["ports"]
    own = {item["name"]: item.get("value", KEY) for item in container.get("env", ())}
    probes = tuple(probe for kind in ("startup", "readiness", "liveness") if (probe := container.get(f"{kind}Probe")))
    return Target(name, {**around, **own}, port["containerPort"], probes, grace_s, spec.get("containerConcurrency"))
