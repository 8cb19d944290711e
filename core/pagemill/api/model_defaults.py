"""What a model was given beside its weights, applied to requests of every dialect: its parameters where a request is
silent, its system prompt and its messages before a conversation's own. Owns no state.
"""

from collections.abc import Sequence
from itertools import takewhile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagemill.pool import LoadedModel
    from pagemill.store.references import Reference

SYSTEM_ROLES = ("system", "developer")
SAMPLING_FIELDS = {
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "typical_p": "typical_p",
    "repeat_penalty": "repetition_penalty",
    "presence_penalty": "presence_penalty",
    "frequency_penalty": "frequency_penalty",
    "repeat_last_n": "penalty_last_n",
    "seed": "seed",
    "stop": "stop",
    "num_predict": "max_tokens",
}


def options_of(reference: "Reference") -> dict[str, object]:
    """The model's parameters that concern a generation, as options of Ollama's. By the others it was loaded."""
    if reference.defaults is None:
        return {}
    from pagemill.ollama_options import OF_LOADING, of_generations

    found = of_generations(reference.defaults.parameters)
    return {name: value for name, value in found.items() if name not in OF_LOADING}


def sampling_of(reference: "Reference") -> dict[str, Any]:
    """The same as fields of `SamplingParams`, those that the model sets."""
    given = options_of(reference)
    if not given:
        return {}
    from pagemill.ollama_options import Options

    options = Options.of(given)
    limit = None if options.num_predict < 0 else options.num_predict
    sampling = options.sampling(max_tokens=limit, logprobs=None)
    found = {field: getattr(sampling, field) for name, field in SAMPLING_FIELDS.items() if name in given}
    return {**found, "top_k": sampling.top_k} if options.top_p == 0 else found  # that is how it says: greedy


def opened(model: "LoadedModel", messages: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """The messages after those of the model. System messages at their beginning are in place of the model's, and stay
    there.
    """
    defaults = model.reference.defaults
    if defaults is None or not (defaults.system or defaults.messages):
        return messages
    system = list(takewhile(lambda message: message.get("role") in SYSTEM_ROLES, messages))
    rest = messages[len(system) :]
    if defaults.system and not system:
        system = [{"role": "system", "content": defaults.system}]
    return [*system, *(dict(message) for message in defaults.messages), *rest]
