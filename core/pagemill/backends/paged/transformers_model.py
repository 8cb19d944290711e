"""The models that the generic decoder does not know, through transformers' own definitions. Owns the module.

All of a model is transformers' but its attention, which is ours over the pages: `attend` is registered under a name of
its own, for which transformers builds no masks, and finds the step in a slot that the model's attention modules share.
(Keyword arguments, which travel through most models, don't through all.) What can't run so is refused when the model is
loaded.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import torch
import transformers
from torch import Tensor, nn
from torch.nn import functional

from pagemill.backends.paged.attention.base import Attention, AttentionBatch, AttentionSpec, LayerKV
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.model import KVShape
from pagemill.backends.paged.transformers_loading import (
    context_length,
    load_module,
    read_transformers_config,
    refuse,
)
from pagemill.backends.paged.transformers_probe import AttentionCall, Probe, check_tokens_are_independent
from pagemill.errors import ModelLoadError

NAME = "pagemill"  # of our attention in transformers' register
SLOT = "pagemill_slot"  # the attribute of attention modules that holds the model's `StepSlot`
PLAIN_LAYERS = ("full_attention", "sliding_attention")
CHANGING_ROPES = ("dynamic", "longrope")  # they change with the longest sequence of a batch


class AttentionStep(Protocol):
    """What attention is done by: a step over pages, or the probe."""

    def attend(self, call: AttentionCall) -> Tensor:
        """`[1, num_tokens, num_heads, value_dim]`."""
        ...


class StepSlot:
    """Holds the step that a model is computing; one for each model."""

    def __init__(self) -> None:
        self.step: AttentionStep | None = None


class PagedStep(NamedTuple):
    """One step of a batch. Values that are narrower than keys, as some models have them, are padded in the pages."""

    attention: Attention
    specs: tuple[AttentionSpec, ...]
    pages: tuple[LayerKV, ...]
    batch: AttentionBatch

    def attend(self, call: AttentionCall) -> Tensor:
        layer, value, key_dim, value_dim = call.module.layer_idx, call.value, call.key.shape[-1], call.value.shape[-1]
        if value_dim < key_dim:
            value = functional.pad(value, (0, key_dim - value_dim))
        query, key, value = (states[0].transpose(0, 1).contiguous() for states in (call.query, call.key, value))
        output = self.attention(self.specs[layer], query, key, value, self.pages[layer], self.batch)
        return output[..., :value_dim].unsqueeze(0)


class TransformersModel:
    """See `model.PagedModel`. `context_length` is what the model was made for, in tokens."""

    def __init__(
        self,
        *,
        decoder: "_Decoder",
        head: Any,  # the causal model around it, with `_GivenStates` in the decoder's place
        attention: Attention,
        specs: tuple[AttentionSpec, ...],
        kv_shape: KVShape,
    ) -> None:
        self._decoder = decoder
        self._head = head
        self._attention = attention
        self._specs = specs
        self.kv_shape = kv_shape
        self.hidden_size = int(head.config.get_text_config().hidden_size)
        self.context_length = context_length(head.config)
        self.vocab_size = self.logits(next(head.parameters()).new_zeros(1, self.hidden_size)).shape[-1]

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        pages: tuple[LayerKV, ...],
        rows: Tensor | None = None,
    ) -> Tensor:
        step = PagedStep(self._attention, self._specs, pages, batch)
        hidden = self._decoder.hidden_states(token_ids, positions, step)
        return hidden if rows is None else hidden.index_select(0, rows)

    def logits(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self._head(inputs_embeds=hidden.unsqueeze(0), use_cache=False).logits
        return logits[0].float()


class _Decoder:
    """A model's own decoder, and the slot where its attention finds the step."""

    def __init__(self, module: Any) -> None:
        self.module = module
        self._slot = StepSlot()
        for part in module.modules():
            if hasattr(part, "layer_idx"):
                setattr(part, SLOT, self._slot)

    def run(self, token_ids: Tensor, positions: Tensor, step: AttentionStep) -> Any:
        """The output for the tokens as one sequence; only attention knows of several."""
        self._slot.step = step
        try:
            return self.module(input_ids=token_ids.unsqueeze(0), position_ids=positions.unsqueeze(0), use_cache=False)
        finally:
            self._slot.step = None

    def hidden_states(self, token_ids: Tensor, positions: Tensor, step: AttentionStep) -> Tensor:
        """`[num_tokens, hidden_size]`."""
        hidden: Tensor = self.run(token_ids, positions, step).last_hidden_state[0]
        return hidden


