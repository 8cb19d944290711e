"""Triton's cache in two layers: what was built ahead, beside the package and read-only, and what a process compiles.

    python -m pagemill.backends.paged.triton_cache

Triton compiles its kernels itself, but the C module by which it talks to the driver needs a compiler and Python's
headers, which an image does not have when it runs. The command builds that module ahead; TRITON_CACHE_MANAGER=
pagemill.backends.paged.triton_cache:LayeredCacheManager has Triton find it. Owns the folder `PREBUILT`. Needs no GPU.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from triton import knobs
from triton.backends.nvidia import driver
from triton.runtime.build import compile_module_from_src
from triton.runtime.cache import FileCacheManager

from pagemill.backends.paged.native.build import PREBUILT as PREBUILT_KERNELS
from pagemill.backends.paged.native.build import find_compiler

PREBUILT = PREBUILT_KERNELS / "triton"
CUDA = "libcuda.so.1"


class LayeredCacheManager(FileCacheManager):  # type: ignore[misc]
    """Looks in the process's own cache first, then among what was built ahead; writes only to the first."""

    def get_file(self, filename: str) -> str | None:
        own: str | None = super().get_file(filename)
        if own is not None:
            return own
        prebuilt = PREBUILT / self.key / filename
        return str(prebuilt) if prebuilt.is_file() else None


def build_driver_module() -> None:
    """Compile Triton's driver module into `PREBUILT`, under the key by which Triton will ask for it.

    Raises:
        BuildError: there is no C compiler.
        subprocess.CalledProcessError: it failed.
    """
    source = (Path(driver.dirname) / "driver.c").read_text()
    knobs.cache.dir = str(PREBUILT)
    with tempfile.TemporaryDirectory() as scratch:
        _stand_in_for_cuda(scratch)
        # The finished module is imported, without a driver whose functions it could be bound to.
        sys.setdlopenflags(os.RTLD_LAZY)
        compile_module_from_src(
            source, "cuda_utils", [driver.libdevice_dir, scratch], driver.include_dirs, driver.libraries
        )


def _stand_in_for_cuda(folder: str) -> None:
    """An empty library by the name of CUDA's driver, which a machine without a GPU lacks; linking asks for no more."""
    path = str(Path(folder) / CUDA)
    command = [find_compiler(), "-shared", "-x", "c", "/dev/null", f"-Wl,-soname,{CUDA}", "-o", path]
    subprocess.run(command, check=True)
    ctypes.CDLL(path)


if __name__ == "__main__":
    build_driver_module()
