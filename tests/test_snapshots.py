"""From a made snapshot to a server that starts with it, or says why it doesn't."""

import logging
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pagemill.backend_choice import load_generator
from pagemill.backends.fake import FakeBackend
from pagemill.bootstrap import load_model
from pagemill.errors import ModelLoadError, SettingsError
from pagemill.generation import GenerationRequest, SamplingParams
from pagemill.pool import LoadedModel
from pagemill.settings import Settings
from pagemill.settings_layers import load_settings
from pagemill.snapshots import check_fit, make_snapshot
from pagemill.store.references import ModelReference, resolve
from pagemill.store.snapshot_file import open_snapshot, write_snapshot
from support.tiny_gguf import TinyModel
from support.tiny_safetensors import TinyModel as TinyFolder

PREFIX = "You are the miller of a paper mill by the river. "
LIMITS = {"max_model_len": 256, "max_num_seqs": 2, "max_num_batched_tokens": 32, "threads": 1}


@pytest.fixture(scope="module", params=["gguf", "safetensors"])
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a snapshot beside it."""
    folder = tmp_path_factory.mktemp("made")
    path = TinyModel().write(folder / "m.gguf") if request.param == "gguf" else TinyFolder().write(folder / "m")
    make(path)
    return path


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = TinyModel().write(tmp_path_factory.mktemp("gguf") / "m.gguf")
    make(path)
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = TinyFolder().write(tmp_path_factory.mktemp("folder") / "m")
    make(path)
    return path


def settings_of(path: Path, **values: Any) -> Settings:
    memory = {"kv_cache_memory_bytes": 2**20, "device": "cpu"} if path.is_dir() else {}
    return Settings(**{"model": str(path), **LIMITS, **memory, **values})


def reference_of(path: Path) -> ModelReference:
    reference = resolve(str(path))
    assert isinstance(reference, ModelReference)
    return reference


def make(path: Path, output: Path | None = None, text: str = PREFIX, **values: Any) -> Path:
    """As `pagemill snapshot` does."""
    reference = reference_of(path)
    backend = load_generator(reference, settings_of(path, **{"max_num_seqs": 1, **values}))
    try:
        token_ids = tuple(backend.tokenizer.encode(text, add_special=True, parse_special=True))
        output = output or reference.snapshot_path()
        make_snapshot(reference, backend, "paged" if path.is_dir() else "gguf", token_ids, output)
    finally:
        backend.close()
    return output


@asynccontextmanager
async def loaded(path: Path, **values: Any) -> AsyncIterator[LoadedModel]:
    model = await load_model(reference_of(path), settings_of(path, **values))
    try:
        yield model
    finally:
        await model.engine.close()


async def answer(model: LoadedModel, text: str) -> tuple[list[int], int]:
    """The tokens of an answer, and how many of the prompt's were cached."""
    token_ids = tuple(model.tokenizer.encode(text, add_special=True, parse_special=True))
    sampling = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
    request = GenerationRequest(request_id="r", prompt_token_ids=token_ids, sampling=sampling)
    with model.engine.generate(request) as stream:
        deltas = [delta async for delta in stream]
    return [token for delta in deltas for token in delta.token_ids], deltas[-1].usage.cached_tokens


async def refusal(path: Path, **values: Any) -> str:
    """Why the model is not loaded with these settings."""
    with pytest.raises(ModelLoadError) as refused:
        async with loaded(path, **values):
            pass
    return str(refused.value)


async def test_the_one_beside_the_model_is_taken_and_changes_no_token(made: Path) -> None:
    async with loaded(made) as model:
        tokens, num_cached = await answer(model, PREFIX + "Who are you?")
    async with loaded(made, prefix_snapshot=("off",)) as model:
        assert await answer(model, PREFIX + "Who are you?") == (tokens, 0)
    assert num_cached == len(open_snapshot(reference_of(made).snapshot_path()).head.token_ids)


async def test_of_a_model_with_a_sliding_window_it_is_taken_whole_or_not_at_all(tmp_path: Path) -> None:
    path = TinyModel(architecture="gemma2").write(tmp_path / "m.gguf")
    text = PREFIX * 3  # longer than the window
    num_tokens = len(open_snapshot(make(path, text=text)).head.token_ids)
    prompts = (text + "Who are you?", text[:-20] + "Who are you?", text + "Who am I?")
    async with loaded(path) as model:
        answers = [await answer(model, prompt) for prompt in prompts]
    async with loaded(path, prefix_snapshot=("off",)) as model:
        plain = [await answer(model, prompt) for prompt in prompts]
    assert [tokens for tokens, _ in answers] == [tokens for tokens, _ in plain]
    assert answers[0][1] == num_tokens
    assert answers[1][1] == 0
    assert answers[2][1] >= num_tokens


