"""What settings must be beyond their types: alone, and beside each other.

Owns no state. Called by `Settings` when each value has its type.
"""

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pagemill.errors import SettingsError

if TYPE_CHECKING:
    from pagemill.settings import Settings


def check_settings(settings: "Settings") -> None:
    """
    Raises:
        SettingsError: a value is wrong, or does not go with another; the message names the setting.
    """
    _check_texts(settings)
    _check_prefix_snapshots(settings)
    if settings.has_several_models:
        _check_what_is_of_one_model(settings)


def _check_texts(settings: "Settings") -> None:
    for name in ("api_key", "served_model_name"):
        if any(not text.strip() for text in getattr(settings, name)):
            raise SettingsError(f"{name} must not be empty")
    if settings.root_path and (not settings.root_path.startswith("/") or settings.root_path.endswith("/")):
        raise SettingsError(f"root_path must begin with / and not end with it, as /llm, got {settings.root_path!r}")
    for number, text in enumerate(settings.registry_tokens, 1):
        if not all(text.partition("=")) or not text.isascii() or not text.isprintable():
            raise SettingsError(f"registry_tokens: number {number} of them is not HOST=TOKEN")
    endpoint = settings.otlp_traces_endpoint
    if endpoint is not None and not _is_web_address(endpoint):
        raise SettingsError(f"otlp_traces_endpoint must be an address with http:// or https://, got {endpoint!r}")
    for origin in settings.allowed_origins:
        if origin not in ("*", "null") and "://" not in origin:
            raise SettingsError(f"allowed_origins must have a scheme, as https://{origin}, got {origin!r}")


def _is_web_address(text: str) -> bool:
    try:
        return urlsplit(text).scheme in ("http", "https") and bool(urlsplit(text).hostname)
    except ValueError:
        return False


def _check_prefix_snapshots(settings: "Settings") -> None:
    asked = settings.prefix_snapshot
    if "off" in asked and len(asked) > 1:
        raise SettingsError(f"prefix_snapshot: off goes with nothing else, got {', '.join(asked)}")
    if not settings.enable_prefix_caching and any(name not in ("auto", "off") for name in asked):
        raise SettingsError(f"prefix_snapshot ({', '.join(asked)}) needs enable_prefix_caching, which is off")


def _check_what_is_of_one_model(settings: "Settings") -> None:
    for name in ("chat_template", "model_sha256"):
        if getattr(settings, name) is not None:
            raise SettingsError(f"{name} is of one model, and there may be several; serve that one alone")
    if not set(settings.prefix_snapshot) <= {"auto", "off"}:
        raise SettingsError(
            f"prefix_snapshot ({', '.join(settings.prefix_snapshot)}): with several models each has the one beside it"
        )
    if settings.served_model_name and not settings.names_model:
        raise SettingsError(
            f"served_model_name ({', '.join(settings.served_model_name)}) names MODEL, and there is none"
        )
