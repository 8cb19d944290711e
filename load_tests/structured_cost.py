"""What structured output costs a token, beside a decode step of the same model.

    python -m load_tests.structured_cost --params 0.6B --backend gguf

Generates in each format with the engine as it is, on one sequence after the other at temperature 1, and times within
it: the mask (what may come next), the advance (taking a token in), and applying the mask to the logits. The rest of a
step's time is what the same step takes without a format. Medians and means over all tokens; an output that is complete
is followed by another, so that beginnings count as they come. Compiling is off the event loop, and told apart.

The random model's tokens are made up, so what a mask costs with a model's real vocabulary may differ.
"""

import argparse
import asyncio
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import fmean, median
from types import ModuleType
from typing import Any

from load_tests.model_folders import model_folder
from load_tests.models import model_path, shapes
from load_tests.report import save, table
from load_tests.runs import default_threads
from pagemill.backends.base import Backend
from pagemill.engine.engine import Engine
from pagemill.generation import GenerationRequest, SamplingParams, TokenConstraint, TokenMatcher
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import JSON_OBJECT, Concat, Format, JSONSchema, Regex, Until

AIM = 0.05
PROMPT = tuple(range(300, 364))
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 40},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "email": {"type": "string", "format": "email"},
        "tags": {"type": "array", "items": {"enum": ["red", "green", "blue"]}, "maxItems": 5},
        "address": {"type": "object", "properties": {"street": {"type": "string"}, "city": {"type": "string"}}},
    },
    "required": ["name", "age", "email", "tags", "address"],
}


def formats() -> dict[str, Format]:
    """What is measured, by name."""
    schema = JSONSchema(json.dumps(PERSON), "schema")
    return {
        "JSON object": JSONSchema(JSON_OBJECT, "json"),
        "JSON schema": schema,
        "regex": Regex(r"([0-9a-f]{4}-){7}[0-9a-f]{4}", "regex"),
        "thinking, then a schema": Concat((Until(("</think>",)), schema)),
    }


@dataclass(slots=True)
class Times:
    """Seconds, a number for each token."""

    mask: list[float] = field(default_factory=list)
    advance: list[float] = field(default_factory=list)
    apply: list[float] = field(default_factory=list)
    step: list[float] = field(default_factory=list)  # from token to token, all of it


class TimedMatcher:
    """A matcher that notes how long it takes."""

    def __init__(self, matcher: TokenMatcher, times: Times) -> None:
        self._matcher = matcher
        self._times = times

    @property
    def may_end(self) -> bool:
        return self._matcher.may_end

    def allowed(self) -> bytes:
        began = time.perf_counter()
        mask = self._matcher.allowed()
        self._times.mask.append(time.perf_counter() - began)
        return mask

    def advance(self, token_id: int) -> None:
        began = time.perf_counter()
        self._matcher.advance(token_id)
        self._times.advance.append(time.perf_counter() - began)


