"""Decoders with random weights, made on the device, in the shapes of models that people serve. Owns no state."""

import torch
from torch import Tensor

from gpu.bench import Bench
from pagemill.backends.paged.attention.base import AttentionSpec
from pagemill.backends.paged.config import DecoderConfig, LayerConfig, RopeConfig
from pagemill.backends.paged.decoder import Decoder, DecoderLayer
from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.layers.mlp import GatedMLP
from pagemill.backends.paged.layers.query_key_norm import QueryKeyNorm
from pagemill.backends.paged.layers.self_attention import SelfAttention
from pagemill.backends.paged.rope import rope_table


def decoder_config(
    *, hidden: int, intermediate: int, layers: int, heads: int, kv_heads: int, head_dim: int, vocab: int, qk_norm: bool
) -> DecoderConfig:
    """Qwen3's form with norms of query and key and a tied embedding, Llama's without either."""
    layer = LayerConfig(attention=AttentionSpec(head_dim**-0.5), rope=RopeConfig(theta=500000.0, rotary_dim=head_dim))
    return DecoderConfig(
        model_type="qwen3" if qk_norm else "llama",
        vocab_size=vocab,
        hidden_size=hidden,
        intermediate_size=intermediate,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        max_position_embeddings=32768,
        layers=(layer,) * layers,
        norm_eps=1e-6,
        activation="silu",
        qk_norm="head" if qk_norm else "none",
        tie_word_embeddings=qk_norm,
    )


SHAPES = {
    "0.6B": decoder_config(
        hidden=1024, intermediate=3072, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151936, qk_norm=True
    ),
    "1.7B": decoder_config(
        hidden=2048, intermediate=6144, layers=28, heads=16, kv_heads=8, head_dim=128, vocab=151936, qk_norm=True
    ),
    "8B": decoder_config(
        hidden=4096, intermediate=14336, layers=32, heads=32, kv_heads=8, head_dim=128, vocab=128256, qk_norm=False
    ),
}
TINY = decoder_config(
    hidden=512, intermediate=1024, layers=4, heads=8, kv_heads=2, head_dim=64, vocab=1000, qk_norm=True
)


def random_decoder(config: DecoderConfig, bench: Bench, dtype: torch.dtype, max_model_len: int) -> Decoder:
    """Weights of a size that keeps activations near one; the output projection's spreads the logits."""
    maker = _Maker(config, bench, dtype, rope_of(config, bench, max_model_len))
    embedding = maker.weight(config.vocab_size, config.hidden_size)
    head = embedding if config.tie_word_embeddings else maker.weight(config.vocab_size, config.hidden_size)
    return Decoder(
        config,
        ops=bench.ops,
        embedding=embedding,
        layers=tuple(maker.layer(layer) for layer in config.layers),
        norm=maker.norm(config.hidden_size),
        head=bench.ops.prepare_weight(head),
    )


def rope_of(config: DecoderConfig, bench: Bench, max_model_len: int) -> Tensor:
    rope = config.layers[0].rope
    assert rope is not None
    return rope_table(rope, max_model_len, bench.device)


class _Maker:
    """Makes the parts of one decoder."""

    def __init__(self, config: DecoderConfig, bench: Bench, dtype: torch.dtype, cos_sin: Tensor) -> None:
        self._config = config
        self._bench = bench
        self._dtype = dtype
        self._cos_sin = cos_sin
        self._random = torch.Generator(bench.device).manual_seed(0)

    def weight(self, rows: int, columns: int) -> Tensor:
        empty = torch.empty(rows, columns, dtype=self._dtype, device=self._bench.device)
        return empty.normal_(std=columns**-0.5, generator=self._random)

    def norm(self, size: int) -> Tensor:
        return torch.ones(size, dtype=self._dtype, device=self._bench.device)

    def linear(self, rows: int, columns: int) -> Linear:
        return Linear(self._bench.ops.prepare_weight(self.weight(rows, columns)))

    def layer(self, layer: LayerConfig) -> DecoderLayer:
        config, ops = self._config, self._bench.ops
        return DecoderLayer(
            norm_before_attention=self.norm(config.hidden_size),
            attention=self._attention(layer),
            norm_after_attention=None,
            norm_before_mlp=self.norm(config.hidden_size),
            mlp=GatedMLP(
                ops=ops,
                activation=config.activation,
                gate_up=self.linear(2 * config.intermediate_size, config.hidden_size),
                down=self.linear(config.hidden_size, config.intermediate_size),
            ),
            norm_after_mlp=None,
        )

    def _attention(self, layer: LayerConfig) -> SelfAttention:
        config, ops = self._config, self._bench.ops
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        norm = None
        if config.qk_norm == "head":
            query, key = self.norm(config.head_dim), self.norm(config.head_dim)
            norm = QueryKeyNorm(ops=ops, query=query, key=key, eps=config.norm_eps, over_all_heads=False)
        return SelfAttention(
            ops=ops,
            attention=self._bench.attention,
            spec=layer.attention,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            qkv=self.linear(width + 2 * kv_width, config.hidden_size),
            output=self.linear(config.hidden_size, width),
            norm=norm,
            cos_sin=self._cos_sin,
        )
