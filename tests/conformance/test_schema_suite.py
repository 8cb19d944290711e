"""Random models at temperature 1, over the schemas of the public JSON-Schema-Test-Suite that are supported: whatever
ends by itself is valid.
"""

import asyncio
import json

from conformance.conftest import OpenEngine
from conformance.test_semantics import run
from conformance.test_structured_output import finish, text
from pagemill.engine.engine import Engine
from pagemill.generation import FinishReason, GenerationRequest, SamplingParams
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.matcher import CompiledGrammar
from support.json_schema_suite import Group, supported

NUM_SEEDS = 3
LEAST_STOPPED = 0.7  # of the outputs; the others run into max_tokens, most inside a string


async def outputs(engine: Engine, grammar: CompiledGrammar) -> list[str]:
    """Those that ended by themselves."""
    request = GenerationRequest(
        request_id="suite",
        prompt_token_ids=(65, 66, 67),
        n=NUM_SEEDS,
        sampling=SamplingParams(temperature=1.0, seed=1, max_tokens=200),
        constraint=grammar,
    )
    deltas = await run(engine, request)
    return [text(deltas, index) for index in range(NUM_SEEDS) if finish(deltas, index) is FinishReason.STOP]


async def check(engine: Engine, seats: asyncio.Semaphore, group: Group, grammar: CompiledGrammar) -> int:
    async with seats:
        stopped = await outputs(engine, grammar)
    for output in stopped:
        assert group.is_valid(json.loads(output)), (group.name, output)
    return len(stopped)


async def test_every_output_that_ends_by_itself_is_valid(open_engine: OpenEngine) -> None:
    engine = await open_engine(max_num_seqs=32)
    compiler = GrammarCompiler(engine.tokenizer, max_source_bytes=100_000, cache_size=0)
    cases = list(supported(compiler))
    assert len(cases) == 191
    if engine.info.architecture == "fake":  # its distribution is made in Python, a hundred times slower
        cases = cases[::8]
    seats = asyncio.Semaphore(50)
    num_stopped = sum(await asyncio.gather(*(check(engine, seats, group, grammar) for group, grammar in cases)))
    print(f"{num_stopped} of {len(cases) * NUM_SEEDS} outputs ended by themselves")
    assert num_stopped > LEAST_STOPPED * len(cases) * NUM_SEEDS
