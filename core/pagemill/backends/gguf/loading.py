"""From a GGUF file to what serves it: a backend that generates text, or an embedder. Owns no state."""

from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.library import load_library
from pagemill.backends.gguf.model import Model, load_model
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.gguf.pooling import Pooling, pooling_of
from pagemill.errors import ModelLoadError

if TYPE_CHECKING:
    from pagemill.backends.gguf.embedder import GGUFEmbedder

logger = getLogger(__name__)


def load_gguf(path: Path, options: GGUFOptions) -> "GGUFBackend | GGUFEmbedder":
    """Load a model, as what the file or `options.runner` says that it is.

    Raises:
        ModelLoadError: names the file and the reason.
    """
    began = perf_counter()
    model = load_model(load_library(), path, options)
    try:
        pooling = pooling_of(model, options.runner)
    except ModelLoadError:
        model.close()
        raise
    loaded = GGUFBackend.of(model, options) if pooling is None else _embedder(model, pooling, options)
    logger.info("loaded %s in %.2f s", path, perf_counter() - began)
    return loaded


def _embedder(model: Model, pooling: Pooling, options: GGUFOptions) -> "GGUFEmbedder":
    from pagemill.backends.gguf.embedder import GGUFEmbedder

    return GGUFEmbedder.of(model, pooling, options)