class _GivenStates(nn.Module):
    """Takes the decoder's place in a causal model, so that the model's own forward makes logits of given states."""

    def __init__(self, output_type: Any) -> None:
        super().__init__()
        self._output_type = output_type

    def forward(self, *positional: Any, inputs_embeds: Tensor, **arguments: Any) -> Any:
        return self._output_type(last_hidden_state=inputs_embeds)


def load_transformers_model(
    checkpoint: Checkpoint, *, dtype: torch.dtype, device: torch.device, attention: Attention, max_model_len: int | None
) -> TransformersModel:
    """The model, for sequences of up to `max_model_len` tokens; None: of the context that it was made for.

    Raises:
        ModelLoadError: transformers does not know the architecture, its weights are not all there, or it needs what our
            attention does not do; names the architecture and the reason.
    """
    transformers.AttentionInterface.register(NAME, attend)
    config = read_transformers_config(checkpoint)
    _check_config(config, max_model_len or context_length(config))
    module = load_module(
        checkpoint.folder, config, transformers.AutoModelForCausalLM, dtype=dtype, attn_implementation=NAME
    ).to(device)
    try:
        with torch.inference_mode():
            return _examine(module, attention, device)
    except Exception as error:  # the model's code may fail in any way on what it was not written for
        refuse(config, str(error) or type(error).__name__, error)


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: object, **arguments: Any
) -> tuple[Tensor, None]:
    """Our attention as transformers calls it."""
    slot: StepSlot = getattr(module, SLOT)
    assert slot.step is not None
    return slot.step.attend(AttentionCall(module, query, key, value, attention_mask, arguments)), None


def _examine(module: Any, attention: Attention, device: torch.device) -> TransformersModel:
    """Run the model with the probe in attention's place, and take it apart."""
    decoder, probe = _Decoder(module.get_decoder()), Probe()
    text_config = module.config.get_text_config()
    text_config.pad_token_id = None  # else some models look for it among the tokens, in each step
    token_ids = torch.ones(2, dtype=torch.long, device=device)
    output_type = type(decoder.run(token_ids, torch.arange(2, device=device), probe))
    specs = probe.specs(text_config.num_hidden_layers)
    _check_windows(text_config, specs)
    check_tokens_are_independent(decoder.hidden_states, device)
    path = next(name for name, part in module.named_modules() if part is decoder.module)
    parent, _, attribute = path.rpartition(".")
    setattr(module.get_submodule(parent), attribute, _GivenStates(output_type))
    return TransformersModel(decoder=decoder, head=module, attention=attention, specs=specs, kv_shape=probe.kv_shape())


def _check_config(config: Any, max_model_len: int) -> None:
    """Refuse what the configuration alone shows."""
    text = config.get_text_config()
    if type(config) not in transformers.MODEL_FOR_CAUSAL_LM_MAPPING:
        refuse(config, "transformers has no model of it that generates text")
    for name in ("is_encoder_decoder", "add_cross_attention", "num_kv_shared_layers"):
        if value := getattr(text, name, None):
            refuse(config, f"{name}={value!r} is not supported")
    if strange := sorted(set(getattr(text, "layer_types", None) or ()) - set(PLAIN_LAYERS)):
        refuse(config, f"layer_types has {', '.join(strange)}; supported are {', '.join(PLAIN_LAYERS)}")
    for rope in _ropes(text):
        kind = rope.get("rope_type")
        original = rope.get("original_max_position_embeddings") or context_length(config)
        if kind in CHANGING_ROPES and max_model_len > original:
            refuse(config, f"rope_type={kind!r} needs a max_model_len of at most {original}, not {max_model_len}")


def _ropes(text_config: Any) -> Iterator[Mapping[str, Any]]:
    """The rotary embeddings' parameters; there may be one for each type of layer."""
    parameters = getattr(text_config, "rope_parameters", None) or getattr(text_config, "rope_scaling", None) or {}
    nested = [value for value in parameters.values() if isinstance(value, Mapping)]
    yield from nested or [parameters]


def _check_windows(text_config: Any, specs: tuple[AttentionSpec, ...]) -> None:
    """A layer that slides by the configuration must have told attention so; a mask would not come to us."""
    types = getattr(text_config, "layer_types", None) or ("",) * len(specs)
    for layer, (kind, spec) in enumerate(zip(types, specs, strict=True)):
        if kind == "sliding_attention" and spec.sliding_window is None:
            raise ModelLoadError(f"layer {layer} has a sliding window that it does not tell attention")
    window = getattr(text_config, "sliding_window", None)
    if window and not any(types) and all(spec.sliding_window is None for spec in specs):
        raise ModelLoadError(f"sliding_window={window} is told to no layer's attention")
