"""Triton's kernels run in its interpreter here: there need be no GPU, and `tests/gpu` is what a GPU is for.

Triton reads the variable when it is imported, so it is set before any test module of this folder is.
"""

import os
import sys
from collections.abc import Iterator

import pytest
import torch

if os.environ.get("TRITON_INTERPRET") != "1":
    if "triton" in sys.modules:
        raise pytest.UsageError(
            "triton was imported before tests/backends/paged/conftest.py could set TRITON_INTERPRET=1"
        )
    os.environ["TRITON_INTERPRET"] = "1"


@pytest.fixture
def one_thread() -> Iterator[None]:
    """For tiny tensors threads wait for each other longer than they compute, the longer the busier the machine."""
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(num_threads)
