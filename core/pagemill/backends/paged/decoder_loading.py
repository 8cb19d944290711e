"""Builds the generic decoder from a checkpoint. Owns no state.

The decoder's configuration says which parameters there are and of what shape, the family's `TensorNames` what they are
called in the files.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.architectures import Architecture, read_architecture
from pagemill.backends.paged.attention.base import Attention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.config import DecoderConfig, LayerConfig, MoEConfig, RopeConfig
from pagemill.backends.paged.decoder import Decoder, DecoderLayer
from pagemill.backends.paged.layers.experts import MixtureOfExperts, make_experts
from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.layers.mlp import GatedMLP
from pagemill.backends.paged.layers.query_key_norm import QueryKeyNorm
from pagemill.backends.paged.layers.self_attention import SelfAttention
from pagemill.backends.paged.ops.base import Ops
from pagemill.backends.paged.rope import rope_table
from pagemill.backends.paged.weight_reader import Part, WeightReader
from pagemill.errors import ModelLoadError

logger = logging.getLogger(__name__)


def load_decoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype,
    device: torch.device,
    ops: Ops,
    attention: Attention,
    max_model_len: int,
    generates: bool = True,
) -> Decoder:
    """The model, for sequences of up to `max_model_len` tokens. One that does not generate has no head for logits.

    Raises:
        UnknownArchitectureError: the generic decoder does not know the model_type.
        ModelLoadError: config.json asks for what we don't do, or a tensor is missing or wrong; it is named.
    """
    architecture = read_architecture(checkpoint.config, generates=generates)
    config = architecture.config
    reader = WeightReader(checkpoint, dtype=dtype, device=device)
    tables = {
        rope: rope_table(rope, max_model_len, device)
        for rope in dict.fromkeys(layer.rope for layer in config.layers)
        if rope is not None
    }
    builder = _Builder(architecture, reader, ops, attention, tables, _prefix(architecture, reader))
    decoder = builder.decoder(with_head=generates)
    _warn_of_unread(architecture, reader, generates=generates)
    return decoder


def head_rows(checkpoint: Checkpoint, token_ids: Sequence[int]) -> Tensor:
    """The head's rows of these tokens, `[num_tokens, hidden_size]` float32 on the CPU.

    Raises:
        ModelLoadError: there is no head, or it has no such token.
    """
    architecture = read_architecture(checkpoint.config, generates=False)
    config = architecture.config
    module = f"{_prefix(architecture, checkpoint)}embed_tokens"
    if not config.tie_word_embeddings:
        module = architecture.names.head
    checkpoint.expect(f"{module}.weight", (config.vocab_size, config.hidden_size))
    if max(token_ids) >= config.vocab_size or min(token_ids) < 0:
        raise ModelLoadError(f"{checkpoint.folder} has no tokens {list(token_ids)}: there are {config.vocab_size}")
    return checkpoint.load(f"{module}.weight")[list(token_ids)].float()


def _prefix(architecture: Architecture, names: Checkpoint | WeightReader) -> str:
    """What the names of the decoder's tensors begin with in this checkpoint."""
    prefixes = (*architecture.names.prefixes, "")  # the last one of a model that was saved without its head
    return next((prefix for prefix in prefixes if f"{prefix}embed_tokens.weight" in names), prefixes[0])


def _warn_of_unread(architecture: Architecture, reader: WeightReader, *, generates: bool) -> None:
    names = architecture.names
    headless = architecture.config.tie_word_embeddings or not generates
    ignored = (*names.ignored, f"{names.head}.weight", "score.weight") if headless else names.ignored
    unread = [
        name for name in reader.unread() if not name.endswith(ignored) and not name.startswith(names.ignored_prefixes)
    ]
    if unread:
        logger.warning("The checkpoint has tensors that the model has no place for: %s", ", ".join(sorted(unread)))


