"""Whether a GGUF model makes embeddings, and how it makes one vector of a sequence. Owns no state."""

from logging import getLogger
from typing import NamedTuple

from pagemill.backends.gguf.metadata import read_header
from pagemill.backends.gguf.model import Model
from pagemill.errors import ModelLoadError

logger = getLogger(__name__)

NONE, MEAN, CLS, LAST, RANK = range(5)  # enum llama_pooling_type
NAMES = ("none", "mean", "cls", "last", "rank")
HEAD = "cls."  # how the names of a head's tensors begin
RERANK_TEMPLATE = "tokenizer.chat_template.rerank"


class Pooling(NamedTuple):
    """How an embedding model is run."""

    kind: int  # one of the constants above, not NONE
    causal: bool  # whether a token sees only those before it


def pooling_of(model: Model, runner: str) -> Pooling | None:
    """How the model makes embeddings, None if it is to generate text. `runner` is the setting: "pooling" makes an
    embedding model of any, "auto" goes by what the file says.

    Raises:
        ModelLoadError: it can't be run so; says why.
    """
    architecture = model.architecture
    said = model.text(f"{architecture}.pooling_type") or "0"
    causal = model.text(f"{architecture}.attention.causal") != "false"
    if runner == "generate" or (runner == "auto" and causal and said == "0"):
        return None
    _refuse_what_cannot_embed(model)
    if not said.isdigit() or int(said) >= len(NAMES):
        raise ModelLoadError(f"can't serve {model.path}: {architecture}.pooling_type {said} is not known")
    kind = int(said)
    if kind == NONE:
        kind = RANK if _has_classes(model) or head_tensors(model) else LAST if causal else MEAN
        logger.info("%s names no pooling_type: %s is taken", model.path, NAMES[kind])
    return Pooling(kind, causal)


def head_tensors(model: Model) -> list[str]:
    """Those of a head that scores pairs: all that old files of cross-encoders have to be known by."""
    return [tensor.name for tensor in read_header(model.path).tensors if tensor.name.startswith(HEAD)]


def _has_classes(model: Model) -> bool:
    """Whether the file names classes of its head, which is all that llama.cpp's converter says of a cross-encoder."""
    return model.library.c.llama_model_cls_label(model.handle, 0) is not None


def _refuse_what_cannot_embed(model: Model) -> None:
    c = model.library.c
    if c.llama_model_has_encoder(model.handle):
        what = f"{model.architecture} is an encoder model with cross-attention, which makes no embeddings"
    elif c.llama_model_is_diffusion(model.handle):
        what = f"{model.architecture} is a diffusion model, which makes no embeddings"
    elif model.is_recurrent:
        what = f"{model.architecture} is recurrent, and embeddings of such models are not supported"
    else:
        return
    raise ModelLoadError(f"can't serve {model.path}: {what}")
