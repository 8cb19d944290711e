"""Output tokens per second through scheduler, step loop, runner, sampler and the asynchronous face."""

import asyncio
import time

from gpu.bench import Bench
from pagemill.backends.base import ModelInfo
from pagemill.backends.fake.tokenizer import FakeTokenizer
from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.batch import BatchBuilder
from pagemill.backends.paged.capacity import Capacity
from pagemill.backends.paged.decoder import Decoder
from pagemill.backends.paged.graphs import DecodeGraphs
from pagemill.backends.paged.kv_pool import KVPool
from pagemill.backends.paged.runner import ModelRunner
from pagemill.backends.paged.sampling import Sampler
from pagemill.engine.engine import Engine
from pagemill.generation import GenerationRequest, SamplingParams

BLOCK_SIZE = 16


class OneLetterTokenizer(FakeTokenizer):
    """Every token is a letter, since a random model says anything."""

    def token_bytes(self, token_id: int) -> bytes:
        return b"x"


def make_backend(model: Decoder, bench: Bench, *, max_num_seqs: int, max_model_len: int) -> PagedBackend:
    """The paged backend around a model that no folder holds."""
    tokenizer, shape = OneLetterTokenizer(), model.kv_shape
    blocks_per_sequence = -(-max_model_len // BLOCK_SIZE)
    capacity = Capacity(
        num_blocks=max_num_seqs * blocks_per_sequence,
        block_size=BLOCK_SIZE,
        max_model_len=max_model_len,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=2048,
    )
    pool = KVPool(
        num_layers=shape.num_layers,
        num_blocks=capacity.num_blocks,
        block_size=BLOCK_SIZE,
        num_kv_heads=shape.num_kv_heads,
        head_dim=shape.head_dim,
        dtype=bench.dtype,
        device=bench.device,
    )
    builder = BatchBuilder(
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=capacity.max_num_batched_tokens,
        max_blocks=capacity.max_blocks,
        block_size=BLOCK_SIZE,
        device=bench.device,
    )
    graphs = DecodeGraphs(
        model,
        max_num_seqs=max_num_seqs,
        max_blocks=capacity.max_blocks,
        device=bench.device,
        record=bench.new_recorder(),
    )
    sampler = Sampler(model.vocab_size, tokenizer.eos_token_ids, bench.device, max_num_seqs)
    info = ModelInfo(
        architecture=model.config.model_type,
        num_parameters=0,
        quantization=str(bench.dtype),
        format="random",
        size_bytes=0,
        memory_bytes=0,
        vocab_size=model.vocab_size,
        context_length=max_model_len,
        embedding_length=model.config.hidden_size,
    )
    runner = ModelRunner(model, pool, sampler, builder, graphs)
    # The backend only hands its tokenizer to the engine.
    return PagedBackend(runner, tokenizer, info, capacity, kv_identity={}, pipelined=bench.device.type == "cuda")  # type: ignore[arg-type]


async def output_tokens_per_s(
    backend: PagedBackend, num_clients: int, *, prompt_len: int = 128, output_len: int = 128, rounds: int = 2
) -> float:
    """Each client sends one request after the other. The first round compiles and records, and is not counted. Closes
    the backend.
    """
    engine = Engine(backend)
    engine.start()
    try:
        await asyncio.gather(*(_generate(engine, client, 0, prompt_len, output_len) for client in range(num_clients)))
        began = time.perf_counter()

        async def client(index: int) -> int:
            return sum([await _generate(engine, index, turn, prompt_len, output_len) for turn in range(1, rounds + 1)])

        counts = await asyncio.gather(*map(client, range(num_clients)))
        return sum(counts) / (time.perf_counter() - began)
    finally:
        await engine.close()


async def _generate(engine: Engine, client: int, turn: int, prompt_len: int, output_len: int) -> int:
    """A prompt that nobody shares. Returns how many tokens came."""
    prompt = tuple((client * 7919 + turn * 104729 + place * 31) % 251 for place in range(prompt_len))
    sampling = SamplingParams(temperature=0.0, max_tokens=output_len, ignore_eos=True)
    request = GenerationRequest(request_id=f"{client}-{turn}", prompt_token_ids=prompt, sampling=sampling)
    with engine.generate(request) as stream:
        return sum([len(delta.token_ids) async for delta in stream])
