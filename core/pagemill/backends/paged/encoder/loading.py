"""Builds an encoder, and a cross-encoder's head, from a checkpoint. Owns no state."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.encoder.attention import EncoderAttention, make_encoder_attention, relative_bias
from pagemill.backends.paged.encoder.config import EncoderConfig, read_encoder_config
from pagemill.backends.paged.encoder.encoder import Embeddings, Encoder, EncoderLayer, LayerNorm
from pagemill.backends.paged.encoder.head import ScoreHead
from pagemill.backends.paged.layers.linear import Linear
from pagemill.backends.paged.ops.base import Ops
from pagemill.backends.paged.weight_reader import Part, WeightReader
from pagemill.errors import ModelLoadError

logger = logging.getLogger(__name__)

# Parts of such checkpoints that are for other tasks than embedding.
IGNORED = ("position_ids", "pooler.dense.weight", "pooler.dense.bias")
IGNORED_PREFIXES = ("cls.", "lm_head.", "vocab_")
# What a head's two products are called in the families' own classes, below and beside the encoder's prefix.
HEADS = (
    ("{prefix}pooler.dense", "classifier", "tanh"),
    ("classifier.dense", "classifier.out_proj", "tanh"),
    ("pre_classifier", "classifier", "relu"),
)


def load_encoder(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, ops: Ops, with_head: bool
) -> tuple[Encoder, ScoreHead | None]:
    """The model, and the head of a cross-encoder if that is wanted.

    Raises:
        ModelLoadError: config.json asks for what we don't do, or a tensor is missing or wrong; it is named.
    """
    config = read_encoder_config(checkpoint.config)
    reader = WeightReader(checkpoint, dtype=dtype, device=device)
    builder = _Builder(config, reader, ops, _prefix(config, reader), dtype, device)
    encoder = builder.encoder()
    head = builder.head(checkpoint) if with_head else None
    unread = [name for name in reader.unread() if not name.endswith(IGNORED) and not name.startswith(IGNORED_PREFIXES)]
    if unread:
        logger.warning("The checkpoint has tensors that the model has no place for: %s", ", ".join(sorted(unread)))
    return encoder, head


def _prefix(config: EncoderConfig, reader: WeightReader) -> str:
    prefixes = config.names.prefixes
    return next((prefix for prefix in prefixes if f"{prefix}embeddings.word_embeddings.weight" in reader), prefixes[0])


@dataclass(frozen=True, slots=True)
class _Builder:
    """What the parts of an encoder are built from."""

    config: EncoderConfig
    reader: WeightReader
    ops: Ops
    prefix: str
    dtype: torch.dtype
    device: torch.device

    def encoder(self) -> Encoder:
        config, names = self.config, self.config.names
        layers = tuple(self._layer(f"{self.prefix}{names.layer.format(i)}") for i in range(config.num_layers))
        return Encoder(config, ops=self.ops, embeddings=self._embeddings(), layers=layers, attention=self._attention())

    def head(self, checkpoint: Checkpoint) -> ScoreHead:
        """Raises ModelLoadError: there is none that we know, or it tells several classes apart."""
        size = self.config.hidden_size
        for inner, outer, activation in HEADS:
            inner = inner.format(prefix=self.prefix)
            if f"{inner}.weight" not in self.reader or f"{outer}.weight" not in self.reader:
                continue
            num_classes = checkpoint.shape(f"{outer}.weight")[0]
            if num_classes != 1:
                raise ModelLoadError(
                    f"{checkpoint.folder} tells {num_classes} classes apart ({outer}); what scores pairs has one"
                )
            dense, score = self._linear("", (inner,), (size,), size), self._linear("", (outer,), (1,), size)
            return ScoreHead(self.ops, dense, activation, score)
        raise ModelLoadError(f"{checkpoint.folder} has no head for scores that is known here, as BERT's or RoBERTa's")

    def _attention(self) -> EncoderAttention:
        config, bias = self.config, None
        if config.relative_positions is not None:
            shape = (config.relative_positions.num_buckets, config.num_heads)
            table = self.reader.read(f"{self.prefix}{config.names.relative_bias}.weight", shape)
            bias = relative_bias(table, config.relative_positions)
        return make_encoder_attention(bias, head_dim=config.head_dim, dtype=self.dtype, device=self.device)

    def _embeddings(self) -> Embeddings:
        config, prefix = self.config, f"{self.prefix}embeddings."
        size, types = config.hidden_size, config.num_token_types
        return Embeddings(
            words=self.reader.read(f"{prefix}word_embeddings.weight", (config.vocab_size, size)),
            positions=self.reader.read(f"{prefix}position_embeddings.weight", (config.num_positions, size)),
            token_types=self.reader.read(f"{prefix}token_type_embeddings.weight", (types, size)) if types else None,
            norm=self._norm(f"{prefix}LayerNorm"),
        )

    def _layer(self, prefix: str) -> EncoderLayer:
        names, size, inner = self.config.names, self.config.hidden_size, self.config.intermediate_size
        return EncoderLayer(
            qkv=self._linear(prefix, names.qkv, (size, size, size), size),
            attention_output=self._linear(prefix, (names.attention_output,), (size,), size),
            norm_after_attention=self._norm(prefix + names.norm_after_attention),
            up=self._linear(prefix, (names.up,), (inner,), size),
            down=self._linear(prefix, (names.down,), (size,), inner),
            norm_after_mlp=self._norm(prefix + names.norm_after_mlp),
        )

    def _linear(self, prefix: str, modules: Sequence[str], rows: Sequence[int], columns: int) -> Linear:
        """A product whose rows come from the modules in turn."""
        parts = [(prefix + module, count) for module, count in zip(modules, rows, strict=True)]
        weight = self.reader.stack(
            [Part(f"{module}.weight", (count, columns)) for module, count in parts], (sum(rows), columns)
        )
        bias = self.reader.stack([Part(f"{module}.bias", (count,)) for module, count in parts], (sum(rows),))
        return Linear(self.ops.prepare_weight(weight), bias)

    def _norm(self, module: str) -> LayerNorm:
        size = (self.config.hidden_size,)
        weight: Tensor = self.reader.read(f"{module}.weight", size)
        return LayerNorm(weight, self.reader.read(f"{module}.bias", size))
