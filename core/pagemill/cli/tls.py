"""HTTPS: the certificate settings, checked before anything is bound, and as uvicorn takes them. Owns no state."""

import ssl
from pathlib import Path
from typing import Any

from pagemill.errors import SettingsError
from pagemill.settings import Settings

CERT_REQS = {"none": ssl.CERT_NONE, "optional": ssl.CERT_OPTIONAL, "required": ssl.CERT_REQUIRED}
NEED_A_CERTIFICATE = ("ssl_keyfile", "ssl_keyfile_password", "ssl_ca_certs")


def check(settings: Settings) -> None:
    """Try the files.

    Raises:
        SettingsError: one can't be read or is wrong, or a setting lacks another; names them.
    """
    if settings.ssl_certfile is None:
        for name in NEED_A_CERTIFICATE:
            if getattr(settings, name) is not None:
                raise SettingsError(f"{name} is of use only with ssl_certfile, which is not set")
        if settings.ssl_cert_reqs != "none":
            raise SettingsError("ssl_cert_reqs is of use only with ssl_certfile, which is not set")
        return
    if settings.ssl_cert_reqs != "none" and settings.ssl_ca_certs is None:
        raise SettingsError(f"ssl_cert_reqs is {settings.ssl_cert_reqs!r}: name the authorities with ssl_ca_certs")
    for name in ("ssl_certfile", "ssl_keyfile", "ssl_ca_certs"):
        _check_readable(name, getattr(settings, name))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    key = settings.ssl_keyfile or settings.ssl_certfile
    try:
        # Without a password OpenSSL would ask for one on the terminal.
        context.load_cert_chain(settings.ssl_certfile, settings.ssl_keyfile, settings.ssl_keyfile_password or "")
    except ssl.SSLError as error:
        message = f"can't use the certificate {settings.ssl_certfile} with the key in {key}: {_reason(error)}"
        raise SettingsError(f"{message} (ssl_certfile, ssl_keyfile, ssl_keyfile_password)") from error
    if settings.ssl_ca_certs is not None:
        try:
            context.load_verify_locations(settings.ssl_ca_certs)
        except ssl.SSLError as error:
            raise SettingsError(
                f"no certificates in {settings.ssl_ca_certs} (ssl_ca_certs): {_reason(error)}"
            ) from error


def server_options(settings: Settings) -> dict[str, Any]:
    """What `uvicorn.Config` is told, if there is a certificate."""
    return {
        "ssl_certfile": settings.ssl_certfile,
        "ssl_keyfile": settings.ssl_keyfile,
        "ssl_keyfile_password": settings.ssl_keyfile_password,
        "ssl_ca_certs": settings.ssl_ca_certs,
        "ssl_cert_reqs": CERT_REQS[settings.ssl_cert_reqs],
    }


def _check_readable(name: str, path: str | None) -> None:
    if path is None:
        return
    try:
        with Path(path).open("rb"):
            pass
    except OSError as error:
        raise SettingsError(f"can't read {path} ({name}): {error.strerror}") from error


def _reason(error: ssl.SSLError) -> str:
    return (error.reason or "no PEM file, or a wrong password").replace("_", " ").lower()