async def test_of_a_recurrent_model_the_first_who_begins_so_goes_on_from_it(tmp_path: Path) -> None:
    path = TinyModel(architecture="mamba").write(tmp_path / "m.gguf")
    num_tokens = len(open_snapshot(make(path)).head.token_ids)
    async with loaded(path) as model:
        answers = [await answer(model, PREFIX + question) for question in ("Who are you?", "Who am I?")]
    async with loaded(path, prefix_snapshot=("off",)) as model:
        plain = [await answer(model, PREFIX + question) for question in ("Who are you?", "Who am I?")]
    assert [tokens for tokens, _ in answers] == [tokens for tokens, _ in plain]
    assert [num_cached for _, num_cached in answers] == [num_tokens, 0]


async def test_a_named_one_may_lie_anywhere_and_of_another_number_of_sequences(made: Path, tmp_path: Path) -> None:
    path = make(made, tmp_path / "elsewhere", PREFIX + PREFIX)
    async with loaded(made, prefix_snapshot=(str(path),), max_num_seqs=3) as model:
        assert (await answer(model, PREFIX + PREFIX + "zzz"))[1] == len(open_snapshot(path).head.token_ids)


async def test_named_ones_and_the_one_beside_the_model_are_there_together(made: Path, tmp_path: Path) -> None:
    path = make(made, tmp_path / "other", "Once upon a time " + PREFIX)
    async with loaded(made, prefix_snapshot=("auto", str(path))) as model:
        for text in (PREFIX, "Once upon a time " + PREFIX):
            assert (await answer(model, text + "zzz"))[1] >= len(text) // 2


