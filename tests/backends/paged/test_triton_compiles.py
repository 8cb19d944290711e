"""Triton's interpreter takes what its compiler refuses; the compiler needs no GPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton", reason="triton is made for Linux on x86-64 only")
TESTS = Path(__file__).parents[2]
SHARED_BYTES_OF_AN_SM_86 = 99 << 10  # the smallest of what Ampere and later give a block


@pytest.mark.slow
def test_every_kernel_compiles_for_an_h100_without_spilling(tmp_path: Path) -> None:
    environment = {**os.environ, "TRITON_CACHE_DIR": str(tmp_path)}
    environment.pop("TRITON_INTERPRET")
    run = subprocess.run(
        [sys.executable, "-m", "support.compile_kernels"], cwd=TESTS, env=environment, capture_output=True, text=True
    )
    assert run.returncode == 0, run.stderr
    kernels = json.loads(run.stdout)
    assert {kernel["kernel"] for kernel in kernels} == {
        "write_pages_kernel",
        "decode_kernel",
        "reduce_splits_kernel",
        "prefill_kernel",
        "rms_norm_kernel",
        "add_rms_norm_kernel",
        "rotate_kernel",
        "gated_activation_kernel",
    }
    for kernel in kernels:
        assert kernel["stack_bytes"] == 0, kernel
        assert kernel["shared_bytes"] <= SHARED_BYTES_OF_AN_SM_86, kernel
        if kernel["kernel"] in ("decode_kernel", "prefill_kernel"):
            assert kernel["matrix_instructions"] > 0, kernel
            assert kernel["wide_copies"] > 0, kernel
