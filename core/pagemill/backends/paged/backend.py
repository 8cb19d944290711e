"""The backend: a model folder on PyTorch, with pages for its keys and values. Owns the runner, and by it all memory.

`execute`, `launch` and `close` belong to the step loop's thread.
"""

from collections.abc import Mapping
from logging import getLogger
from pathlib import Path
from time import perf_counter

import torch

from pagemill.backends.base import ModelInfo
from pagemill.backends.paged.batch import BatchBuilder
from pagemill.backends.paged.capacity import Capacity, choose_capacity, cpu_kv_bytes, step_limits
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.device import choose_device, choose_dtype, choose_kv_dtype
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.model_loading import LoadedWeights, load_weights
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.runner import ModelRunner, RunningStep
from pagemill.backends.paged.sampling import Sampler
from pagemill.backends.paged.tokenizer import PagedTokenizer
from pagemill.engine.block_kv_cache import BlockKVCache
from pagemill.engine.step import StepPlan, StepResult
from pagemill.errors import BackendError, ModelLoadError
from pagemill.machine import available_memory_bytes, num_usable_cores

logger = getLogger(__name__)


class PagedBackend:
    """See `pagemill.backends.base.PipelinedBackend`."""

    def __init__(
        self,
        runner: ModelRunner,
        tokenizer: PagedTokenizer,
        info: ModelInfo,
        capacity: Capacity,
        *,
        kv_identity: Mapping[str, str | int],
        pipelined: bool,
    ) -> None:
        self._runner: ModelRunner | None = runner
        self._tokenizer = tokenizer
        self._info = info
        self._capacity = capacity
        self._kv_identity = kv_identity
        self._pipelined = pipelined

    @classmethod
    def load(cls, folder: Path, options: PagedOptions) -> "PagedBackend":
        """Load a model and allocate its pages.

        Raises:
            ModelLoadError: names the file, tensor, field or number that is wrong.
            SettingsError: the settings contradict one another, or ask for what does not run here.
        """
        device = choose_device(options.device)
        try:
            return cls._load(folder, options, device)
        except torch.OutOfMemoryError as error:
            raise ModelLoadError(f"can't load {folder}: {error}") from error

    @classmethod
    def _load(cls, folder: Path, options: PagedOptions, device: torch.device) -> "PagedBackend":
        began = perf_counter()
        torch.set_num_threads(options.threads or num_usable_cores())
        with Checkpoint.open(folder) as checkpoint:
            dtype = choose_dtype(options.dtype, checkpoint.dtype, device)
            weights = load_weights(checkpoint, options, device, dtype)
            tokenizer = PagedTokenizer.load(checkpoint, weights.model.vocab_size)
            capacity, kv_dtype = _choose_capacity(weights, options, device, dtype)
            runner, kv_bytes = _make_runner(weights, tokenizer, capacity, kv_dtype, options, device)
            info = _model_info(checkpoint, weights, tokenizer, dtype, kv_bytes, device)
        logger.info("loaded %s on %s as %s in %.2f s", folder, device, info.quantization, perf_counter() - began)
        pipelined = device.type == "cuda" if options.async_scheduling is None else options.async_scheduling
        identity = _kv_identity(weights, info, capacity, kv_dtype, device)
        return cls(runner, tokenizer, info, capacity, kv_identity=identity, pipelined=pipelined)

    @property
    def info(self) -> ModelInfo:
        return self._info

    @property
    def tokenizer(self) -> PagedTokenizer:
        return self._tokenizer

    @property
    def max_model_len(self) -> int:
        return self._capacity.max_model_len

    @property
    def max_num_seqs(self) -> int:
        return self._capacity.max_num_seqs

    @property
    def max_num_batched_tokens(self) -> int:
        return self._capacity.max_num_batched_tokens

    @property
    def pipelined(self) -> bool:
        return self._pipelined

    def new_kv_cache(self, *, enable_prefix_caching: bool) -> BlockKVCache:
        return BlockKVCache(
            self._capacity.num_blocks, self._capacity.block_size, enable_prefix_caching=enable_prefix_caching
        )

    def kv_identity(self) -> Mapping[str, str | int]:
        return self._kv_identity

    def save_kv(self, placement: tuple[int, ...], num_tokens: int) -> memoryview:
        if self._runner is None:
            raise BackendError("the model is closed")
        return self._runner.save_kv(placement, num_tokens)

    def load_kv(self, placement: tuple[int, ...], num_tokens: int, data: memoryview) -> None:
        if self._runner is None:
            raise BackendError("the model is closed")
        self._runner.load_kv(placement, data)

    def execute(self, plan: StepPlan) -> StepResult:
        return self.launch(plan).result()

    def launch(self, plan: StepPlan) -> RunningStep:
        if self._runner is None:
            return RunningStep(None, failure=BackendError("the model is closed"))
        return self._runner.launch(plan)

    def close(self) -> None:
        """Free weights and pages; idempotent."""
        if self._runner is None:
            return
        self._runner = None
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            from pagemill.backends.paged.gpu_memory import give_back_memory

            give_back_memory()


