"""Both forms of the demo model answer the held-out prompts: through our engine, and through transformers."""

import asyncio
from pathlib import Path

import pytest

import pagemill.store
from grist.evaluate import MAX_NEW_TOKENS, MIN_AGREEMENT, MIN_EXACT, Record, load_heldout, torch_answerer
from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.engine.engine import Engine
from pagemill.generation import GenerationRequest, SamplingParams
from pagemill.prompts.chat_template import ChatTemplate

ARTEFACTS = Path(pagemill.store.__path__[0]) / "demo" / "grist"
MAX_SAFETENSORS_BYTES, MAX_GGUF_BYTES = 14_000_000, 8_000_000


async def ask(engine: Engine, template: ChatTemplate, record: Record) -> str:
    text = template.render(record["messages"], tools=record["tools"] or None)
    token_ids = engine.tokenizer.encode(text, add_special=False, parse_special=True)
    sampling = SamplingParams(temperature=0.0, max_tokens=MAX_NEW_TOKENS)
    request = GenerationRequest(request_id="heldout", prompt_token_ids=tuple(token_ids), sampling=sampling)
    with engine.generate(request) as stream:
        return "".join([delta.text async for delta in stream])


async def answer_all(records: list[Record]) -> list[str]:
    """All at once, sixteen in a batch."""
    backend = GGUFBackend.load(ARTEFACTS / "grist-q8_0.gguf", GGUFOptions(max_num_seqs=16, max_model_len=1024))
    source = backend.info.chat_template
    assert source is not None
    template = ChatTemplate(source, bos_token=backend.tokenizer.bos_token, eos_token=backend.tokenizer.eos_token)
    engine = Engine(backend)
    engine.start()
    try:
        return await asyncio.gather(*(ask(engine, template, record) for record in records))
    finally:
        await engine.close()


def share(records: list[Record], answers: list[str]) -> float:
    exact = [bool(answer == record["expected"]) for answer, record in zip(answers, records, strict=True)]
    return sum(exact) / len(exact)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # transformers' own
async def test_both_forms_answer_the_held_out_prompts_and_agree() -> None:
    records = load_heldout()
    gguf = await answer_all(records)
    assert share(records, gguf) >= MIN_EXACT
    answer = torch_answerer(ARTEFACTS, 2)
    safetensors = [answer(record) for record in records]
    assert share(records, safetensors) >= MIN_EXACT
    agreement = sum(a == b for a, b in zip(gguf, safetensors, strict=True)) / len(records)
    assert agreement >= MIN_AGREEMENT


def test_both_forms_are_small() -> None:
    gguf = ARTEFACTS / "grist-q8_0.gguf"
    assert gguf.stat().st_size <= MAX_GGUF_BYTES
    others = [path for path in ARTEFACTS.iterdir() if path != gguf]
    assert sum(path.stat().st_size for path in others) <= MAX_SAFETENSORS_BYTES
