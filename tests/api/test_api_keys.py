"""Keys from settings and from a file, and what happens when the file changes."""

import logging
import os
from pathlib import Path

import pytest

from pagemill.api.api_keys import ApiKeys
from pagemill.errors import SettingsError
from support.api_server import Serve


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "keys"
    write(path, "# of the team\nsk-ann\n\n  sk-bob  \n")
    return path


def write(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o600)
    later = path.stat().st_mtime_ns + 1_000_000  # however coarse the file system's clock
    os.utime(path, ns=(later, later))


def test_keys_of_settings_and_file_open_and_others_do_not(file: Path) -> None:
    keys = ApiKeys(("sk-given",), str(file))
    ids = {keys.identify(key) for key in (b"sk-given", b"sk-ann", b"sk-bob")}
    assert None not in ids
    assert len(ids) == 3
    assert keys.identify(b"# of the team") is None
    assert keys.identify(b"") is None
    assert keys.identify(b"sk-an") is None


def test_an_id_does_not_hold_the_key() -> None:
    key_id = ApiKeys(("sk-given",)).identify(b"sk-given")
    assert key_id is not None
    assert "given" not in key_id


def test_a_changed_file_is_read_again(file: Path) -> None:
    keys = ApiKeys((), str(file))
    write(file, "sk-new\n")
    assert keys.identify(b"sk-new") is not None
    assert keys.identify(b"sk-ann") is None


@pytest.mark.parametrize("text", ["", "# none\n"])
def test_a_file_that_becomes_empty_leaves_the_keys_and_is_reported_once(
    file: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    keys = ApiKeys((), str(file))
    write(file, text)
    for _ in range(3):
        assert keys.identify(b"sk-ann") is not None
    assert [record.levelno for record in caplog.records] == [logging.ERROR]
    assert str(file) in caplog.text


def test_a_file_that_goes_and_comes_again_is_read(file: Path) -> None:
    keys = ApiKeys((), str(file))
    file.unlink()
    assert keys.identify(b"sk-ann") is not None
    write(file, "sk-new\n")
    assert keys.identify(b"sk-ann") is None
    assert keys.identify(b"sk-new") is not None


def test_a_file_that_everybody_can_read_is_warned_of(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    file.chmod(0o644)
    ApiKeys((), str(file))
    assert "everybody" in caplog.text
    assert "sk-" not in caplog.text


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "no key"), (b"# none", "no key"), (b"\xff\xfe", "UTF-8"), (None, "No such file")]
)
def test_a_file_that_gives_no_key_is_refused_at_the_start(file: Path, content: bytes | None, reason: str) -> None:
    file.unlink()
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(SettingsError, match=reason) as caught:
        ApiKeys((), str(file))
    assert str(file) in str(caught.value)


def test_a_server_takes_keys_from_a_file_and_logs_their_ids(
    file: Path, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(api_key_file=str(file))
    with caplog.at_level(logging.DEBUG):
        assert server.get("/v1/models").status_code == 401
        assert server.get("/v1/models", headers={"authorization": "Bearer sk-bob"}).status_code == 200
        write(file, "sk-carl\n")
        assert server.get("/v1/models", headers={"authorization": "Bearer sk-bob"}).status_code == 401
        assert server.get("/v1/models", headers={"authorization": "Bearer sk-carl"}).status_code == 200
    assert f"key={ApiKeys(('sk-bob',)).identify(b'sk-bob')}" in caplog.text
    assert "sk-" not in caplog.text
