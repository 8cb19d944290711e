"""Triton's kernels run in its interpreter in all tests: there need be no GPU, and `tests/gpu` is what a GPU is for.

Triton reads the variable when it is imported, which torch's compiler and transformers do, so it is set before any test
module is.
"""

import os

os.environ["TRITON_INTERPRET"] = "1"
