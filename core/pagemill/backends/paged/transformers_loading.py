"""Models by transformers' own definitions: their configurations and weights, with what is wrong said by name.

Owns no state.
"""

import logging
from pathlib import Path
from typing import Any, NoReturn

import transformers
from transformers.utils import logging as transformers_logging

from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.errors import ModelLoadError

logger = logging.getLogger(__name__)

LENGTH_FIELDS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length")


def read_transformers_config(checkpoint: Checkpoint) -> Any:
    """
    Raises:
        ModelLoadError: transformers does not know the architecture, or can't read its configuration.
    """
    model_type = checkpoint.config.get("model_type")
    if model_type not in transformers.CONFIG_MAPPING:
        known = f"transformers {transformers.__version__} has no model_type={model_type!r}"
        if "auto_map" in checkpoint.config:
            raise ModelLoadError(f"{known}, and the code in {checkpoint.folder} (auto_map) is not run")
        raise ModelLoadError(known)
    try:
        return transformers.AutoConfig.from_pretrained(checkpoint.folder, local_files_only=True)
    except Exception as error:  # it raises what it likes for fields that it doesn't like
        raise ModelLoadError(f"transformers can't read {checkpoint.folder / 'config.json'}: {error}") from error


def load_module(folder: Path, config: Any, auto_class: Any, *, may_lack: tuple[str, ...] = (), **arguments: Any) -> Any:
    """The folder's model as transformers' `auto_class` makes it, for inference. `may_lack`: in the names of parameters
    that are not used.

    Raises:
        ModelLoadError: it could not, or the weights are not all there; names them.
    """
    shows_progress = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        module, report = auto_class.from_pretrained(
            folder, config=config, local_files_only=True, output_loading_info=True, **arguments
        )
    except Exception as error:  # as for the configuration
        refuse(config, f"transformers could not load {folder}: {error}", error)
    finally:
        if shows_progress:
            transformers_logging.enable_progress_bar()
    for kind in ("missing_keys", "mismatched_keys", "error_msgs"):
        if found := [str(name) for name in report.get(kind) or () if not any(part in str(name) for part in may_lack)]:
            refuse(config, f"{folder} has {kind.replace('_', ' ')}: {sorted(found)}")
    if unexpected := report.get("unexpected_keys"):
        logger.warning("The checkpoint has tensors that the model has no place for: %s", ", ".join(sorted(unexpected)))
    return module.eval().requires_grad_(False)


def context_length(config: Any) -> int:
    """What the model was made for, in tokens.

    Raises:
        ModelLoadError: the configuration does not say.
    """
    length = find_context_length(config)
    if length is None:
        raise ModelLoadError(f"config.json: none of {', '.join(LENGTH_FIELDS)} says how long a sequence may be")
    return length


def find_context_length(config: Any) -> int | None:
    """As `context_length`; None if the configuration does not say."""
    found = (getattr(config.get_text_config(), name, None) for name in LENGTH_FIELDS)
    return next((length for length in found if isinstance(length, int)), None)


def refuse(config: Any, reason: str, cause: Exception | None = None) -> NoReturn:
    """Raise the error that names the architecture."""
    raise ModelLoadError(f"model_type={config.model_type!r} can't run through transformers here: {reason}") from cause
