"""Both forms of the demo model answer the held-out prompts: on both backends, and through transformers."""

import asyncio
from pathlib import Path

import pytest

import pagemill.store
from grist.evaluate import MAX_NEW_TOKENS, MIN_AGREEMENT, MIN_EXACT, Record, load_heldout, torch_answerer
from pagemill.backends.base import Backend
from pagemill.backends.gguf.backend import GGUFBackend
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.options import PagedOptions
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


async def answer_all(backend: Backend, records: list[Record]) -> list[str]:
    """All at once, sixteen in a batch."""
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
    gguf_options = GGUFOptions(max_num_seqs=16, max_model_len=1024)
    gguf = await answer_all(GGUFBackend.load(ARTEFACTS / "grist-q8_0.gguf", gguf_options), records)
    paged_options = PagedOptions(device="cpu", max_num_seqs=16, kv_cache_memory_bytes=2**28)
    paged = await answer_all(PagedBackend.load(ARTEFACTS, paged_options), records)
    answer = torch_answerer(ARTEFACTS, 2)
    oracle = [answer(record) for record in records]
    for answers in (gguf, paged, oracle):
        assert share(records, answers) >= MIN_EXACT
    for one, other in ((gguf, paged), (paged, oracle)):
        agreement = sum(a == b for a, b in zip(one, other, strict=True)) / len(records)
        assert agreement >= MIN_AGREEMENT


def test_both_forms_are_small() -> None:
    gguf = ARTEFACTS / "grist-q8_0.gguf"
    assert gguf.stat().st_size <= MAX_GGUF_BYTES
    others = [path for path in ARTEFACTS.iterdir() if path != gguf]
    assert sum(path.stat().st_size for path in others) <= MAX_SAFETENSORS_BYTES
