"""The one place that knows model families: from config.json to a decoder's configuration and its tensors' names.

Owns no state. Imports no transformers: a family that is not in `families.FAMILIES` is one for transformers' own
definition, which is what `UnknownArchitectureError` tells the loader.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pagemill.backends.paged.architectures.families import FAMILIES
from pagemill.backends.paged.architectures.fields import Fields
from pagemill.backends.paged.architectures.names import TensorNames
from pagemill.backends.paged.config import DecoderConfig
from pagemill.errors import ModelLoadError

logger = logging.getLogger(__name__)

CAUSAL = ("ForCausalLM", "LMHeadModel")
RUNNABLE = (*CAUSAL, "Gemma3ForConditionalGeneration")


class UnknownArchitectureError(ModelLoadError):
    """The generic decoder does not know the checkpoint's model_type; transformers' own definition may."""


@dataclass(frozen=True, slots=True)
class Architecture:
    """What a checkpoint is, as its config.json says."""

    config: DecoderConfig
    names: TensorNames


def read_architecture(values: Mapping[str, Any], *, generates: bool = True) -> Architecture:
    """`values`: config.json as parsed. `generates`: whether the model has to be one that generates text.

    Raises:
        UnknownArchitectureError: the model_type is none of ours.
        ModelLoadError: a field's value is missing, wrong, or one that we don't honour.
    """
    model_type = values.get("model_type")
    family = FAMILIES.get(str(model_type))
    if family is None:
        raise UnknownArchitectureError(f"config.json: no definition of our own for model_type={model_type!r}")
    classes = values.get("architectures") or []
    if generates and classes and not any(str(name).endswith(RUNNABLE) for name in classes):
        raise ModelLoadError(f"config.json: architectures={classes!r} is not a model that generates text")
    fields = Fields(dict(family.defaults) | dict(language_model_fields(values)))
    config = family.read(fields)
    if unread := fields.unread():
        logger.warning("config.json: fields that nothing is known of: %s", ", ".join(unread))
    return Architecture(config, family.names)


def language_model_fields(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields of the language model: all, or the object within config.json that has them in a multimodal one."""
    family = FAMILIES.get(str(values.get("model_type")))
    if family is None or family.nested is None:
        return values
    inner = values.get(family.nested)
    if not isinstance(inner, Mapping):
        raise ModelLoadError(f"config.json: {family.nested}={inner!r} is not an object")
    outer = {name: values[name] for name in ("model_type", "tie_word_embeddings") if name in values}
    return dict(inner) | outer