async def test_a_file_beside_the_model_that_does_not_fit_is_a_warning(
    gguf: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with loaded(gguf, kv_cache_dtype="q8_0") as model:
            assert (await answer(model, PREFIX + "zzz"))[1] == 0
    [warning] = [record.message for record in caplog.records if record.name == "pagemill.snapshots"]
    assert "m.gguf.snapshot does not fit: it was made with kv_cache_dtype f16, here kv_cache_dtype is q8_0" in warning


@pytest.mark.parametrize(
    ("values", "field", "before", "now"),
    [
        ({"kv_cache_dtype": "q8_0"}, "kv_cache_dtype", "f16", "q8_0"),
        ({"flash_attn": "off"}, "flash_attn", "auto", "off"),
    ],
)
async def test_other_gguf_settings_are_refused_with_the_field_and_both_values(
    gguf: Path, values: dict[str, str], field: str, before: str, now: str
) -> None:
    path = reference_of(gguf).snapshot_path()
    message = await refusal(gguf, prefix_snapshot=(str(path),), **values)
    assert message.endswith(f"{path} does not fit: it was made with {field} {before}, here {field} is {now}")


@pytest.mark.parametrize(
    ("values", "field", "before", "now"),
    [
        ({"block_size": 32}, "block_size", "16", "32"),
        ({"dtype": "bfloat16"}, "dtype", "F32", "BF16"),
    ],
)
async def test_other_paged_settings_are_refused_with_the_field_and_both_values(
    folder: Path, values: dict[str, Any], field: str, before: str, now: str
) -> None:
    path = reference_of(folder).snapshot_path()
    message = await refusal(folder, prefix_snapshot=(str(path),), **values)
    assert message.endswith(f"{path} does not fit: it was made with {field} {before}, here {field} is {now}")


@pytest.mark.parametrize("field", ["llama_cpp", "architecture", "rope_factors"])
def test_whatever_the_kv_depends_on_is_compared_and_named(gguf: Path, field: str) -> None:
    snapshot = open_snapshot(reference_of(gguf).snapshot_path())
    check_fit(snapshot, "gguf", snapshot.head.identity)
    with pytest.raises(ModelLoadError, match=rf"made with {field} .*, here {field} is other"):
        check_fit(snapshot, "gguf", {**snapshot.head.identity, field: "other"})
    with pytest.raises(ModelLoadError, match=r"made with backend gguf, here backend is paged"):
        check_fit(snapshot, "paged", snapshot.head.identity)


async def test_another_model_is_refused_with_both_digests(gguf: Path, tmp_path: Path) -> None:
    other = TinyModel(seed=1).write(tmp_path / "m.gguf")
    message = await refusal(other, prefix_snapshot=(str(reference_of(gguf).snapshot_path()),))
    assert reference_of(gguf).digest() in message
    assert reference_of(other).digest() in message


async def test_a_copy_of_the_model_is_the_same_model(gguf: Path, tmp_path: Path) -> None:
    copy = shutil.copyfile(gguf, tmp_path / "copy.gguf")
    async with loaded(copy, prefix_snapshot=(str(reference_of(gguf).snapshot_path()),)) as model:
        assert (await answer(model, PREFIX + "zzz"))[1] > 0


async def test_a_damaged_file_is_refused_and_named(made: Path, tmp_path: Path) -> None:
    content = bytearray(reference_of(made).snapshot_path().read_bytes())
    content[-5] ^= 1
    path = tmp_path / "damaged.snapshot"
    path.write_bytes(content)
    assert await refusal(made, prefix_snapshot=(str(path),)) == (
        f"the prefix snapshot {path} is damaged: its checksum does not match"
    )


async def test_a_missing_file_is_refused_and_named(made: Path, tmp_path: Path) -> None:
    message = await refusal(made, prefix_snapshot=(str(tmp_path / "none"),))
    assert message == f"can't read the prefix snapshot {tmp_path / 'none'}: No such file or directory"


async def test_kv_that_the_backend_does_not_take_is_refused_with_its_reason(made: Path, tmp_path: Path) -> None:
    from zlib import crc32

    good = open_snapshot(reference_of(made).snapshot_path())
    data = good.data[: len(good.data) // 2]
    path = tmp_path / "half"
    write_snapshot(path, replace(good.head, num_bytes=len(data), crc32=crc32(data)), data)
    assert (await refusal(made, prefix_snapshot=(str(path),))).startswith(
        f"the prefix snapshot {path} can't be restored: "
    )


async def test_one_that_is_longer_than_the_context_is_refused_with_the_numbers(made: Path) -> None:
    path = reference_of(made).snapshot_path()
    num_tokens = len(open_snapshot(path).head.token_ids)
    message = await refusal(made, prefix_snapshot=(str(path),), max_model_len=16)
    assert f"its {num_tokens} tokens leave no room for a prompt: max_model_len is 16" in message


async def test_more_prefixes_than_there_are_slots_are_refused_with_the_numbers(gguf: Path) -> None:
    path = reference_of(gguf).snapshot_path()
    num_tokens = len(open_snapshot(path).head.token_ids)
    message = await refusal(gguf, prefix_snapshot=(str(path), str(path)), max_num_seqs=1)
    assert f"there is no room for its {num_tokens} tokens: of 256 tokens of KV cache {num_tokens} hold" in message


async def test_prefixes_that_need_more_pages_than_there_are_are_refused_with_the_numbers(
    folder: Path, tmp_path: Path
) -> None:
    paths = [make(folder, tmp_path / begin, begin + PREFIX * 4) for begin in "abc"]
    num_tokens = len(open_snapshot(paths[0]).head.token_ids)
    named = tuple(map(str, paths))
    message = await refusal(folder, prefix_snapshot=named, kv_cache_memory_bytes=(num_tokens + 16) * 2 * 1024)
    assert message.startswith(
        f"the prefix snapshot {paths[2]} can't be restored: there is no room for its {num_tokens}"
    )


async def test_without_prefix_caching_the_one_beside_the_model_is_left_alone(made: Path) -> None:
    async with loaded(made, enable_prefix_caching=False) as model:
        assert (await answer(model, PREFIX + "zzz"))[1] == 0


def test_a_named_one_without_prefix_caching_contradicts_itself() -> None:
    with pytest.raises(SettingsError, match=r"prefix_snapshot \(a\) needs enable_prefix_caching"):
        load_settings({"prefix_snapshot": ("a",), "enable_prefix_caching": False}, {})


def test_off_beside_a_file_contradicts_itself() -> None:
    with pytest.raises(SettingsError, match=r"prefix_snapshot: off goes with nothing else, got off, a"):
        load_settings({}, {"PAGEMILL_PREFIX_SNAPSHOT": "off,a"})


@pytest.mark.parametrize("num_tokens", [0, 100, 101])
def test_a_prefix_that_is_empty_or_fills_the_context_is_not_made(tmp_path: Path, num_tokens: int) -> None:
    backend = FakeBackend(max_model_len=100)
    reference = resolve("fake")
    assert isinstance(reference, ModelReference)
    with pytest.raises(ModelLoadError, match=rf"it has {num_tokens}, and max_model_len is 100"):
        make_snapshot(reference, backend, "fake", (65,) * num_tokens, tmp_path / "s")
