"""HTTPS: what is refused before the start, and a server that clients reach with its certificate."""

import ssl
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from pagemill.cli import tls
from pagemill.errors import SettingsError
from pagemill.settings import Settings
from support.served_process import clean_environment, served_process

PASSWORD = "open sesame"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Certificates of an authority of our own: for a server, for a client; and the key once more, encrypted."""
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    server = authority.issue_cert("127.0.0.1", "localhost")
    server.private_key_and_cert_chain_pem.write_to_path(str(folder / "both.pem"))
    server.private_key_pem.write_to_path(str(folder / "key.pem"))
    server.cert_chain_pems[0].write_to_path(str(folder / "cert.pem"))
    authority.issue_cert("client@example.com").private_key_and_cert_chain_pem.write_to_path(str(folder / "client.pem"))
    trustme.CA().issue_cert("other").private_key_pem.write_to_path(str(folder / "other-key.pem"))
    encrypt = ["openssl", "rsa", "-aes256", "-passout", f"pass:{PASSWORD}", "-in", "key.pem", "-out", "encrypted.pem"]
    if (folder / "key.pem").read_bytes().startswith(b"-----BEGIN EC"):
        encrypt[1] = "ec"
    subprocess.run(encrypt, cwd=folder, check=True, capture_output=True)
    (folder / "nonsense.pem").write_text("no PEM")
    return folder


def settings(folder: Path, **values: Any) -> Settings:
    """With names of files in the folder."""
    paths: dict[str, Any] = {
        key: str(folder / value) if str(value).endswith(".pem") else value for key, value in values.items()
    }
    return Settings(**paths)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"ssl_certfile": "both.pem"},
        {"ssl_certfile": "cert.pem", "ssl_keyfile": "key.pem"},
        {"ssl_certfile": "cert.pem", "ssl_keyfile": "encrypted.pem", "ssl_keyfile_password": PASSWORD},
        {"ssl_certfile": "both.pem", "ssl_ca_certs": "ca.pem", "ssl_cert_reqs": "required"},
    ],
)
def test_settings_that_fit_are_taken(folder: Path, values: dict[str, str]) -> None:
    tls.check(settings(folder, **values))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"ssl_keyfile": "key.pem"}, ["ssl_keyfile", "ssl_certfile"]),
        ({"ssl_cert_reqs": "required"}, ["ssl_cert_reqs", "ssl_certfile"]),
        ({"ssl_certfile": "both.pem", "ssl_cert_reqs": "required"}, ["ssl_cert_reqs", "ssl_ca_certs"]),
        ({"ssl_certfile": "missing.pem"}, ["missing.pem", "ssl_certfile", "No such file"]),
        ({"ssl_certfile": "cert.pem", "ssl_keyfile": "gone.pem"}, ["gone.pem", "ssl_keyfile"]),
        ({"ssl_certfile": "nonsense.pem"}, ["nonsense.pem"]),
        ({"ssl_certfile": "cert.pem"}, ["cert.pem"]),
        ({"ssl_certfile": "cert.pem", "ssl_keyfile": "other-key.pem"}, ["other-key.pem", "mismatch"]),
        ({"ssl_certfile": "cert.pem", "ssl_keyfile": "encrypted.pem"}, ["encrypted.pem", "password"]),
        (
            {"ssl_certfile": "cert.pem", "ssl_keyfile": "encrypted.pem", "ssl_keyfile_password": "wrong"},
            ["encrypted.pem", "ssl_keyfile_password"],
        ),
        ({"ssl_certfile": "both.pem", "ssl_ca_certs": "nonsense.pem"}, ["nonsense.pem", "ssl_ca_certs"]),
    ],
)
def test_what_does_not_fit_is_named(folder: Path, values: dict[str, str], words: list[str]) -> None:
    with pytest.raises(SettingsError) as caught:
        tls.check(settings(folder, **values))
    for word in words:
        assert word in str(caught.value)


def pagemill(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "pagemill", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean_environment())


@pytest.mark.slow
def test_a_server_with_a_certificate_speaks_https_to_who_trusts_it(folder: Path) -> None:
    with served_process("fake", "--port", "0", "--ssl-certfile", str(folder / "both.pem")) as served:
        assert served.address.startswith("https://127.0.0.1:")
        trusting = ssl.create_default_context(cafile=folder / "ca.pem")
        assert httpx.get(served.address + "/readyz", verify=trusting).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(served.address + "/readyz")
        listed = pagemill("ps", "--server", served.address, "--cacert", str(folder / "ca.pem"))
        assert listed.returncode == 0, listed.stderr
        assert "fake" in listed.stdout
        distrusting = pagemill("ps", "--server", served.address)
        assert f"the certificate of {served.address} is not trusted (--cacert names one)" in distrusting.stderr
        refused = pagemill("ps", "--server", served.address, "--cacert", str(folder / "nonsense.pem"))
        assert "nonsense.pem" in refused.stderr


@pytest.mark.slow
def test_a_server_can_demand_certificates_of_its_clients(folder: Path) -> None:
    flags = ["--ssl-certfile", str(folder / "both.pem"), "--ssl-ca-certs", str(folder / "ca.pem")]
    with served_process("fake", "--port", "0", *flags, "--ssl-cert-reqs", "required") as served:
        trusting = ssl.create_default_context(cafile=folder / "ca.pem")
        with pytest.raises(httpx.TransportError):
            httpx.get(served.address + "/readyz", verify=trusting)
        trusting.load_cert_chain(folder / "client.pem")
        assert httpx.get(served.address + "/readyz", verify=trusting).status_code == 200


@pytest.mark.slow
def test_a_wrong_certificate_ends_the_start_with_the_usage_code(folder: Path) -> None:
    ended = pagemill("serve", "fake", "--port", "0", "--ssl-certfile", str(folder / "nonsense.pem"))
    assert ended.returncode == 2
    assert "nonsense.pem" in ended.stderr
    assert "Traceback" not in ended.stderr
