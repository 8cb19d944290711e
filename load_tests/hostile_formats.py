"""What others notice of a client whose formats are made to cost much.

    python -m load_tests.hostile_formats [--params 0.6B] [--unlimited]

One client generates without a format, at first beside others that have none either, then beside as many that send the
same hostile format over and over. Told is how long the first waits from token to token, and what became of the others'
outputs. `--unlimited` lifts `max_grammar_ms` and has the library's own limit of items, ten times ours.
"""

import argparse
import asyncio
import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from statistics import median

from load_tests.report import save, table
from load_tests.runs import default_threads
from load_tests.structured_cost import load
from pagemill.engine.engine import Engine
from pagemill.errors import PagemillError
from pagemill.generation import GenerationRequest, SamplingParams, TokenConstraint
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Format, Grammar, JSONSchema, Regex
from pagemill.prompts.structured_output.limits import GrammarLimits

UNLIMITED = GrammarLimits(max_items=50_000, max_ms=1e9)
PROMPT = tuple(range(300, 316))
NUM_RULES = 1500


def hostile() -> dict[str, Format | None]:
    """By name, and none at all."""
    rules = (
        f'r{i}: r{(7 * i + 1) % NUM_RULES} "x" | r{(13 * i + 5) % NUM_RULES} "y" | /[a-z]/' for i in range(NUM_RULES)
    )
    members = {f"member{index}": {"type": "string"} for index in range(400)}
    return {
        "no format": None,
        "ambiguous grammar": Grammar('start: s\ns: s s | s s s | "a" | "b" | "ab" | ""', "g"),
        "many rules": Grammar(f"start: {' | '.join(f'r{i}' for i in range(NUM_RULES))}\n" + "\n".join(rules), "g"),
        "counted pattern": Regex("([a-z]{1,200} ?){1,200}", "r"),
        "large classes": Regex(r"\p{L}{0,500}[\p{L}\p{N}]{0,500}x", "r"),
        "400 optional members": JSONSchema(json.dumps({"type": "object", "properties": members}), "s"),
    }


@dataclass(frozen=True, slots=True)
class Waits:
    """Seconds from token to token of who has no format."""

    median: float
    p99: float
    longest: float
    outcomes: dict[str, int]  # of the others' outputs

    @classmethod
    def of(cls, times: Sequence[float], outcomes: Counter[str]) -> "Waits":
        gaps = sorted(after - before for before, after in pairwise(times))
        return cls(median(gaps), gaps[int(0.99 * len(gaps))], gaps[-1], dict(outcomes))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and save."""
    parser = argparse.ArgumentParser(description="what others notice of a client with hostile formats")
    parser.add_argument("--params", default="0.6B", help="the model's size (%(default)s)")
    parser.add_argument("--clients", type=int, default=4, help="that send such formats (%(default)s)")
    parser.add_argument("--tokens", type=int, default=150, help="of who has none (%(default)s)")
    parser.add_argument("--threads", type=int, default=default_threads(), help="default: %(default)s")
    parser.add_argument("--unlimited", action="store_true", help="as it would be without our limits")
    parser.add_argument("--no-save", action="store_true", help="print only")
    options = parser.parse_args(arguments)
    waits = asyncio.run(measure(options))
    rows = [
        (name, *(f"{seconds * 1e3:.0f}" for seconds in (found.median, found.p99, found.longest)), str(found.outcomes))
        for name, found in waits.items()
    ]
    print(table(("beside", "median ms", "p99 ms", "longest ms", "outputs"), rows))
    if not options.no_save:
        figures = {"options": vars(options), "waits": {name: asdict(found) for name, found in waits.items()}}
        print("saved", save("hostile-formats", figures))


async def measure(options: argparse.Namespace) -> dict[str, Waits]:
    """All formats, one after the other."""
    backend, _ = load("gguf", options.params, options.threads, options.clients + 1)
    engine = Engine(backend)
    engine.start()
    limits = UNLIMITED if options.unlimited else GrammarLimits()
    compiler = GrammarCompiler(engine.tokenizer, max_source_bytes=2**17, cache_size=8, limits=limits)
    compiler.compile(Regex("a", "first"))  # makes the vocabulary
    waits = {}
    for name, wanted in hostile().items():
        outcomes: Counter[str] = Counter()
        try:
            if wanted is not None:
                compiler.submit(wanted).result()
        except PagemillError as error:
            print(f"refused: {name}: {error.message}")
            continue
        others = [asyncio.create_task(send(engine, compiler, wanted, outcomes)) for _ in range(options.clients)]
        waits[name] = Waits.of(await generate(engine, None, options.tokens), outcomes)
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)
    await engine.close()
    return waits


async def send(engine: Engine, compiler: GrammarCompiler, wanted: Format | None, outcomes: Counter[str]) -> None:
    """The same format, again and again."""
    while True:
        try:
            constraint = None
            if wanted is not None:
                constraint = await asyncio.wrap_future(compiler.submit(wanted))
            await generate(engine, constraint, 200)
            outcomes["ended"] += 1
        except PagemillError as error:
            outcomes[error.message.partition(":")[2] or error.message] += 1
            await asyncio.sleep(0)  # what fails at once awaits nothing


async def generate(engine: Engine, constraint: TokenConstraint | None, num_tokens: int) -> list[float]:
    """When each token came."""
    sampling = SamplingParams(max_tokens=num_tokens, ignore_eos=True)
    request = GenerationRequest(request_id="r", prompt_token_ids=PROMPT, sampling=sampling, constraint=constraint)
    with engine.generate(request) as stream:
        return [time.perf_counter() async for _ in stream]


if __name__ == "__main__":
    main()
