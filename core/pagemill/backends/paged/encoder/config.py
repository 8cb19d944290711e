"""What an encoder of the BERT family is made of, from its config.json. Owns no state; imports no torch.

All that tells one family from another is a field here, so that the encoder has no family's name in it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pagemill.backends.paged.architectures.fields import Fields

Activation = Literal["gelu", "gelu_tanh", "relu", "silu"]
ACTIVATIONS: Mapping[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
    "silu": "silu",
    "swish": "silu",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderNames:
    """What a family's checkpoints call the modules. Defaults are BERT's."""

    prefixes: tuple[str, ...] = ("", "bert.", "roberta.")  # the first that the checkpoint knows is used
    layer: str = "encoder.layer.{}."
    qkv: tuple[str, str, str] = ("attention.self.query", "attention.self.key", "attention.self.value")
    attention_output: str = "attention.output.dense"
    norm_after_attention: str = "attention.output.LayerNorm"
    up: str = "intermediate.dense"
    down: str = "output.dense"
    norm_after_mlp: str = "output.LayerNorm"
    relative_bias: str = "encoder.relative_attention_bias"


@dataclass(frozen=True, slots=True, kw_only=True)
class RelativePositions:
    """A bias on attention by the distance of query and key, the same in all layers (T5's, as MPNet has it)."""

    num_buckets: int
    max_distance: int = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderConfig:
    """Sizes are numbers of elements."""

    model_type: str
    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_heads: int
    num_layers: int
    num_positions: int  # rows of the table of positions
    norm_eps: float
    activation: Activation
    names: EncoderNames
    first_position: int = 0  # RoBERTa's begin behind its padding token's
    num_token_types: int = 0  # 0: the model has none
    pairs_have_types: bool = False  # whether tokens of a pair's second text are of another type than the first's
    relative_positions: RelativePositions | None = None

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def max_model_len(self) -> int:
        """The longest sequence, in tokens."""
        return self.num_positions - self.first_position


DISTILBERT = EncoderNames(
    prefixes=("", "distilbert."),
    layer="transformer.layer.{}.",
    qkv=("attention.q_lin", "attention.k_lin", "attention.v_lin"),
    attention_output="attention.out_lin",
    norm_after_attention="sa_layer_norm",
    up="ffn.lin1",
    down="ffn.lin2",
    norm_after_mlp="output_layer_norm",
)
MPNET = EncoderNames(
    prefixes=("", "mpnet."),
    qkv=("attention.attn.q", "attention.attn.k", "attention.attn.v"),
    attention_output="attention.attn.o",
    norm_after_attention="attention.LayerNorm",
)


def read_encoder_config(values: Mapping[str, Any]) -> EncoderConfig:
    """`values`: config.json as parsed, of a `model_type` in `ENCODERS`.

    Raises:
        ModelLoadError: a field's value is missing, wrong, or one that we don't honour.
    """
    fields = Fields(dict(values))
    config = ENCODERS[str(values["model_type"])](fields)
    if config.hidden_size % config.num_heads:
        fields.refuse("hidden_size", f"is no multiple of {config.num_heads} heads")
    return config


def _bert(fields: Fields) -> EncoderConfig:
    num_types = fields.integer("type_vocab_size", 2)
    return _like_bert(fields, EncoderNames(), num_token_types=num_types, pairs_have_types=num_types > 1)


def _roberta(fields: Fields) -> EncoderConfig:
    num_types = fields.integer("type_vocab_size", 2)
    return _like_bert(fields, EncoderNames(), first_position=_first_position(fields), num_token_types=num_types)


def _mpnet(fields: Fields) -> EncoderConfig:
    positions = RelativePositions(num_buckets=fields.integer("relative_attention_num_buckets", 32))
    return _like_bert(fields, MPNET, first_position=_first_position(fields), relative_positions=positions)


def _like_bert(fields: Fields, names: EncoderNames, **differences: Any) -> EncoderConfig:
    fields.expect("position_embedding_type", "absolute", None)
    fields.expect("is_decoder", False)
    return EncoderConfig(
        model_type=str(fields.raw("model_type")),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("hidden_size"),
        intermediate_size=fields.integer("intermediate_size"),
        num_heads=fields.integer("num_attention_heads"),
        num_layers=fields.integer("num_hidden_layers"),
        num_positions=fields.integer("max_position_embeddings"),
        norm_eps=fields.number("layer_norm_eps", 1e-12),
        activation=_activation(fields, "hidden_act"),
        names=names,
        **differences,
    )


def _first_position(fields: Fields) -> int:
    """Behind that of the padding, as fairseq's models count."""
    padding = fields.raw("pad_token_id")
    return 2 if padding is None else fields.integer("pad_token_id") + 1 if padding != 0 else 1


def _distilbert(fields: Fields) -> EncoderConfig:
    return EncoderConfig(
        model_type=str(fields.raw("model_type")),
        vocab_size=fields.integer("vocab_size"),
        hidden_size=fields.integer("dim"),
        intermediate_size=fields.integer("hidden_dim"),
        num_heads=fields.integer("n_heads"),
        num_layers=fields.integer("n_layers"),
        num_positions=fields.integer("max_position_embeddings"),
        norm_eps=1e-12,
        activation=_activation(fields, "activation"),
        names=DISTILBERT,
    )


def _activation(fields: Fields, name: str) -> Activation:
    found = ACTIVATIONS.get(str(fields.raw(name)))
    return fields.refuse(name, "is not supported") if found is None else found


ENCODERS: Mapping[str, Callable[[Fields], EncoderConfig]] = {
    "bert": _bert,
    "camembert": _roberta,
    "distilbert": _distilbert,
    "mpnet": _mpnet,
    "roberta": _roberta,
    "xlm-roberta": _roberta,
}
