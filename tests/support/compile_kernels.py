"""Compile every Triton kernel as its caller launches it, for an H100, on a machine without a GPU; print JSON.

A program of its own: in a process where Triton interprets, nothing is compiled. `python -m support.compile_kernels`.
"""

import json
import re
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime.jit import JITFunction

from pagemill.backends.paged.attention.base import AttentionSpec, LayerKV
from pagemill.backends.paged.attention.triton_attention import TritonAttention
from pagemill.backends.paged.ops.triton_ops import TritonOps
from support.attention_cases import Shape, make_case

CPU = torch.device("cpu")
CUOBJDUMP = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"


class Hopper:
    """The driver of a GPU that is not there: it says what to compile for."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def main() -> None:
    compiled: list[dict[str, object]] = []
    triton.runtime.driver.set_active(Hopper())
    launch = JITFunction.run

    def compile_only(kernel: Any, *args: object, grid: object, warmup: bool, **options: object) -> None:
        compiled.append(facts(launch(kernel, *args, grid=grid, warmup=True, **options)))

    JITFunction.run = compile_only
    attend()
    operate()
    print(json.dumps(compiled))


def attend() -> None:
    mixed = Shape(decodes=(1, 90), prefills=((40, 60),), num_heads=8, head_dim=128, dtype=torch.bfloat16, strided=True)
    case = make_case(mixed)
    attention = TritonAttention(CPU, decode_programs=264)
    arguments = (case.query, case.key, case.value)
    for spec in (AttentionSpec(0.1), AttentionSpec(0.1, sliding_window=4096, soft_cap=50.0)):
        attention(spec, *arguments, case.kv, case.batch)
    TritonAttention(CPU, decode_programs=1)(spec, *arguments, case.kv, case.batch)
    fp8 = LayerKV(*(pages.to(torch.float8_e4m3fn) for pages in case.kv))
    attention(AttentionSpec(0.1), *arguments, fp8, case.batch)


def operate() -> None:
    ops = TritonOps(CPU)
    x, weight = torch.empty(2, 4096, dtype=torch.bfloat16), torch.empty(4096, dtype=torch.bfloat16)
    fused = torch.empty(2, 48, 128, dtype=torch.bfloat16)
    ops.rms_norm(x, weight, 1e-5)
    ops.rms_norm(fused[:, :32], weight[:128], 1e-5)
    ops.add_rms_norm(x, x, weight, 1e-5)
    ops.rotate(fused[:, :32], fused[:, 32:40], torch.zeros(2, dtype=torch.long), torch.empty(8, 128))
    ops.gated_activation(x, "silu")
    ops.gated_activation(x, "gelu_tanh")
    ops.gated_activation(x, "gelu")


def facts(kernel: Any) -> dict[str, object]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        usage = subprocess.run([CUOBJDUMP, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = re.search(r"REG:(\d+) STACK:(\d+)", usage)
    assert found is not None, usage
    ptx = kernel.asm["ptx"]
    return {
        "kernel": kernel.metadata.name,
        "registers": int(found[1]),
        "stack_bytes": int(found[2]),
        "shared_bytes": kernel.metadata.shared,
        "matrix_instructions": ptx.count("wgmma.mma_async") + ptx.count("mma.sync"),
        "wide_copies": ptx.count("cp.async.cg.shared.global"),
    }


if __name__ == "__main__":
    main()