@dataclass(frozen=True, slots=True)
class _Builder:
    """What the parts of a decoder are built from."""

    architecture: Architecture
    reader: WeightReader
    ops: Ops
    attention: Attention
    tables: dict[RopeConfig, Tensor]
    prefix: str

    @property
    def config(self) -> DecoderConfig:
        return self.architecture.config

    def decoder(self, *, with_head: bool) -> Decoder:
        config = self.config
        embedding_shape = (config.vocab_size, config.hidden_size)
        embedding = self.reader.read(f"{self.prefix}embed_tokens.weight", embedding_shape)
        layers = tuple(self._layer(index, layer) for index, layer in enumerate(config.layers))
        head = self._head(embedding) if with_head else None
        return Decoder(
            config,
            ops=self.ops,
            embedding=embedding,
            layers=layers,
            norm=self._norm(f"{self.prefix}norm", config.hidden_size),
            head=head,
        )

    def _head(self, embedding: Tensor) -> Tensor:
        """Where `prepare_weight` packs it, a tied embedding is there twice."""
        if self.config.tie_word_embeddings:
            return self.ops.prepare_weight(embedding)
        shape = (self.config.vocab_size, self.config.hidden_size)
        return self.ops.prepare_weight(self.reader.read(f"{self.architecture.names.head}.weight", shape))

    def _layer(self, index: int, layer: LayerConfig) -> DecoderLayer:
        prefix, names, size = f"{self.prefix}layers.{index}.", self.architecture.names, self.config.hidden_size
        before = self.config.norm_placement in ("before", "around")
        after = self.config.norm_placement in ("after", "around")
        return DecoderLayer(
            norm_before_attention=self._norm(prefix + names.norm_before_attention, size) if before else None,
            attention=self._attention(prefix, layer),
            norm_after_attention=self._norm(prefix + names.norm_after_attention, size) if after else None,
            norm_before_mlp=self._norm(prefix + names.norm_before_mlp, size) if before else None,
            mlp=self._mlp(prefix) if layer.moe is None else self._experts(prefix, layer.moe),
            norm_after_mlp=self._norm(prefix + names.norm_after_mlp, size) if after else None,
        )

    def _attention(self, prefix: str, layer: LayerConfig) -> SelfAttention:
        config, names = self.config, self.architecture.names
        width, kv_width = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
        return SelfAttention(
            ops=self.ops,
            attention=self.attention,
            spec=layer.attention,
            num_heads=config.num_heads,
            num_kv_heads=config.num_kv_heads,
            qkv=self._linear(prefix, names.qkv, (width, kv_width, kv_width), config.hidden_size, config.qkv_bias),
            output=self._linear(prefix, (names.attention_output,), (config.hidden_size,), width, config.output_bias),
            norm=self._query_key_norm(prefix, width, kv_width),
            cos_sin=None if layer.rope is None else self.tables[layer.rope],
        )

    def _query_key_norm(self, prefix: str, width: int, kv_width: int) -> QueryKeyNorm | None:
        config, names = self.config, self.architecture.names
        if config.qk_norm == "none":
            return None
        over_all_heads = config.qk_norm == "all"
        return QueryKeyNorm(
            ops=self.ops,
            query=self._norm(prefix + names.query_norm, width if over_all_heads else config.head_dim),
            key=self._norm(prefix + names.key_norm, kv_width if over_all_heads else config.head_dim),
            eps=config.norm_eps,
            over_all_heads=over_all_heads,
        )

    def _mlp(self, prefix: str) -> GatedMLP:
        config, names, size = self.config, self.architecture.names, self.config.intermediate_size
        return GatedMLP(
            ops=self.ops,
            activation=config.activation,
            gate_up=self._linear(prefix, names.gate_up, (size, size), config.hidden_size, config.mlp_bias),
            down=self._linear(prefix, (names.down,), (config.hidden_size,), size, config.mlp_bias),
        )

    def _experts(self, prefix: str, moe: MoEConfig) -> MixtureOfExperts:
        config, names, size = self.config, self.architecture.names, moe.intermediate_size
        router = self.reader.read(f"{prefix}{names.router}.weight", (moe.num_experts, config.hidden_size))
        experts = make_experts(
            ops=self.ops,
            activation=config.activation,
            gate_up=self._stacked(prefix, names.expert_gate_up, (moe.num_experts, 2 * size, config.hidden_size)),
            down=self._stacked(prefix, (names.expert_down,), (moe.num_experts, config.hidden_size, size)),
        )
        return MixtureOfExperts(
            ops=self.ops,
            router=self.ops.prepare_weight(router),
            experts=experts,
            num_experts_per_token=moe.num_experts_per_token,
            normalize_weights=moe.normalize_weights,
        )

    def _stacked(self, prefix: str, modules: Sequence[str], shape: tuple[int, int, int]) -> Tensor:
        """All experts' weights in one tensor; the rows of each are shared equally by the modules."""
        num_experts, rows, columns = shape
        parts = [
            Part(f"{prefix}{module.format(expert)}.weight", (rows // len(modules), columns))
            for expert in range(num_experts)
            for module in modules
        ]
        return self.reader.stack(parts, shape)

    def _linear(self, prefix: str, modules: Sequence[str], rows: Sequence[int], columns: int, has_bias: bool) -> Linear:
        """A product whose rows come from the modules in turn, or all from one that is already fused."""
        total = sum(rows)
        counts = rows if len(modules) > 1 else (total,)
        parts = [(prefix + module, count) for module, count in zip(modules, counts, strict=True)]
        weight = self.reader.stack(
            [Part(f"{module}.weight", (count, columns)) for module, count in parts], (total, columns)
        )
        bias = None
        if has_bias:
            bias = self.reader.stack([Part(f"{module}.bias", (count,)) for module, count in parts], (total,))
        return Linear(self.ops.prepare_weight(weight), bias)

    def _norm(self, module: str, size: int) -> Tensor:
        weight = self.reader.read(f"{module}.weight", (size,))
        return weight.float().add_(1.0).to(weight.dtype) if self.config.norm_plus_one else weight
