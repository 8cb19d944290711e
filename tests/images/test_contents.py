"""What is in the images, and what is not: `make images-test` builds them and looks."""

import json
import stat
from collections.abc import Callable
from urllib.parse import quote

import pytest
from images.build import IMAGES
from images.workshop import Image

from pagemill import __version__
from support.running_image import output_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(3600),  # the first test that asks for an image builds it
]

COMPILERS = ("gcc", "g++", "cc", "c++", "clang", "as", "ld", "make", "cmake", "ninja", "cargo", "rustc")

Built = Callable[[str], Image]


@pytest.mark.parametrize("name", IMAGES)
def test_there_is_no_compiler_and_no_pip_of_ours(name: str, built: Built) -> None:
    image = built(name)
    for folder in image.environment["PATH"].split(":"):
        found = {path.name for path in (image.root / folder.lstrip("/")).glob("*")}
        assert not found & set(COMPILERS)
    assert not list(image.root.glob("opt/pagemill/lib/python3*/site-packages/pip"))


@pytest.mark.parametrize("name", IMAGES)
def test_all_files_are_readable_by_all_and_writable_by_none_but_root(name: str, built: Built) -> None:
    for path in (built(name).root / "opt/pagemill").rglob("*"):
        info = path.lstat()
        if not stat.S_ISLNK(info.st_mode):
            needed = 0o555 if path.is_dir() else 0o444
            assert info.st_mode & needed == needed, path
            assert not info.st_mode & 0o022, path
            assert (info.st_uid, info.st_gid) == (0, 0), path


@pytest.mark.parametrize("name", IMAGES)
def test_every_module_of_a_start_has_its_byte_code(name: str, built: Built) -> None:
    listed = "import sys, pagemill.bootstrap, pagemill.api.app, pagemill.cli.http_server;"
    listed += "print(*[module.__cached__ for module in sys.modules.values() if getattr(module, '__cached__', None)])"
    image = built(name)
    cached = output_of(image, "python", "-c", listed).split()
    assert len(cached) > 200
    for path in cached:
        assert (image.root / path.lstrip("/")).is_file(), path


@pytest.mark.parametrize("name", IMAGES)
def test_it_is_labelled_with_what_it_is(name: str, built: Built) -> None:
    labels = {key.rpartition(".")[2]: value for key, value in built(name).config["Labels"].items()}
    assert labels["title"] == f"pagemill-{name}"
    assert labels["version"] == __version__
    assert labels["licenses"] == "Apache-2.0"
    assert len(labels["revision"].removesuffix("-dirty")) == 40
    assert labels["created"].endswith("Z")


@pytest.mark.parametrize("name", IMAGES)
def test_its_bill_of_materials_lists_all_that_is_in_it(name: str, built: Built) -> None:
    image = built(name)
    bill = json.loads((image.root / "opt/pagemill/sbom.cdx.json").read_text())
    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.6")
    listed = {component["purl"].partition("?")[0] for component in bill["components"]}
    query = "from importlib.metadata import distributions as d; print(*{i.name + '@' + i.version for i in d()})"
    for package in output_of(image, "/opt/pagemill/bin/python", "-c", query).split():
        distribution, _, version = package.partition("@")
        assert f"pkg:pypi/{distribution.lower().replace('_', '-')}@{quote(version, safe='')}" in listed, package
    packages = output_of(image, "dpkg-query", "--show", "--showformat=${Package}@${Version} ").split()
    assert len(packages) > 50
    for package in packages:
        assert f"pkg:deb/debian/{quote(package, safe='@')}" in listed, package
