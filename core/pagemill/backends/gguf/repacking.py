"""Which weights llama.cpp lays out anew for the CPU's matrix products. Owns no state; may not import llama_cpp.

While the file is mapped both layouts are in memory. As its ggml/src/ggml-cpu/repack.cpp and amx/amx.cpp choose, by the
CPU's features; a library that was built for less lays out fewer.
"""

import platform
from collections.abc import Iterator, Sequence, Set
from typing import NamedTuple

from pagemill.backends.gguf.metadata import TensorExtent
from pagemill.machine import cpu_features

F16, Q4_0, Q4_1, Q8_0, Q2_K, Q4_K, Q5_K, Q6_K, IQ4_NL, IQ4_XS, MXFP4 = 1, 2, 3, 8, 10, 12, 13, 14, 20, 23, 39
LOOKED_UP = ("token_embd.", "position_embd.", "token_types.", "per_layer_token_embd.")  # rows are, not products
ARM = ("arm64", "aarch64")


class Kernels(NamedTuple):
    """Types that some kernels want in their own layout, of matrices with a multiple of so many rows."""

    kinds: Set[int]
    num_rows: int
    experts: bool = True  # also the stacked ones of a mixture of experts


def copied_bytes(tensors: Sequence[TensorExtent], *, mapped: bool) -> int:
    """What second layouts take. Of a file that is not mapped, only an embedding that is also the head has one."""
    is_tied = not any(tensor.name == "output.weight" for tensor in tensors)
    kernels = list(_kernels(platform.machine(), cpu_features()))
    total = 0
    for tensor in tensors:
        is_head_too = is_tied and tensor.name == "token_embd.weight"
        if is_head_too or (mapped and not tensor.name.startswith(LOOKED_UP)):
            total += tensor.num_bytes * any(_takes(kernel, tensor) for kernel in kernels)
    return total


def _takes(kernels: Kernels, tensor: TensorExtent) -> bool:
    is_matrix = len(tensor.shape) == 2 or (len(tensor.shape) == 3 and kernels.experts)
    return is_matrix and tensor.kind in kernels.kinds and tensor.shape[1] % kernels.num_rows == 0


def _kernels(machine: str, features: Set[str]) -> Iterator[Kernels]:
    if machine.lower() in ARM:
        yield Kernels({Q4_0, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL, MXFP4}, 4)
        return
    if "avx2" in features or not features:
        yield Kernels({Q4_0, Q4_K, IQ4_NL, MXFP4}, 8)
    if "avx512f" in features:
        yield Kernels({Q2_K}, 8)
    if "amx_int8" in features:
        yield Kernels({F16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_XS}, 32, experts=False)
