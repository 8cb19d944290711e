"""A module without its package: what is imported, and that the package can be had afterwards."""

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pagemill.partial_import import bare_package, import_without_package

PACKAGE = "a_package_for_partial_import"


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose `__init__` has a value, and a module that imports another one."""
    folder = tmp_path / PACKAGE
    folder.mkdir()
    (folder / "__init__.py").write_text("value = 'of the package'\n")
    (folder / "module.py").write_text(f"from {PACKAGE}.other import value\n")
    (folder / "borrower.py").write_text(f"from {PACKAGE} import value\n")
    (folder / "other.py").write_text("value = 'of the module'\n")
    (folder / "broken.py").write_text("import a_module_that_is_not_there\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


def test_the_module_is_imported_and_its_package_is_not() -> None:
    assert import_without_package(f"{PACKAGE}.module").value == "of the module"
    assert PACKAGE not in sys.modules


def test_the_package_can_be_imported_later_and_has_the_same_module() -> None:
    module = import_without_package(f"{PACKAGE}.module")
    assert importlib.import_module(PACKAGE).value == "of the package"
    assert importlib.import_module(f"{PACKAGE}.module") is module
    assert import_without_package(f"{PACKAGE}.module") is module


def test_a_package_that_is_there_stays() -> None:
    package = importlib.import_module(PACKAGE)
    import_without_package(f"{PACKAGE}.module")
    assert sys.modules[PACKAGE] is package


def test_several_modules_share_one_stand_in_that_can_be_given_what_they_look_for() -> None:
    with bare_package(PACKAGE) as package:
        package.value = "lent"
        borrower = importlib.import_module(f"{PACKAGE}.borrower")
        assert importlib.import_module(f"{PACKAGE}.module").value == "of the module"
    assert borrower.value == "lent"
    assert PACKAGE not in sys.modules
    assert importlib.import_module(PACKAGE).value == "of the package"


def test_a_package_that_is_there_needs_no_stand_in() -> None:
    package = importlib.import_module(PACKAGE)
    with bare_package(PACKAGE) as given:
        assert given is package
    assert sys.modules[PACKAGE] is package


@pytest.mark.parametrize(
    ("name", "missing"),
    [
        ("no_such_package.module", "no_such_package"),
        (f"{PACKAGE}.absent", f"{PACKAGE}.absent"),
        (f"{PACKAGE}.broken", "a_module_that_is_not_there"),
    ],
)
def test_what_is_missing_is_named_and_nothing_stays_behind(name: str, missing: str) -> None:
    with pytest.raises(ModuleNotFoundError) as raised:
        import_without_package(name)
    assert raised.value.name == missing
    assert PACKAGE not in sys.modules
