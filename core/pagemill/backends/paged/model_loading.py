"""From an open checkpoint to a model on its device: our generic decoder, else transformers' own definition."""

from dataclasses import dataclass

import torch

from pagemill.backends.paged.architectures import UnknownArchitectureError, read_architecture
from pagemill.backends.paged.attention import make_attention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder_loading import load_decoder
from pagemill.backends.paged.device import free_gpu_bytes
from pagemill.backends.paged.model import PagedModel
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.rope import stretched_length
from pagemill.errors import ModelLoadError
from pagemill.machine import available_memory_bytes

MIB = 2**20


@dataclass(frozen=True, slots=True)
class LoadedWeights:
    """A model, and what of its configuration the backend needs. `context_length` is what it was made for;
    `rope_length` the length that its rotary embedding was stretched for, if it is of a kind that changes with that.
    """

    model: PagedModel
    context_length: int
    embedding_length: int
    rope_length: int = 0


def load_weights(
    checkpoint: Checkpoint, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> LoadedWeights:
    """Put the weights on the device.

    Raises:
        ModelLoadError: names the file, tensor or field that is wrong, or the memory that is missing.
    """
    _check_memory(checkpoint, device, dtype)
    if options.model_impl != "transformers":
        try:
            return _load_decoder(checkpoint, options, device, dtype)
        except UnknownArchitectureError:
            if options.model_impl == "pagemill":
                raise
    return _load_transformers(checkpoint, options, device, dtype)


def _load_decoder(
    checkpoint: Checkpoint, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> LoadedWeights:
    config = read_architecture(checkpoint.config).config
    max_model_len = options.max_model_len or config.max_position_embeddings
    decoder = load_decoder(
        checkpoint,
        dtype=dtype,
        device=device,
        ops=make_ops(options.attention_backend, device, dtype),
        attention=make_attention(options.attention_backend, device, dtype),
        max_model_len=max_model_len,
    )
    lengths = [stretched_length(layer.rope, max_model_len) for layer in config.layers if layer.rope is not None]
    return LoadedWeights(decoder, config.max_position_embeddings, config.hidden_size, max(lengths, default=0))


def _load_transformers(
    checkpoint: Checkpoint, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> LoadedWeights:
    try:
        from pagemill.backends.paged.transformers_model import load_transformers_model
    except ImportError as error:
        model_type = checkpoint.config["model_type"]
        raise ModelLoadError(f"model_type={model_type!r} needs transformers: pip install transformers") from error
    model = load_transformers_model(
        checkpoint,
        dtype=dtype,
        device=device,
        attention=make_attention(options.attention_backend, device, dtype),
        max_model_len=options.max_model_len,
    )
    return LoadedWeights(model, model.context_length, model.hidden_size)


def _check_memory(checkpoint: Checkpoint, device: torch.device, dtype: torch.dtype) -> None:
    needed = checkpoint.num_parameters * dtype.itemsize
    free = available_memory_bytes() if device.type == "cpu" else free_gpu_bytes(device)
    if needed > free:
        raise ModelLoadError(
            f"{checkpoint.folder} has {checkpoint.num_parameters / 1e9:.2f} billion parameters, which take "
            f"{needed / MIB:.0f} MiB as {str(dtype).removeprefix('torch.')}; {free / MIB:.0f} MiB are free on {device}"
        )
