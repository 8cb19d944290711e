"""How much of a GPU's memory is taken, and left for pages: the largest step is run once to see. Owns no state."""

import gc
from logging import getLogger
from typing import NamedTuple

import torch

from pagemill.backends.paged.batch import BatchBuilder
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.model import PagedModel
from pagemill.backends.paged.recording import RECORDING
from pagemill.backends.paged.sampling import Sampler
from pagemill.engine.step import SequenceChunk, SequenceStart, StepPlan
from pagemill.generation import SamplingParams

logger = getLogger(__name__)

MIB = 2**20
COSTLIEST = SamplingParams(typical_p=0.9, top_p=0.9, logprobs=1, seed=0)  # sorts everything, and keeps a copy


class DeviceBytes(NamedTuple):
    """Of the GPU's memory: all of it, and what all processes have taken."""

    total: int
    taken: int


def device_bytes() -> DeviceBytes:
    free, total = torch.cuda.mem_get_info()
    return DeviceBytes(total, total - free)


def give_back_memory() -> None:
    """Have torch give the device what it keeps for reuse, once all work is done."""
    with RECORDING:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()


def kv_bytes_left(
    model: PagedModel,
    *,
    max_num_seqs: int,
    max_num_batched_tokens: int,
    max_model_len: int,
    block_size: int,
    kv_dtype: torch.dtype,
    utilization: float,
    device: torch.device,
) -> int:
    """Bytes for pages if this process is to take the fraction `utilization` of the device's memory in all. May be
    negative: then the model alone takes more.
    """
    give_back_memory()
    torch.cuda.reset_peak_memory_stats(device)
    plan = _largest_step(max_num_seqs, max_num_batched_tokens, max_model_len, block_size)
    _run(model, plan, max_num_seqs, max_model_len, block_size, kv_dtype, device)
    peak = torch.cuda.max_memory_allocated(device)
    gc.collect()
    give_back_memory()
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


def _largest_step(max_num_seqs: int, num_tokens: int, max_model_len: int, block_size: int) -> StepPlan:
    """As many prompts as fill it, each as long as a sequence may be."""
    chunks: list[SequenceChunk] = []
    left, free = min(num_tokens, max_num_seqs * max_model_len), 0
    while left:
        length = min(left, max_model_len)
        end = free + -(-length // block_size)
        chunks.append(SequenceChunk(len(chunks), (0,) * length, 0, tuple(range(free, end)), sample=True))
        left, free = left - length, end
    return StepPlan(0, chunks=tuple(chunks), num_tokens=sum(chunk.num_tokens for chunk in chunks))


@torch.inference_mode()
def _run(
    model: PagedModel,
    plan: StepPlan,
    max_num_seqs: int,
    max_model_len: int,
    block_size: int,
    kv_dtype: torch.dtype,
    device: torch.device,
) -> None:
    """The step, and then sampling for as many sequences as there may be. Returns when the device is done."""
    pool = KVPool(
        num_blocks=sum(len(chunk.placement) for chunk in plan.chunks),
        block_size=block_size,
        dtype=kv_dtype,
        device=device,
        **model.kv_shape._asdict(),
    )
    builder = BatchBuilder(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=plan.num_tokens,
        max_blocks=-(-max_model_len // block_size),
        block_size=block_size,
        device=device,
    )
    step = builder.build(plan, {})
    hidden = model.forward(step.token_ids, step.positions, step.batch, pool.layers)
    logits = model.logits(hidden[:1].expand(max_num_seqs, -1).contiguous())
    sampler = Sampler(model.vocab_size, frozenset(), device, max_num_seqs)
    for sequence_id in range(max_num_seqs):
        sampler.start(SequenceStart(sequence_id, (0,), COSTLIEST))
    sampler.sample(logits, range(max_num_seqs)).collect()
