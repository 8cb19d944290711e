"""Ollama's options, of a request (`options`) or of a model (its parameters): read with Ollama's types and defaults, and
turned into `SamplingParams`.

Owns no state. This is the one place where unknown keys pass, as Ollama lets them, with a warning in the log; so do a
request's options about how a model is loaded, since a model is loaded as the server's settings and its own parameters
say.
"""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass
from reprlib import repr as shown

from pagemill.errors import InvalidRequestError
from pagemill.generation import SamplingParams

logger = logging.getLogger(__name__)

INTEGERS = frozenset({"num_ctx", "num_keep", "num_predict", "seed", "top_k", "repeat_last_n"})
FLOATS = frozenset(
    {"top_p", "min_p", "typical_p", "repeat_penalty", "temperature", "presence_penalty", "frequency_penalty"}
)
LOAD_INTEGERS = frozenset({"num_batch", "num_gpu", "main_gpu", "num_thread"})
LOAD_BOOLEANS = frozenset({"use_mmap"})
BOOLEANS = {"true": True, "1": True, "false": False, "0": False}
OF_GENERATIONS = INTEGERS | FLOATS | {"stop"}
ALL = OF_GENERATIONS | LOAD_INTEGERS | LOAD_BOOLEANS
OF_LOADING = frozenset({"num_ctx", "num_batch", "num_thread", "use_mmap"})  # those that a model can be loaded by
OPTION_OF_FIELD = {"repetition_penalty": "repeat_penalty", "max_tokens": "num_predict"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Ollama's options that concern a generation, with its defaults."""

    num_ctx: int | None = None  # tokens that this request may use of the context; None: all
    num_keep: int = 4  # tokens of a prompt's beginning that `truncate` and `shift` keep; below 0: all
    num_predict: int = -1  # -1 and -2: as many as the context holds, or an answer that shifts may have
    seed: int = -1  # -1: not reproducible
    top_k: int = 40  # 0 or less: off
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64  # 0: off; -1: all of the context
    repeat_penalty: float = 1.0
    temperature: float = 0.8
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()

    @classmethod
    def of(cls, values: Mapping[str, object]) -> "Options":
        """Of typed options, those that concern a generation.

        Raises:
            InvalidRequestError: one is out of its range; names it.
        """
        return cls(**of_generations(values))  # type: ignore[arg-type]  # their types were checked by name

    def __post_init__(self) -> None:
        _require(self.num_ctx is None or self.num_ctx >= 1, "num_ctx", self.num_ctx, "at least 1")
        _require(self.num_predict >= -2, "num_predict", self.num_predict, "-1, -2 or at least 0")
        _require(self.repeat_last_n >= -1, "repeat_last_n", self.repeat_last_n, "-1 or at least 0")
        self.sampling(max_tokens=0, logprobs=None)  # raises for what is out of range, before a model is loaded

    def context_length(self, max_model_len: int) -> int:
        """How many tokens prompt and output may have. A `num_ctx` beyond the loaded context is cut to that: clients
        send it as a wish on every request, and one whose prompt does not fit is refused in any case.
        """
        if self.num_ctx is None:
            return max_model_len
        if self.num_ctx > max_model_len:
            logger.warning("num_ctx is %s, the model is loaded with a context of %s", self.num_ctx, max_model_len)
        return min(self.num_ctx, max_model_len)

    def sampling(self, *, max_tokens: int | None, logprobs: int | None) -> SamplingParams:
        """The sampling of one request.

        Raises:
            InvalidRequestError: a value is out of its range; names the option.
        """
        top_k, top_p = max(self.top_k, 0), self.top_p
        if top_p == 0:  # llama.cpp, which Ollama hands it to, keeps just the most likely token
            top_k, top_p = 1, 1.0
        try:
            return SamplingParams(
                max_tokens=max_tokens,
                temperature=self.temperature,
                top_k=top_k,
                top_p=top_p,
                min_p=self.min_p,
                typical_p=self.typical_p,
                repetition_penalty=self.repeat_penalty,
                presence_penalty=self.presence_penalty,
                frequency_penalty=self.frequency_penalty,
                penalty_last_n=None if self.repeat_last_n < 0 else self.repeat_last_n,
                seed=None if self.seed == -1 else self.seed,
                stop=self.stop,
                logprobs=logprobs,
            )
        except InvalidRequestError as error:
            raise _in_ollama_terms(error) from error


def read_options(
    given: Mapping[str, object] | None, *, max_stop: int, defaults: Mapping[str, object] | None = None
) -> Options:
    """The options of a request, with those of its model for what it leaves out. One that is null is as if absent.

    Raises:
        InvalidRequestError: one has a wrong type or value; names it.
    """
    values = typed_options(given or {}, max_stop=max_stop)
    for name, value in (given or {}).items():
        if name not in OF_GENERATIONS and value is not None:
            why = "the server's settings say how models are loaded" if name in values else "it is not known"
            logger.warning("option %s has no effect: %s", shown(name), why)
    return Options.of({**(defaults or {}), **values})


def typed_options(given: Mapping[str, object], *, max_stop: int | None = None) -> dict[str, object]:
    """Those that are known, also about loading.

    Raises:
        InvalidRequestError: one has a wrong type; names it.
    """
    values: dict[str, object] = {}
    for name, value in given.items():
        if value is None:
            continue
        if name in INTEGERS or name in LOAD_INTEGERS:
            values[name] = _integer(name, value)
        elif name in FLOATS:
            values[name] = _number(name, value)
        elif name in LOAD_BOOLEANS:
            values[name] = _boolean(name, value)
        elif name == "stop":
            values[name] = _strings(name, value, max_stop)
    return values


def parameter_of_text(name: str, text: str) -> object:
    """A value as people write it, in the type of the option; a list of one for an option that has several.

    Raises:
        InvalidRequestError: there is no such option, or the text is no such value; names both.
    """
    if name == "stop":
        return [text]
    if name in LOAD_BOOLEANS:
        if text.lower() not in BOOLEANS:
            raise InvalidRequestError(f"{name} is true or false, got {text!r}", param=name)
        return BOOLEANS[text.lower()]
    if name not in INTEGERS | LOAD_INTEGERS | FLOATS:
        raise InvalidRequestError(f"unknown parameter {name!r}; there are {', '.join(sorted(ALL))}", param=name)
    try:
        value = float(text) if name in FLOATS else int(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        kind = "a number" if name in FLOATS else "an integer"
        raise InvalidRequestError(f"{name} is {kind}, got {text!r}", param=name)
    return value


def of_generations(values: Mapping[str, object]) -> dict[str, object]:
    """Those among typed options that concern a generation: what `Options` is made of."""
    return {name: value for name, value in values.items() if name in OF_GENERATIONS}


def _integer(name: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():  # JSON has one kind of number, and clients write 10.0
        return int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong_type(name, "integer", value)
    return value


def _number(name: str, value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or abs(value) > 1e308:
        raise _wrong_type(name, "float", value)
    return float(value)


def _boolean(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(name, "boolean", value)
    return value


def _strings(name: str, value: object, max_count: int | None) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong_type(name, "array of strings", value)
    if max_count is not None and len(value) > max_count:
        raise InvalidRequestError(
            f'option "{name}" has {len(value)} strings, at most {max_count} are allowed', param=name
        )
    return tuple(value)


def _wrong_type(name: str, kind: str, value: object) -> InvalidRequestError:
    return InvalidRequestError(f'option "{name}" must be of type {kind}, got {shown(value)}', param=name)


def _in_ollama_terms(error: InvalidRequestError) -> InvalidRequestError:
    name = OPTION_OF_FIELD.get(error.param or "", error.param)
    return InvalidRequestError(error.message.replace(error.param or "", name or "", 1), param=name)


def _require(condition: bool, name: str, value: object, rule: str) -> None:
    if not condition:
        raise InvalidRequestError(f"{name} must be {rule}, got {value!r}", param=name)
