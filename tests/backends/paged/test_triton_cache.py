"""Triton finds its driver module where there is no compiler, if it was built ahead."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

BUILD = """
import sys
from pathlib import Path
from pagemill.backends.paged import triton_cache
triton_cache.PREBUILT = Path(sys.argv[1])
triton_cache.build_driver_module()
"""
# As Triton's own driver does at the first kernel. What stands in for CUDA's library stays loaded: there is no GPU.
USE = """
import ctypes, os, sys, tempfile
from pathlib import Path
from triton import knobs
from triton.backends.nvidia import driver
from pagemill.backends.paged import triton_cache
from triton.runtime.build import compile_module_from_src
triton_cache.PREBUILT = Path(sys.argv[1])
with tempfile.TemporaryDirectory() as scratch:
    triton_cache._stand_in_for_cuda(scratch)
sys.setdlopenflags(os.RTLD_LAZY)
os.environ["CC"] = "/bin/false"
source = (Path(driver.dirname) / "driver.c").read_text()
module = compile_module_from_src(source, "cuda_utils", [], driver.include_dirs, driver.libraries)
assert module.launch
print(knobs.cache.manager_class.__name__, module.__file__)
"""


def run(program: str, prebuilt: Path, own: Path) -> "subprocess.CompletedProcess[str]":
    environment = {
        **os.environ,
        "TRITON_CACHE_DIR": str(own),
        "TRITON_CACHE_MANAGER": "pagemill.backends.paged.triton_cache:LayeredCacheManager",
    }
    command = [sys.executable, "-c", program, str(prebuilt)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)


@pytest.mark.slow
def test_the_driver_module_that_was_built_ahead_is_used_without_a_compiler(tmp_path: Path) -> None:
    prebuilt, own = tmp_path / "prebuilt", tmp_path / "own"
    without = run(USE, prebuilt, own)
    assert "/bin/false" in without.stderr, "it was not compiled, so this test shows nothing"

    built = run(BUILD, prebuilt, own)
    assert built.returncode == 0, built.stderr
    for path in prebuilt.rglob("*"):
        path.chmod(0o555)

    used = run(USE, prebuilt, own)
    assert used.returncode == 0, used.stderr
    assert used.stdout.split()[0] == "LayeredCacheManager"
    assert used.stdout.split()[1].startswith(str(prebuilt))
