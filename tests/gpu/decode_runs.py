"""Decode steps of a random decoder, with CUDA graphs and without: whether they agree, and how long they take."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from gpu.bench import Bench
from gpu.roofline import Ceilings, DecodeWork
from pagemill.backends.paged.attention.base import AttentionBatch, Prefill
from pagemill.backends.paged.config import DecoderConfig
from pagemill.backends.paged.decoder import Decoder
from pagemill.backends.paged.graphs import DecodeGraphs, Recording
from pagemill.backends.paged.kv_pool import KVPool

BLOCK_SIZE = 16


class DecodeSpeed(NamedTuple):
    """One decode step, forward pass to the most likely tokens."""

    batch_size: int
    context_len: int
    eager_s: float
    graph_s: float
    floor_s: float  # what the measured ceilings allow
    bytes_per_s: float  # of weights and KV, with graphs

    @property
    def fraction(self) -> float:
        """Of the roofline, with graphs."""
        return self.floor_s / self.graph_s


class AttentionSpeed(NamedTuple):
    """Attention alone: page writes, decode and the reduction of splits, averaged over the layers."""

    batch_size: int
    context_len: int
    layer_s: float
    bytes_per_s: float  # of KV


class Sequences:
    """So many sequences, each with its own pages for up to `max_len` tokens. Owns their pool."""

    def __init__(
        self, bench: Bench, config: DecoderConfig, dtype: torch.dtype, count: int, max_len: int, seed: int = 0
    ) -> None:
        self.bench = bench
        self.count = count
        self.max_blocks = -(-max_len // BLOCK_SIZE)
        self.pool = KVPool(
            num_layers=config.num_layers,
            num_blocks=count * self.max_blocks,
            block_size=BLOCK_SIZE,
            num_kv_heads=config.num_kv_heads,
            head_dim=config.head_dim,
            dtype=dtype,
            device=bench.device,
        )
        order = torch.randperm(count * self.max_blocks, generator=torch.Generator().manual_seed(seed))
        self.tables = order.view(count, self.max_blocks).int().to(bench.device)

    def fill(self) -> None:
        """As if all of it had been computed."""
        for layer in self.pool.layers:
            for states in layer:
                states.normal_()

    def decode_batch(self, context_len: int, count: int | None = None) -> AttentionBatch:
        """Each sequence's token at position `context_len - 1`."""
        count = count or self.count
        device = self.bench.device
        block, offset = divmod(context_len - 1, BLOCK_SIZE)
        return AttentionBatch(
            num_decodes=count,
            query_starts=torch.arange(count + 1, dtype=torch.int32, device=device),
            context_lens=torch.full((count,), context_len, dtype=torch.int32, device=device),
            block_tables=self.tables[:count],
            slots=self.tables[:count, block].long() * BLOCK_SIZE + offset,
            max_query_len=1,
            max_context_len=context_len,
        )

    def prefill_batch(self, length: int) -> AttentionBatch:
        """All sequences' first `length` tokens."""
        device = self.bench.device
        places = torch.arange(length, device=device)
        slots = self.tables[:, places // BLOCK_SIZE].long() * BLOCK_SIZE + places % BLOCK_SIZE
        return AttentionBatch(
            num_decodes=0,
            query_starts=torch.arange(0, (self.count + 1) * length, length, dtype=torch.int32, device=device),
            context_lens=torch.full((self.count,), length, dtype=torch.int32, device=device),
            block_tables=self.tables,
            slots=slots.flatten(),
            max_query_len=length,
            max_context_len=length,
            prefills=tuple(Prefill(row, row * length, length, length) for row in range(self.count)),
        )

    def graphs(self, model: Decoder) -> DecodeGraphs:
        return DecodeGraphs(
            model,
            max_num_seqs=self.count,
            max_blocks=self.max_blocks,
            device=self.bench.device,
            record=self.bench.new_recorder(),
        )


@torch.inference_mode()
def greedy_tokens(model: Decoder, sequences: Sequences, *, prompt_len: int, steps: int, use_graphs: bool) -> Tensor:
    """`[count, steps]`: what follows random prompts of `prompt_len`, one for each sequence."""
    bench, pages = sequences.bench, sequences.pool.layers
    random = torch.Generator().manual_seed(1)
    prompts = torch.randint(model.vocab_size, (sequences.count, prompt_len), generator=random).to(bench.device)
    positions = torch.arange(prompt_len, device=bench.device).repeat(sequences.count)
    hidden = model.forward(prompts.flatten(), positions, sequences.prefill_batch(prompt_len), pages)
    tokens = [model.logits(hidden.view(sequences.count, prompt_len, -1)[:, -1]).argmax(-1)]
    forward: Callable[..., Tensor | None] = sequences.graphs(model).forward if use_graphs else model.forward
    for length in range(prompt_len + 1, prompt_len + steps):
        positions = torch.full((sequences.count,), length - 1, device=bench.device)
        decoded = forward(tokens[-1], positions, sequences.decode_batch(length), pages)
        assert decoded is not None, "the batch is one for a graph"
        tokens.append(model.logits(decoded).argmax(-1))
    return torch.stack(tokens, 1).cpu()


@torch.inference_mode()
def time_decode(
    model: Decoder, sequences: Sequences, batch_size: int, context_len: int, ceilings: Ceilings, *, calls: int = 20
) -> DecodeSpeed:
    bench, pages = sequences.bench, sequences.pool.layers
    batch = sequences.decode_batch(context_len, batch_size)
    token_ids = torch.randint(model.vocab_size, (batch_size,), device=bench.device)
    positions = torch.full((batch_size,), context_len - 1, device=bench.device)
    graphs = sequences.graphs(model)

    def eager() -> Tensor:
        return model.logits(model.forward(token_ids, positions, batch, pages)).argmax(-1)

    def by_graph() -> Tensor:
        hidden = graphs.forward(token_ids, positions, batch, pages)
        assert hidden is not None, "the step can't be recorded; the log says why"
        return model.logits(hidden).argmax(-1)

    eager_s = bench.timer(eager, calls=calls, repeats=3)
    graph_s = bench.timer(by_graph, calls=calls, repeats=5)
    itemsize = bench.dtype.itemsize
    work = DecodeWork(model.config, batch_size, context_len, weight_itemsize=itemsize, kv_itemsize=itemsize)
    return DecodeSpeed(batch_size, context_len, eager_s, graph_s, work.floor_s(ceilings), work.num_bytes / graph_s)


@torch.inference_mode()
def time_attention(config: DecoderConfig, sequences: Sequences, batch_size: int, context_len: int) -> AttentionSpeed:
    """All layers' pages in turn, so that no layer's are still in the cache from the call before."""
    bench, batch = sequences.bench, sequences.decode_batch(context_len, batch_size)
    heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
    fused = torch.randn(batch_size, sum(heads), config.head_dim, device=bench.device).to(bench.dtype)
    query, key, value = fused.split_with_sizes(heads, 1)
    spec = config.layers[0].attention

    def all_layers() -> Tensor:
        for kv in sequences.pool.layers:
            output = bench.attention(spec, query, key, value, kv, batch)
        return output

    recording: Recording = bench.new_recorder()(all_layers)
    layer_s = bench.timer(recording.replay, calls=5, repeats=5) / config.num_layers
    kv_bytes = batch_size * context_len * 2 * config.num_kv_heads * config.head_dim * bench.dtype.itemsize
    return AttentionSpeed(batch_size, context_len, layer_s, kv_bytes / layer_s)


@torch.inference_mode()
def time_prefill_attention(config: DecoderConfig, sequences: Sequences, length: int) -> float:
    """FLOP/s of causal attention over all sequences' first `length` tokens, pages written too."""
    bench, batch = sequences.bench, sequences.prefill_batch(length)
    heads = [config.num_heads, config.num_kv_heads, config.num_kv_heads]
    fused = torch.randn(batch.num_tokens, sum(heads), config.head_dim, device=bench.device).to(bench.dtype)
    query, key, value = fused.split_with_sizes(heads, 1)
    kv, spec = sequences.pool.layers[0], config.layers[0].attention
    seconds = bench.timer(lambda: bench.attention(spec, query, key, value, kv, batch), calls=5, repeats=5)
    return 4 * sequences.count * (length * (length + 1) / 2) * config.num_heads * config.head_dim / seconds
