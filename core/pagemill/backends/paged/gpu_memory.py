"""How much of a GPU's memory is taken, and left for pages: the largest step is run once to see. Owns no state."""

import gc
from logging import getLogger
from typing import NamedTuple

import torch

from pagemill.backends.paged.attention.base import AttentionBatch, Prefill
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.model import PagedModel

logger = getLogger(__name__)

MIB = 2**20


class DeviceBytes(NamedTuple):
    """Of the GPU's memory: all of it, and what all processes have taken."""

    total: int
    taken: int


def device_bytes() -> DeviceBytes:
    free, total = torch.cuda.mem_get_info()
    return DeviceBytes(total, total - free)


def kv_bytes_left(
    model: PagedModel,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    block_size: int,
    kv_dtype: torch.dtype,
    utilization: float,
    device: torch.device,
) -> int:
    """Bytes for pages if this process is to take the fraction `utilization` of the device's memory in all. May be
    negative: then the model alone takes more.
    """
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    _run_largest_step(model, max_num_seqs, max_num_batched_tokens, block_size, kv_dtype, device)
    torch.cuda.synchronize(device)
    peak = torch.cuda.max_memory_allocated(device)
    gc.collect()
    torch.cuda.empty_cache()
    free, total = torch.cuda.mem_get_info(device)
    others = total - free - torch.cuda.memory_reserved(device)  # CUDA's context, kernels, and other processes
    logger.info(
        "GPU memory: %.0f MiB, %.0f%% of it may be taken; weights and the largest step take %.0f MiB, others %.0f MiB",
        total / MIB,
        utilization * 100,
        peak / MIB,
        others / MIB,
    )
    return int(total * utilization) - peak - others


@torch.inference_mode()
def _run_largest_step(
    model: PagedModel,
    max_num_seqs: int,
    num_tokens: int,
    block_size: int,
    kv_dtype: torch.dtype,
    device: torch.device,
) -> None:
    """One prompt that fills a step, then the logits of as many rows as there may be sequences."""
    num_blocks = -(-num_tokens // block_size)
    shape = model.kv_shape
    pool = KVPool(
        num_layers=shape.num_layers,
        num_blocks=num_blocks,
        block_size=block_size,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=kv_dtype,
        device=device,
    )
    positions = torch.arange(num_tokens, device=device)
    batch = AttentionBatch(
        num_decodes=0,
        query_starts=torch.tensor([0, num_tokens], dtype=torch.int32, device=device),
        context_lens=torch.tensor([num_tokens], dtype=torch.int32, device=device),
        block_tables=torch.arange(num_blocks, dtype=torch.int32, device=device).view(1, -1),
        slots=positions,
        max_query_len=num_tokens,
        max_context_len=num_tokens,
        prefills=(Prefill(0, 0, num_tokens, num_tokens),),
    )
    hidden = model.forward(torch.zeros_like(positions), positions, batch, pool.layers)
    logits = model.logits(hidden[:1].expand(max_num_seqs, -1).contiguous())
    torch.softmax(logits, -1).sort()  # what sampling with a full sort takes
