"""Building and running images without a Docker engine or a registry: buildah on a store of its own, under build/images.

Debian's own packages make the base (mmdebstrap), and buildah builds in chroots. Needs root and the Debian packages
buildah and mmdebstrap. Owns the folder `build/images`: the base, compiled wheels and pip's downloads are kept there,
images only within a block.
"""

import json
import os
import shutil
import subprocess
import sys
from ast import literal_eval
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from images.build import ROOT, build_arguments

FOLDER = ROOT / "build/images"
SUITE = "bookworm"
PACKAGES = ("python3", "python3-venv", "ca-certificates")
BASE = f"localhost/base:{SUITE}"
CERTIFICATES = Path("/etc/ssl/certs")
NEEDED = ("buildah", "mmdebstrap", "unshare")


@dataclass(frozen=True, slots=True)
class Image:
    """A built image, mounted; `config` as in the image's OCI configuration."""

    name: str
    root: Path
    config: Mapping[str, Any]

    @property
    def environment(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.config.get("Env", ()))


def why_not() -> str | None:
    """What this machine lacks for it, or None."""
    if os.geteuid() != 0:
        return "it takes root to mount and chroot"
    missing = [program for program in NEEDED if shutil.which(program) is None]
    return f"not on the PATH: {', '.join(missing)}" if missing else None


class Workshop:
    """The store. Images are built on `base`, within its block; what `built` and `baked` yield is gone after theirs."""

    def __init__(self, folder: Path = FOLDER) -> None:
        self._folder = folder

    @contextmanager
    def base(self) -> Iterator[Image]:
        """The base image, mounted, made if it is not there yet: Debian with Python, like python:slim."""
        self._buildah("rm", "--all")  # what a run that was killed has left
        self._buildah("rmi", "--prune")
        if not self._buildah("images", "--quiet", "--filter", f"reference={BASE}").strip():
            self._make_base()
        container = self._buildah("from", "--pull=false", BASE).strip()
        try:
            yield self._mounted(BASE, container)
        finally:
            self._buildah("rm", container)

    def _make_base(self) -> None:
        archive = self._folder / f"{SUITE}.tar"
        self._folder.mkdir(parents=True, exist_ok=True)
        if not archive.exists():
            partial = archive.with_suffix(".partial.tar")
            command = ["mmdebstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, str(partial)]
            subprocess.run(command, check=True)
            partial.rename(archive)
        container = self._buildah("from", "scratch").strip()
        self._buildah("add", "--quiet", container, str(archive), "/")
        self._buildah("commit", "--quiet", "--rm", container, BASE)

    def built(self, image: str, arguments: Mapping[str, str]) -> AbstractContextManager[Image]:
        """The image from its Dockerfile, with this machine's settings of pip; removed with the block."""
        settings = _pip_settings()
        index = {"INDEX": settings.pop("index-url")} if "index-url" in settings else {}
        tag = f"localhost/pagemill:{image}"
        options = build_arguments(image, tag, {"BASE": BASE, **index, **arguments})
        return self._built(tag, [*self._volumes(settings), *options])

    def baked(self, image: Image, folder: Path, model: str) -> AbstractContextManager[Image]:
        """The image with a model of the folder, by baked.Dockerfile; removed with the block."""
        tag, dockerfile = f"{image.name}-baked", ROOT / "images/baked.Dockerfile"
        arguments = [f"--build-arg=IMAGE={image.name}", f"--build-arg=MODEL={model}"]
        return self._built(tag, [*arguments, "--file", str(dockerfile), "--tag", tag, str(folder)])

    @contextmanager
    def _built(self, tag: str, options: Sequence[str]) -> Iterator[Image]:
        self._buildah("build", "--isolation=chroot", "--layers=false", *options, capture=False)
        container = self._buildah("from", "--pull=false", tag).strip()
        try:
            yield self._mounted(tag, container)
        finally:
            self._buildah("umount", container)
            self._buildah("rm", container)
            self._buildah("rmi", "--force", tag)

    def _volumes(self, pip_settings: Mapping[str, str]) -> list[str]:
        """Options that give the build's RUN commands this machine's settings of pip, and what they name."""
        file = self._folder / "pip.conf"
        file.write_text("[global]\n" + "".join(f"{name} = {value}\n" for name, value in pip_settings.items()))
        paths = {CERTIFICATES, *(path for path in _local_paths(pip_settings) if not path.is_relative_to(CERTIFICATES))}
        binds = [f"{file}:/etc/pip.conf:ro", *(f"{path}:{path}:ro" for path in sorted(paths))]
        return [part for bind in binds for part in ("--volume", bind)]

    def _mounted(self, tag: str, container: str) -> Image:
        described = json.loads(self._buildah("inspect", "--type", "image", tag))
        return Image(tag, Path(self._buildah("mount", container).strip()), described["OCIv1"]["config"])

    def _buildah(self, *arguments: str, capture: bool = True) -> str:
        """Raises CalledProcessError; what it says goes to this process's stderr."""
        command = ["buildah", "--storage-driver=vfs", f"--root={self._folder / 'store'}", *arguments]
        command.insert(1, f"--runroot={self._folder / 'run'}")
        scratch = self._folder / "tmp"  # buildah keeps its cache mounts there
        scratch.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, "TMPDIR": str(scratch)}
        stdout = subprocess.PIPE if capture else None
        return subprocess.run(command, check=True, stdout=stdout, text=True, env=environment).stdout or ""


def _pip_settings() -> dict[str, str]:
    """This machine's, from its files and its environment: where packages come from, in whose certificates to trust."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    pairs = (line.split("=", 1) for line in listed.splitlines())
    return {key.rpartition(".")[2]: " ".join(str(literal_eval(value)).split()) for key, value in pairs}


def _local_paths(settings: Mapping[str, str]) -> set[Path]:
    """The files and folders that pip's settings name; of an index the folder above, where its files may be."""
    words = [word for value in settings.values() for word in value.split() if word.startswith(("/", "file:///"))]
    paths = (Path(url2pathname(urlsplit(word).path)) for word in words)
    return {path.parent if path.name == "simple" else path for path in paths if path.exists()}
