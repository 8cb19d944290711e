"""The images under test, each built when first asked for, and what is measured of them."""

import subprocess
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

from images.workshop import Image, Workshop

# PyPI's torch would be the CUDA build, which brings Triton; the CPU build, which tests use, doesn't.
ARGUMENTS = {"gpu": {"PACKAGES": "triton==3.7.1"}}


class Shelf:
    """Owns the images until `blocks`, its caller's, are closed."""

    def __init__(self, workshop: Workshop, blocks: ExitStack) -> None:
        self._workshop, self._blocks = workshop, blocks
        self._images: dict[str, Image | subprocess.CalledProcessError] = {}
        self._base = blocks.enter_context(workshop.base())

    def image(self, name: str) -> Image:
        """Raises CalledProcessError if it can't be built, each time that it is asked for; it is tried once."""
        if name not in self._images:
            built = self._workshop.built(name, ARGUMENTS.get(name, {}))
            try:
                self._images[name] = self._blocks.enter_context(built)
            except subprocess.CalledProcessError as error:
                self._images[name] = error
        image = self._images[name]
        if isinstance(image, Image):
            return image
        raise image

    def baked(self, image: Image, folder: Path, model: str) -> AbstractContextManager[Image]:
        return self._workshop.baked(image, folder, model)

    def base_mb(self) -> float:
        return megabytes(self._base.root)

    def sizes_mb(self) -> dict[str, dict[str, float]]:
        """Of each image built so far what it has beyond the base, and its largest packages."""
        base = self.base_mb()
        return {
            name: {"beyond base": round(megabytes(image.root) - base, 1), **largest_packages(image)}
            for name, image in self._images.items()
            if isinstance(image, Image)
        }


def largest_packages(image: Image, num: int = 6) -> dict[str, float]:
    (packages,) = image.root.glob("opt/pagemill/lib/python3*/site-packages")
    sizes = {path.name: round(megabytes(path), 1) for path in packages.iterdir()}
    return dict(sorted(sizes.items(), key=lambda item: -item[1])[:num])


def megabytes(root: Path) -> float:
    """The content of files, in 10^6 bytes, each once however many names it has."""
    files = (path.lstat() for path in root.rglob("*") if path.is_file() and not path.is_symlink())
    return sum({(file.st_dev, file.st_ino): file.st_size for file in files}.values()) / 1e6
