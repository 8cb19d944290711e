"""The images under test, gone after the session; their sizes, printed and saved."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from images.workshop import Image, Workshop, why_not
from load_tests.report import save, table

from support.image_shelf import Shelf

SELECTED = "IMAGES_UNDER_TEST"  # names, with spaces between; set by `make images-test`
REPORT = pytest.StashKey[str]()


@pytest.fixture(scope="session")
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    if SELECTED not in os.environ:
        pytest.skip("it builds images, which takes minutes: make images-test")
    if reason := why_not():
        pytest.fail(f"images can't be built here: {reason}")
    with ExitStack() as blocks:
        made = Shelf(Workshop(), blocks)
        yield made
        if sizes := made.sizes_mb():
            request.config.stash[REPORT] = report(sizes)
            save("images", {"base_mb": round(made.base_mb(), 1), "mb": sizes})


@pytest.fixture
def built(shelf: Shelf) -> Callable[[str], Image]:
    def image(name: str) -> Image:
        if name not in os.environ[SELECTED].split():
            pytest.skip(f"{name} is not among {SELECTED}")
        return shelf.image(name)

    return image


def report(sizes: dict[str, dict[str, float]]) -> str:
    def packages(own: dict[str, float]) -> str:
        return ", ".join(f"{name} {size:.0f}" for name, size in own.items() if name != "beyond base")

    rows = [[name, f"{own['beyond base']:.1f}", packages(own)] for name, own in sizes.items()]
    return table(["image", "MB beyond the base", "of it"], rows)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if sizes := config.stash.get(REPORT, None):
        terminalreporter.section("images")
        terminalreporter.write_line(sizes)
