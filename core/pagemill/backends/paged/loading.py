"""From a model folder to what serves it: a backend that generates text, or an embedder. Owns no state."""

from pathlib import Path
from typing import TYPE_CHECKING

from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.encoder.config import ENCODERS
from pagemill.backends.paged.model_folder import read_config
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.sentence_files import is_qwen3_reranker, is_sentence_model
from pagemill.errors import ModelLoadError

# How transformers' classes are called that generate no text.
EMBEDDING_CLASSES = ("ForSequenceClassification", "ForMaskedLM", "EncoderModel", "BertModel")

if TYPE_CHECKING:
    from pagemill.backends.paged.embedder import PagedEmbedder


def load_paged(folder: Path, options: PagedOptions) -> "PagedBackend | PagedEmbedder":
    """Load a model, as what its files or `options.runner` say that it is.

    Raises:
        ModelLoadError: names the file, tensor, field or number that is wrong.
        SettingsError: the settings contradict one another, or ask for what does not run here.
    """
    if not makes_embeddings(folder, options):
        return PagedBackend.load(folder, options)
    from pagemill.backends.paged.embedder_loading import load_embedder

    return load_embedder(folder, options)


def makes_embeddings(folder: Path, options: PagedOptions) -> bool:
    """Whether the model is an embedder, as its files or `options.runner` say.

    Raises:
        ModelLoadError: it is to generate text and can't.
    """
    config = read_config(folder)
    classes = config.get("architectures") or ()
    is_encoder = config["model_type"] in ENCODERS or any(str(name).endswith(EMBEDDING_CLASSES) for name in classes)
    if is_encoder and options.runner == "generate":
        raise ModelLoadError(f"can't serve {folder} with the runner generate: it makes embeddings or scores")
    is_told = options.runner == "auto" and (
        is_sentence_model(folder) or is_qwen3_reranker(folder, config["model_type"])
    )
    return is_encoder or is_told or options.runner == "pooling"