def _choose_capacity(
    weights: LoadedWeights, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> tuple[Capacity, torch.dtype]:
    kv_dtype = choose_kv_dtype(options.kv_cache_dtype, dtype, device)
    if device.type == "cpu":
        kv_bytes = cpu_kv_bytes(options, available_memory_bytes())
    elif options.kv_cache_memory_bytes is not None:
        kv_bytes = options.kv_cache_memory_bytes
    else:
        from pagemill.backends.paged.gpu_memory import kv_bytes_left

        max_num_seqs, max_num_batched_tokens = step_limits(options, device.type)
        kv_bytes = kv_bytes_left(
            weights.model,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=options.max_model_len or weights.context_length,
            block_size=options.block_size,
            kv_dtype=kv_dtype,
            utilization=options.gpu_memory_utilization,
            device=device,
        )
    capacity = choose_capacity(
        block_bytes=weights.model.kv_shape.bytes_per_token(kv_dtype.itemsize) * options.block_size,
        kv_bytes=kv_bytes,
        context_length=weights.context_length,
        options=options,
        device_type=device.type,
    )
    return capacity, kv_dtype


def _kv_identity(
    weights: LoadedWeights, info: ModelInfo, capacity: Capacity, kv_dtype: torch.dtype, device: torch.device
) -> Mapping[str, str | int]:
    """See `Backend.kv_identity`. A CPU and a GPU round differently, and so may go on with different tokens."""
    return {
        "architecture": info.architecture,
        "dtype": info.quantization,
        "kv_cache_dtype": str(kv_dtype).removeprefix("torch."),
        "block_size": capacity.block_size,
        "device": device.type,
        **weights.model.kv_shape._asdict(),
        "rope_length": weights.rope_length,
    }


def _make_runner(
    weights: LoadedWeights,
    tokenizer: PagedTokenizer,
    capacity: Capacity,
    kv_dtype: torch.dtype,
    options: PagedOptions,
    device: torch.device,
) -> tuple[ModelRunner, int]:
    """The runner, and the bytes of its pages."""
    model, shape = weights.model, weights.model.kv_shape
    pool = KVPool(
        num_layers=shape.num_layers,
        num_blocks=capacity.num_blocks,
        block_size=capacity.block_size,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=kv_dtype,
        device=device,
    )
    sampler = Sampler(model.vocab_size, tokenizer.eos_token_ids, device, capacity.max_num_seqs)
    builder = BatchBuilder(
        max_num_seqs=capacity.max_num_seqs,
        max_num_batched_tokens=capacity.max_num_batched_tokens,
        max_blocks=capacity.max_blocks,
        block_size=capacity.block_size,
        device=device,
    )
    graphs = None
    if device.type == "cuda" and not options.enforce_eager:
        from pagemill.backends.paged.graphs import DecodeGraphs

        graphs = DecodeGraphs(model, max_num_seqs=capacity.max_num_seqs, max_blocks=capacity.max_blocks, device=device)
    return ModelRunner(model, pool, sampler, builder, graphs), pool.num_bytes


def _model_info(
    checkpoint: Checkpoint,
    weights: LoadedWeights,
    tokenizer: PagedTokenizer,
    dtype: torch.dtype,
    kv_bytes: int,
    device: torch.device,
) -> ModelInfo:
    names = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
    return ModelInfo(
        architecture=str(checkpoint.config["model_type"]),
        num_parameters=checkpoint.num_parameters,
        quantization=names[dtype],
        format="safetensors",
        size_bytes=checkpoint.size_bytes,
        memory_bytes=checkpoint.num_parameters * dtype.itemsize + kv_bytes,
        on_gpu=device.type == "cuda",
        vocab_size=weights.model.vocab_size,
        context_length=weights.context_length,
        embedding_length=weights.embedding_length,
        chat_template=tokenizer.chat_template,
        metadata=dict(checkpoint.config),
    )
