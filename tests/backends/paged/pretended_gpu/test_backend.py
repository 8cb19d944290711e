"""The paged backend under its engine on a pretended GPU: it says what it says on the CPU, and waits for nothing."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from pagemill.backends.paged.backend import PagedBackend
from pagemill.backends.paged.options import PagedOptions
from pagemill.engine.engine import Engine, EngineConfig
from pagemill.engine.prefix import compute_prefix
from pagemill.generation import GenerationRequest, SamplingParams, TokenLogprobs
from pagemill.prompts.bad_words import BadWords
from support.model_zoo import DECODERS, FOREIGN
from support.pretend_cuda_runtime import Runtime
from support.sampling_kinds import KINDS
from support.tiny_safetensors import TinyModel

STEPS = ("an event", "the recording of a graph")  # what the host may wait for while it generates
NOT_HERE = ("deepseek_v3",)  # its experts are counted by an operation that torch has on a GPU only
Answer = tuple[list[int], list[TokenLogprobs | None]]


def prompt(index: int, length: int) -> tuple[int, ...]:
    return tuple((index * 37 + place * 11) % 300 + 3 for place in range(length))


def requests(*samplings: SamplingParams, length: int = 20, num_tokens: int = 6) -> list[GenerationRequest]:
    return [
        GenerationRequest(
            request_id=str(index),
            prompt_token_ids=prompt(index, length + 3 * index),
            sampling=replace(sampling, max_tokens=num_tokens, ignore_eos=True),
        )
        for index, sampling in enumerate(samplings)
    ]


def load(folder: Path, **options: object) -> PagedBackend:
    limits: dict[str, object] = {
        "max_model_len": 256, "max_num_seqs": 16, "max_num_batched_tokens": 64, "threads": 1,
        "kv_cache_memory_bytes": 4 << 20,
    }  # fmt: skip
    return PagedBackend.load(folder, PagedOptions(**{**limits, **options}))  # type: ignore[arg-type]


def on_cpu(folder: Path, asked: Sequence[GenerationRequest], **options: object) -> list[Answer]:
    return asyncio.run(answers(load(folder, device="cpu", attention_backend="torch", **options), asked))


def on_gpu(gpu: Runtime, folder: Path, asked: Sequence[GenerationRequest], **options: object) -> list[Answer]:
    with gpu.device:
        backend = load(folder, device="cuda", **options)
    gpu.device.waits.clear()
    return asyncio.run(answers(backend, asked))


async def answers(backend: PagedBackend, asked: Sequence[GenerationRequest]) -> list[Answer]:
    engine = Engine(backend, EngineConfig())
    engine.start()
    try:
        return list(await asyncio.gather(*(_answer(engine, request) for request in asked)))
    finally:
        await engine.close()


async def _answer(engine: Engine, request: GenerationRequest) -> Answer:
    token_ids: list[int] = []
    logprobs: list[TokenLogprobs | None] = []
    with engine.generate(request) as stream:
        async for delta in stream:
            assert delta.error is None, delta.error
            token_ids += delta.token_ids
            logprobs += [*(delta.prompt_logprobs or ()), *(delta.logprobs or ())]
    return token_ids, logprobs


def numbers(answer: Answer) -> list[float]:
    return [
        value for entry in answer[1] if entry is not None for value in (entry.logprob, *(t.logprob for t in entry.top))
    ]


def assert_same(ours: Sequence[Answer], theirs: Sequence[Answer]) -> None:
    assert [answer[0] for answer in ours] == [answer[0] for answer in theirs]
    for mine, its in zip(ours, theirs, strict=True):
        assert numbers(mine) == pytest.approx(numbers(its), abs=1e-4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return TinyModel().write(tmp_path_factory.mktemp("llama") / "model")


def test_every_kind_of_sampling_gives_what_it_gives_on_the_cpu_without_a_wait(gpu: Runtime, folder: Path) -> None:
    asked = requests(*KINDS)
    theirs = on_cpu(folder, asked)
    ours = on_gpu(gpu, folder, asked)
    assert_same(ours, theirs)
    assert set(gpu.device.waits) - {"synchronize"} <= set(STEPS)
    assert gpu.num_replayed > gpu.num_recorded > 0


@pytest.mark.parametrize("gpu", ["interpreting"], indirect=True)
def test_triton_s_kernels_get_pointers_to_the_device_and_grids_that_it_can_launch(gpu: Runtime, tmp_path: Path) -> None:
    folder = TinyModel(overrides={"num_hidden_layers": 1}).write(tmp_path / "model")
    asked = requests(KINDS[0], KINDS[0], length=5, num_tokens=4)
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked), theirs)
    assert gpu.num_replayed


def test_a_long_prompt_in_many_steps_is_not_overwritten_on_its_way(gpu: Runtime, folder: Path) -> None:
    asked = requests(KINDS[0], length=200)
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked, max_num_batched_tokens=32), theirs)


def test_prompt_logprobs(gpu: Runtime, folder: Path) -> None:
    asked = requests(replace(KINDS[0], prompt_logprobs=3), KINDS[1])
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked), theirs)


def test_masks_of_tokens_are_sent_without_a_wait(gpu: Runtime, folder: Path) -> None:
    words = BadWords.of(load(folder, device="cpu").tokenizer, ["the", " a", "e"])
    asked = [replace(request, constraint=words) for request in requests(KINDS[0], KINDS[1])] + requests(KINDS[4])
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked), theirs)
    assert set(gpu.device.waits) - {"synchronize"} <= set(STEPS)


def test_fp8_pages(gpu: Runtime, folder: Path) -> None:
    asked = requests(*KINDS[:4], length=40)
    answers = on_gpu(gpu, folder, asked, kv_cache_dtype="fp8")
    assert all(len(answer[0]) == 6 for answer in answers)
    assert gpu.num_replayed


def test_without_graphs(gpu: Runtime, folder: Path) -> None:
    asked = requests(*KINDS)
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked, enforce_eager=True), theirs)
    assert not gpu.num_recorded


def test_plain_attention_waits_and_so_is_not_recorded(
    gpu: Runtime, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    asked = requests(KINDS[0])
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked, attention_backend="torch"), theirs)
    assert not gpu.num_recorded
    assert "No CUDA graph for 1 sequences, nor any more of them: aten::nonzero waits for the device" in caplog.text


@pytest.mark.parametrize("kv_cache_dtype", ["auto", "fp8"])
@pytest.mark.parametrize("there", [(4, 5, 6), (9, 2, 7)])
def test_pages_are_saved_and_loaded(gpu: Runtime, folder: Path, kv_cache_dtype: str, there: tuple[int, ...]) -> None:
    with gpu.device:
        backend = load(folder, device="cuda", kv_cache_dtype=kv_cache_dtype)
        saved = compute_prefix(backend, prompt(5, 40))
        backend.load_kv(there, 40, saved)
        assert backend.save_kv(there, 40) == saved
        backend.close()
    assert any(saved)


@pytest.mark.parametrize("name", [name for name in (*DECODERS, *FOREIGN) if name not in NOT_HERE])
def test_each_architecture_says_what_it_says_on_the_cpu_by_graphs(gpu: Runtime, name: str, tmp_path: Path) -> None:
    folder = {**DECODERS, **FOREIGN}[name].write(tmp_path / "model")
    asked = requests(KINDS[0], KINDS[0])
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked), theirs)
    is_mixture = "moe" in name or name == "mixtral"  # in float32 they wait for what the router chose
    assert bool(gpu.num_replayed) is not is_mixture
    assert is_mixture or set(gpu.device.waits) - {"synchronize"} <= set(STEPS)


@pytest.mark.parametrize(("capability", "is_grouped"), [((9, 0), True), ((8, 0), False)])
def test_experts_in_bfloat16_are_grouped_and_recorded_where_torch_has_a_kernel(
    gpu: Runtime, tmp_path: Path, capability: tuple[int, int], is_grouped: bool
) -> None:
    gpu.capability = capability
    folder = replace(DECODERS["mixtral"], dtype="bfloat16").write(tmp_path / "model")
    (answer,) = on_gpu(gpu, folder, requests(KINDS[0]))
    assert len(answer[0]) == 6
    assert bool(gpu.num_replayed) is is_grouped


def test_a_gpu_older_than_ampere_serves_by_plain_torch_in_float16(gpu: Runtime, tmp_path: Path) -> None:
    gpu.capability = (7, 5)
    folder = TinyModel(dtype="bfloat16").write(tmp_path / "model")
    with gpu.device:
        backend = load(folder, device="cuda")
    assert backend.info.quantization == "F16"
    (answer,) = asyncio.run(answers(backend, requests(KINDS[0])))
    assert len(answer[0]) == 6


@pytest.mark.parametrize("options", [{"max_model_len": 48}, {}, {"max_num_batched_tokens": 4096}])
def test_memory_is_measured(gpu: Runtime, folder: Path, options: dict[str, object]) -> None:
    gpu.total_bytes = 64 << 20
    gpu.peak_bytes = 40 << 20
    asked = requests(KINDS[0])
    theirs = on_cpu(folder, asked)
    assert_same(on_gpu(gpu, folder, asked, kv_cache_memory_bytes=None, **options), theirs)
