"""What a family's checkpoints call the tensors. Owns no state.

Names are of modules, below a layer's prefix: ".weight" and ".bias" are added where a tensor is read. Where ours is one
fused tensor and theirs are several, the names stand in the order of the fused tensor's rows.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorNames:
    """Defaults are Llama's. What a model does not have, by its configuration, is not asked for."""

    prefixes: tuple[str, ...] = ("model.",)  # of everything but the head; the first that the checkpoint knows is used
    head: str = "lm_head"
    qkv: tuple[str, ...] = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj")
    attention_output: str = "self_attn.o_proj"
    query_norm: str = "self_attn.q_norm"
    key_norm: str = "self_attn.k_norm"
    norm_before_attention: str = "input_layernorm"
    norm_after_attention: str = "post_attention_layernorm"
    norm_before_mlp: str = "post_attention_layernorm"
    norm_after_mlp: str = "post_feedforward_layernorm"
    gate_up: tuple[str, ...] = ("mlp.gate_proj", "mlp.up_proj")
    down: str = "mlp.down_proj"
    router: str = "mlp.gate"
    expert_gate_up: tuple[str, ...] = ("mlp.experts.{}.gate_proj", "mlp.experts.{}.up_proj")  # {}: the expert's number
    expert_down: str = "mlp.experts.{}.down_proj"
    ignored: tuple[str, ...] = ("rotary_emb.inv_freq", "masked_bias")  # endings of tensors that are not needed
    ignored_prefixes: tuple[str, ...] = ()  # parts of the model that are not run


LLAMA = TensorNames()
PHI3 = TensorNames(qkv=("self_attn.qkv_proj",), gate_up=("mlp.gate_up_proj",))
GEMMA = TensorNames(
    prefixes=("model.", "language_model.model.", "model.language_model."),
    norm_before_mlp="pre_feedforward_layernorm",
    ignored_prefixes=("vision_tower.", "multi_modal_projector.", "model.vision_tower.", "model.multi_modal_projector."),
)
MIXTRAL = TensorNames(
    router="block_sparse_moe.gate",
    expert_gate_up=("block_sparse_moe.experts.{}.w1", "block_sparse_moe.experts.{}.w3"),
    expert_down="block_sparse_moe.experts.{}.w2",
)