class TimedConstraint:
    """A constraint whose matchers note how long they take."""

    def __init__(self, constraint: TokenConstraint, times: Times) -> None:
        self._constraint = constraint
        self._times = times

    def matcher(self) -> TimedMatcher:
        return TimedMatcher(self._constraint.matcher(), self._times)


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one format, in seconds."""

    num_tokens: int
    compile: float
    mask: float
    advance: float
    apply: float
    step: float  # median
    ratio: float  # mean cost of a token to the rest of a step

    @classmethod
    def of(cls, times: Times, compile_s: float) -> "Cost":
        mask, advance, apply = (fmean(values) for values in (times.mask, times.advance, times.apply))
        own, step = mask + advance + apply, median(times.step)
        return cls(len(times.step), compile_s, mask, advance, apply, step, own / (step - own))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="what structured output costs a token, beside a decode step")
    parser.add_argument("--backend", choices=("gguf", "paged"), default="gguf", help="default: %(default)s")
    parser.add_argument("--params", choices=sorted(shapes()), default="0.6B", help="the model's size (%(default)s)")
    parser.add_argument("--tokens", type=int, default=300, help="of each format (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="default: %(default)s")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    times = Times()
    backend, module = load(options.backend, options.params, options.threads)
    module.keep_only = timed(module.keep_only, times)  # type: ignore[attr-defined]  # of the module that applies masks
    costs = asyncio.run(measure(backend, times, options.tokens))
    print(report(costs))
    if not options.no_save:
        figures = {"options": vars(options), "costs": {name: asdict(value) for name, value in costs.items()}}
        print("saved", save("structured-cost", figures))


def load(kind: str, params: str, threads: int, num_seqs: int = 1) -> tuple[Backend, ModuleType]:
    """The backend, and the module in which it finds `keep_only`."""
    if kind == "gguf":
        from pagemill.backends.gguf import mask
        from pagemill.backends.gguf.backend import GGUFBackend
        from pagemill.backends.gguf.options import GGUFOptions

        options = GGUFOptions(max_model_len=1024, max_num_seqs=num_seqs, max_num_batched_tokens=256, threads=threads)
        return GGUFBackend.load(model_path(params), options), mask
    from pagemill.backends.paged.backend import PagedBackend
    from pagemill.backends.paged.options import PagedOptions
    from pagemill.backends.paged.sampling import sampler

    return PagedBackend.load(model_folder(params), PagedOptions(max_model_len=1024, threads=threads)), sampler


def timed(function: Callable[..., None], times: Times) -> Callable[..., None]:
    """The function, its time noted. On a GPU that would be the time of launching it."""

    def call(*arguments: Any) -> None:
        began = time.perf_counter()
        function(*arguments)
        times.apply.append(time.perf_counter() - began)

    return call


async def measure(backend: Backend, times: Times, num_tokens: int) -> dict[str, Cost]:
    """All formats, one after the other."""
    engine = Engine(backend)
    engine.start()
    compiler = GrammarCompiler(engine.tokenizer, max_source_bytes=100_000, cache_size=0)
    compiler.compile(Regex("a", "first"))  # makes the vocabulary
    costs = {}
    for name, wanted in formats().items():
        began = time.perf_counter()
        grammar = compiler.compile(wanted)
        compile_s = time.perf_counter() - began
        for values in (times.mask, times.advance, times.apply, times.step):
            values.clear()
        while len(times.step) < num_tokens:
            await generate(engine, TimedConstraint(grammar, times), times, num_tokens)
        costs[name] = Cost.of(times, compile_s)
    await engine.close()
    return costs


async def generate(engine: Engine, constraint: TokenConstraint, times: Times, num_tokens: int) -> None:
    """One output; its first token, which the prompt is computed for, is no decode step."""
    sampling = SamplingParams(max_tokens=num_tokens, seed=len(times.step))
    request = GenerationRequest(request_id="c", prompt_token_ids=PROMPT, sampling=sampling, constraint=constraint)
    last: float | None = None
    with engine.generate(request) as stream:
        async for _ in stream:
            now = time.perf_counter()
            if last is not None:
                times.step.append(now - last)
            last = now


def report(costs: dict[str, Cost]) -> str:
    """The table that is printed."""
    header = ("format", "tokens", "compile ms", "mask us", "advance us", "apply us", "step ms", "cost / rest of step")
    rows = [
        (
            name,
            str(cost.num_tokens),
            f"{cost.compile * 1e3:.1f}",
            *(f"{seconds * 1e6:.0f}" for seconds in (cost.mask, cost.advance, cost.apply)),
            f"{cost.step * 1e3:.1f}",
            f"{cost.ratio:.2%}",
        )
        for name, cost in costs.items()
    ]
    worst = max(cost.ratio for cost in costs.values())
    return f"{table(header, rows)}\naim {AIM:.0%}: {'held' if worst <= AIM else 'missed'}, worst {worst:.2%}"


if __name__ == "__main__":
    main()
