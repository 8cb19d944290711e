"""Triton's kernels run in its interpreter here: there need be no GPU, and `tests/gpu` is what a GPU is for.

Triton reads the variable when it is imported, so it is set before any test module of this folder is.
"""

import os
import sys

import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    if "triton" in sys.modules:
        raise pytest.UsageError(
            "triton was imported before tests/backends/paged/conftest.py could set TRITON_INTERPRET=1"
        )
    os.environ["TRITON_INTERPRET"] = "1"
