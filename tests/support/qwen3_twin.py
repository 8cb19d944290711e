"""The weights of a tiny Qwen3 GGUF file in transformers' own model: what others make of the same numbers."""

from pathlib import Path

import gguf
import torch
import transformers
from torch import Tensor

from support.tiny_gguf import TinyModel


class Qwen3Twin:
    """transformers' model with the file's weights, and the file's own head of classes if it has one."""

    def __init__(self, model: TinyModel, path: Path) -> None:
        tensors = {tensor.name: torch.tensor(tensor.data.copy()) for tensor in gguf.GGUFReader(path).tensors}
        names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN3, model.num_layers)
        config = transformers.Qwen3Config(
            vocab_size=len(tensors["token_embd.weight"]),
            hidden_size=model.embedding,
            intermediate_size=model.feed_forward,
            num_hidden_layers=model.num_layers,
            num_attention_heads=model.heads,
            num_key_value_heads=model.kv_heads,
            head_dim=model.head_size,
            rms_norm_eps=1e-5,
            rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        )
        self._model = transformers.Qwen3Model(config).eval()
        ours = {name: names.get_name(f"model.{name}", try_suffixes=(".weight",)) for name in self._model.state_dict()}
        self._model.load_state_dict({name: tensors[our_name] for name, our_name in ours.items()})
        self._classes = tensors.get("cls.output.weight")

    def states(self, token_ids: tuple[int, ...]) -> Tensor:
        """`[num_tokens, hidden_size]`."""
        with torch.inference_mode():
            states: Tensor = self._model(torch.tensor([token_ids])).last_hidden_state[0]
        return states

    def probabilities(self, token_ids: tuple[int, ...]) -> list[float]:
        """Of the classes, at the last token."""
        assert self._classes is not None
        found: list[float] = (self._classes @ self.states(token_ids)[-1]).softmax(0).tolist()
        return found
