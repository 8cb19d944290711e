"""The images under test, each built when first asked for and gone after the session; their sizes, printed and saved."""

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from images.workshop import Image, Workshop, why_not
from load_tests.report import save, table

SELECTED = "IMAGES_UNDER_TEST"  # names, with spaces between; set by `make images-test`
# PyPI's torch would be the CUDA build, which brings Triton; what this machine has of it is taken.
ARGUMENTS = {"gpu": {"PACKAGES": "triton==3.7.1"}}


class Shelf:
    """Builds images and keeps them. Owns the workshop's blocks, and what was measured."""

    def __init__(self, workshop: Workshop, blocks: ExitStack) -> None:
        self._workshop, self._blocks = workshop, blocks
        self._images: dict[str, Image] = {}
        self.base = workshop.base()

    def image(self, name: str) -> Image:
        if name not in os.environ[SELECTED].split():
            pytest.skip(f"{name} is not among {SELECTED}")
        if name not in self._images:
            built = self._workshop.built(name, ARGUMENTS.get(name, {}))
            self._images[name] = self._blocks.enter_context(built)
        return self._images[name]

    def sizes(self) -> dict[str, dict[str, float]]:
        """Of each image what it has beyond the base, and its largest parts, in MB."""
        base = megabytes(self.base.root)
        return {
            name: {"beyond base": round(megabytes(image.root) - base, 1), **parts(image)}
            for name, image in self._images.items()
        }


def parts(image: Image, num: int = 6) -> dict[str, float]:
    (packages,) = image.root.glob("opt/pagemill/lib/python3*/site-packages")
    sizes = {path.name: round(megabytes(path), 1) for path in packages.iterdir()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1])[:num])


def megabytes(root: Path) -> float:
    """The content of files, in 10^6 bytes, each once however many names it has."""
    files = (path.lstat() for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values()) / 1e6


@pytest.fixture(scope="session")
def shelf(request: pytest.FixtureRequest) -> Iterator[Shelf]:
    if SELECTED not in os.environ:
        pytest.skip("it builds images, which takes minutes: make images-test")
    if reason := why_not():
        pytest.fail(f"images can't be built here: {reason}")
    with ExitStack() as blocks:
        made = Shelf(Workshop(), blocks)
        yield made
        sizes = made.sizes()
        rows = [[name, f"{own['beyond base']:.1f}", largest(own)] for name, own in sizes.items()]
        report = table(["image", "MB beyond the base", "of it"], rows)
        request.config.get_terminal_writer().write(f"\n{report}\n")
        save("images", {"base_mb": round(megabytes(made.base.root), 1), "mb": sizes})


def largest(sizes: dict[str, float]) -> str:
    return ", ".join(f"{name} {size:.0f}" for name, size in sizes.items() if name != "beyond base")


@pytest.fixture
def built(shelf: Shelf) -> Callable[[str], Image]:
    return shelf.image


@pytest.fixture
def sizes(shelf: Shelf) -> Callable[[], dict[str, dict[str, float]]]:
    return shelf.sizes
