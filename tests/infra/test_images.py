"""What templates take for granted of the images that they run."""

import json
import re

import pytest

from support.targets import CLOUD_RUN, Target, cloud_run, kubernetes, manifests, runpod_definition
from support.validators import ROOT

SERVERS = ("cpu", "gpu")
CONTAINERS = [*map(cloud_run, CLOUD_RUN), *map(kubernetes, ("cpu", "gpu"))]


def instruction(image: str, name: str) -> str:
    """The last of that name in an image's Dockerfile."""
    text = (ROOT / "images" / image / "Dockerfile").read_text()
    found: str = re.findall(rf"^{name} (.+)$", text, re.MULTILINE)[-1]
    return found


@pytest.mark.parametrize("image", SERVERS)
def test_images_of_servers_take_serve_as_their_argument(image: str) -> None:
    """Kubernetes, Cloud Run and RunPod give it, and SageMaker gives nothing else."""
    assert json.loads(instruction(image, "ENTRYPOINT")) == ["pagemill"]
    assert runpod_definition("load-balancing")["template"]["dockerStartCmd"] == ["serve"]


def test_the_image_of_the_functions_is_the_bootstrap_process() -> None:
    assert json.loads(instruction("lambda-cpu", "ENTRYPOINT")) == ["python", "-m", "pagemill_handlers.aws_lambda"]


@pytest.mark.parametrize(
    "target", [*map(cloud_run, CLOUD_RUN), kubernetes("cpu"), kubernetes("gpu")], ids=lambda target: target.name
)
def test_containers_listen_on_the_port_that_images_expose(target: Target) -> None:
    assert target.port == int(instruction("cpu", "EXPOSE")) == int(instruction("gpu", "EXPOSE"))


@pytest.mark.parametrize("overlay", ["cpu", "gpu"])
def test_pods_run_as_the_user_of_their_image_and_it_may_write_its_home(overlay: str) -> None:
    (pods,) = (item["spec"]["template"]["spec"] for item in manifests(overlay) if item["kind"] == "Deployment")
    security = pods["securityContext"]
    assert instruction(overlay, "USER") == f"{security['runAsUser']}:{security['runAsGroup']}"
    (container,) = pods["containers"]
    assert instruction(overlay, "WORKDIR") in {mount["mountPath"] for mount in container["volumeMounts"]}
