"""What a container's platform says in its own way (variables, a folder), as settings that hold where ours say nothing.

Owns no state. Knative, Cloud Run and RunPod name the port by PORT; RunPod names that of the probes by PORT_HEALTH, and
waits through a 204 but not a 503 ("Load balancing endpoints" in RunPod's documentation); SageMaker mounts the model at
/opt/ml/model and asks on port 8080, or on SAGEMAKER_BIND_TO_PORT ("Custom inference code with hosting services"). None
of them sets the address: a PORT in a laptop's shell must not open a server to its network, so images set PAGEMILL_HOST.
"""

from collections.abc import Mapping
from pathlib import Path

from pagemill.settings_layers import Fallback

# Where two name one setting the latter wins: an image may well have a PORT of its own.
VARIABLES = {"PORT": "port", "SAGEMAKER_BIND_TO_PORT": "port", "PORT_HEALTH": "health_port"}
RUNPOD_VARIABLE = "RUNPOD_ENDPOINT_ID"  # set on every worker of a RunPod endpoint
RUNPOD_LOADING_STATUS = 204
SAGEMAKER_MODEL = Path("/opt/ml/model")
SAGEMAKER_PORT = 8080


def container_settings(
    environment: Mapping[str, str], sagemaker_model: Path = SAGEMAKER_MODEL
) -> Mapping[str, Fallback]:
    """The settings that the platform gives, by field name."""
    found: dict[str, Fallback] = {}
    model = _model_in(sagemaker_model)
    if model is not None:
        found["model"] = Fallback(str(model), f"the folder {sagemaker_model}")
        found["port"] = Fallback(SAGEMAKER_PORT, f"the folder {sagemaker_model}")
    for variable, name in VARIABLES.items():
        if environment.get(variable):
            found[name] = Fallback(environment[variable], variable)
    if environment.get(RUNPOD_VARIABLE):
        found["ping_loading_status"] = Fallback(RUNPOD_LOADING_STATUS, RUNPOD_VARIABLE)
    return found


def _model_in(folder: Path) -> Path | None:
    """A folder that holds one GGUF file and no model folder's files stands for that file. Any other that is not empty
    is the model itself: if it is none, its load says why.
    """
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError:
        return None
    gguf = [name for name in names if name.endswith(".gguf")]
    if len(gguf) == 1 and "config.json" not in names:
        return folder / gguf[0]
    return folder if names else None
