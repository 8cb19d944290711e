"""Pagemill as an app of Modal's: `modal deploy -m pagemill_handlers.modal_app`.

Modal imports this module twice, where it is deployed from and in each container, and wants to find the app in it; so
this import, as an exception, makes something: a description, from PAGEMILL_MODAL_* variables. All PAGEMILL_* variables
of the deploying machine travel to the containers, as a secret. The URL is public: without keys of ours, Modal's proxy
asks for its own.
"""

import os
from collections.abc import Mapping
from typing import Any

import modal
from starlette.applications import Starlette

from pagemill.errors import SettingsError
from pagemill.settings import Settings
from pagemill.settings_layers import ENVIRONMENT_PREFIX, load_settings
from pagemill.validated import Validated, field
from pagemill_handlers.logs import configure_logging
from pagemill_handlers.variables import read_variables

PREFIX = "PAGEMILL_MODAL_"
KEY_VARIABLE = "PAGEMILL_API_KEY"
VOLUME_PATH = "/models"
DEFAULT_MAX_INPUTS = 16  # as many sequences as the gguf backend runs at once, left alone


class ModalSettings(Validated):
    """What Modal is to give. Units are in the names."""

    app_name: str = field("pagemill", description="name of the app")
    image: str | None = field(None, description="image in a registry that has Pagemill and its Python on its path")
    registry_secret: str | None = field(None, description="Modal's secret with the registry's credentials")
    secret: str | None = field(None, description="Modal's secret with further variables, PAGEMILL_API_KEY among them")
    volume: str | None = field(None, description=f"Modal's volume with models, mounted at {VOLUME_PATH}")
    gpu: str | None = field(None, description="kind of GPU, as L4, or several, as H100:2 (default: none)")
    cpu: float = field(4, gt=0, description="CPU cores")
    memory_mib: int = field(8192, ge=128, description="memory")
    min_containers: int = field(0, ge=0, description="containers that stay when nobody asks")
    max_containers: int | None = field(None, ge=1, description="most containers (default: Modal's limit)")
    scaledown_window_s: int = field(60, ge=2, le=1200, description="time that an idle container stays")
    startup_timeout_s: int = field(600, ge=1, description="longest time that a container may take to start")
    timeout_s: int = field(600, ge=1, le=86400, description="longest time that a request may take")


def function_options(own: ModalSettings, environment: Mapping[str, str]) -> dict[str, Any]:
    """What `modal.App.function` is told.

    Raises:
        SettingsError: there is no image.
    """
    if own.image is None:
        raise SettingsError(f"{PREFIX}IMAGE: name an image with Pagemill inside, as one built from images/gpu")
    variables: dict[str, str | None] = {
        name: value for name, value in environment.items() if name.startswith(ENVIRONMENT_PREFIX)
    }
    secrets = [modal.Secret.from_dict(variables), *([modal.Secret.from_name(own.secret)] if own.secret else [])]
    registry_secret = modal.Secret.from_name(own.registry_secret) if own.registry_secret else None
    return {
        "image": modal.Image.from_registry(own.image, secret=registry_secret).entrypoint([]),
        "secrets": secrets,
        "volumes": {VOLUME_PATH: modal.Volume.from_name(own.volume).read_only()} if own.volume else {},
        "gpu": own.gpu,
        "cpu": own.cpu,
        "memory": own.memory_mib,
        "min_containers": own.min_containers,
        "max_containers": own.max_containers,
        "scaledown_window": own.scaledown_window_s,
        "startup_timeout": own.startup_timeout_s,
        "timeout": own.timeout_s,
    }


def needs_proxy_auth(own: ModalSettings, settings: Settings) -> bool:
    """Whether Modal must ask callers for a key, since Pagemill is not going to."""
    return not _has_keys(settings) and own.secret is None


def _has_keys(settings: Settings) -> bool:
    return bool(settings.api_key or settings.api_key_file)


_own = read_variables(ModalSettings, PREFIX)
_settings = load_settings({})
app = modal.App(_own.app_name)


@app.function(**function_options(_own, os.environ))
@modal.concurrent(max_inputs=_settings.max_num_seqs or DEFAULT_MAX_INPUTS)
@modal.asgi_app(requires_proxy_auth=needs_proxy_auth(_own, _settings))
def serve() -> Starlette:
    """In a container: the app, whose model is loading. Modal runs its lifespan; the first request waits for it."""
    from pagemill.bootstrap import build_app, build_pool

    if _own.secret is not None and not _has_keys(_settings):
        raise SettingsError(f"{KEY_VARIABLE}: the secret {_own.secret} must have it, since anyone can reach the URL")
    configure_logging(_settings.log_level)
    return build_app(_settings, build_pool(_settings, load_at_once=True))
