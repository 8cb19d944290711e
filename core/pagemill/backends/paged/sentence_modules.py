"""What sentence-transformers' folders do to a vector behind the pooling: Dense, LayerNorm, Normalize. Owns the weights.

All of it in float32, which vectors have from the pooling on.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.checkpoint import open_weight_file
from pagemill.backends.paged.embedder import PooledModel
from pagemill.backends.paged.model_folder import FORMATS, read_json_object
from pagemill.backends.paged.sentence_files import SentenceModule
from pagemill.errors import ModelLoadError

VectorModule = Callable[[Tensor], Tensor]  # `[num_vectors, size]` to as many, of maybe another size
ACTIVATIONS: Mapping[str, VectorModule] = {  # what torch's classes are called
    "Identity": lambda vectors: vectors,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
    "Sigmoid": torch.sigmoid,
}
VECTOR = "sentence_embedding"  # what the modules call it


@dataclass(frozen=True, slots=True)
class Dense:
    """`activation(weight x + bias)`."""

    weight: Tensor  # [out_features, in_features]
    bias: Tensor | None
    activation: VectorModule

    def __call__(self, vectors: Tensor) -> Tensor:
        return self.activation(functional.linear(vectors, self.weight, self.bias))


@dataclass(frozen=True, slots=True)
class LayerNorm:
    weight: Tensor
    bias: Tensor

    def __call__(self, vectors: Tensor) -> Tensor:
        return functional.layer_norm(vectors, self.weight.shape, self.weight, self.bias)


@dataclass(frozen=True, slots=True)
class PooledModelWithModules:
    """A `PooledModel` whose rows go through modules in turn."""

    model: PooledModel
    modules: Sequence[VectorModule]

    def __call__(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        rows = self.model(inputs)
        for module in self.modules:
            rows = module(rows)
        return rows


def load_vector_modules(
    modules: Sequence[SentenceModule], size: int, device: torch.device
) -> tuple[list[VectorModule], int]:
    """The modules behind a pooling to vectors of `size`, and the size that they make of it.

    Raises:
        ModelLoadError: a file is missing, or its contents don't fit or are not supported; names it.
    """
    loaded: list[VectorModule] = []
    for module in modules:
        if module.kind == "Dense":
            dense = _dense(module.folder, size, device)
            size = len(dense.weight)
            loaded.append(dense)
        elif module.kind == "LayerNorm":
            weights = _read(module.folder, {"norm.weight": (size,), "norm.bias": (size,)}, device)
            loaded.append(LayerNorm(weights["norm.weight"], weights["norm.bias"]))
        else:
            loaded.append(functional.normalize)
    return loaded, size


def _dense(folder: Path, size: int, device: torch.device) -> Dense:
    path = folder / "config.json"
    config = read_json_object(path)
    _expect(path, config, "in_features", (size,))
    _expect(path, config, "use_residual", (False, None))
    for name in ("module_input_name", "module_output_name"):
        _expect(path, config, name, (VECTOR, None))
    rows = config.get("out_features")
    if type(rows) is not int or rows < 1:
        raise ModelLoadError(f"{path}: out_features={rows!r} is not a positive integer")
    activation = ACTIVATIONS.get(str(config.get("activation_function", "Tanh")).rpartition(".")[2])
    if activation is None:
        raise ModelLoadError(f"{path}: activation_function={config['activation_function']!r} is not supported")
    shapes: dict[str, tuple[int, ...]] = {"linear.weight": (rows, size)}
    if config.get("bias", True):
        shapes["linear.bias"] = (rows,)
    weights = _read(folder, shapes, device)
    return Dense(weights["linear.weight"], weights.get("linear.bias"), activation)


def _expect(path: Path, config: Mapping[str, Any], name: str, values: Sequence[object]) -> None:
    value = config.get(name)
    if value not in values:
        raise ModelLoadError(f"{path}: {name}={value!r} is not supported; it would have to be {values[0]!r}")


def _read(folder: Path, shapes: Mapping[str, tuple[int, ...]], device: torch.device) -> dict[str, Tensor]:
    path = next((folder / name for name in FORMATS if (folder / name).is_file()), None)
    if path is None:
        raise ModelLoadError(f"{folder} has none of {', '.join(FORMATS)}")
    file = open_weight_file(path)
    try:
        return {name: _tensor(file, name, shape).to(device) for name, shape in shapes.items()}
    finally:
        file.close()


def _tensor(file: Any, name: str, shape: tuple[int, ...]) -> Tensor:
    if name not in file.entries or file.entries[name].shape != shape:
        found = list(file.entries[name].shape) if name in file.entries else "missing"
        raise ModelLoadError(f"{file.path}: the tensor {name} should have the shape {list(shape)}, but is {found}")
    tensor: Tensor = file.load(name)
    return tensor.to(torch.float32, copy=True)
