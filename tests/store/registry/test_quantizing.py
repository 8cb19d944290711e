"""Quantizations in a models folder, by a quantizer of the tests."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import aclosing
from pathlib import Path

import pytest

from pagemill.errors import ModelLoadError
from pagemill.store.registry import creation, manifests
from pagemill.store.registry.manifests import Manifest
from pagemill.store.registry.names import ModelName
from pagemill.store.registry.pulling import Status
from pagemill.store.registry.quantizing import Plan, Quantizations
from support.registry_models import digest_of, write_model

WHOLE, SMALL = b"GGUF" + bytes(1000), b"GGUFsmall"


class HeldQuantizer:
    """Writes the small model; before it ends it waits for `released`, or to be stopped."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.released = threading.Event()
        self.running: list[str] = []
        self.most_at_once = 0
        self.failure: Exception | None = None

    def type_named(self, text: str) -> str:
        return text.upper()

    def type_of(self, source: Path) -> str:
        assert source.read_bytes() == WHOLE
        return "F16"

    def quantize(
        self, source: Path, target: Path, kind: str, report: Callable[[int], None], stopped: threading.Event
    ) -> None:
        self.running.append(kind)
        self.most_at_once = max(self.most_at_once, len(self.running))
        self.begun.set()
        target.write_bytes(SMALL)
        report(500)
        while not self.released.is_set() and not stopped.wait(0.001):
            pass
        self.running.remove(kind)
        if self.failure is not None:
            raise self.failure


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_model(tmp_path, "tiny", WHOLE, system=b"Be brief.")
    return tmp_path


@pytest.fixture
def quantizer() -> HeldQuantizer:
    return HeldQuantizer()


@pytest.fixture
def quantizations(folder: Path, quantizer: HeldQuantizer) -> Quantizations:
    return Quantizations(folder, quantizer)


@pytest.fixture
def plan(folder: Path, quantizations: Quantizations) -> Plan:
    return quantizations.plan(creation.of_model(folder, ModelName.parse("tiny")), "q8_0")


async def finished(quantizations: Quantizations, plan: Plan) -> list[Status | Manifest]:
    return [told async for told in quantizations.run(plan)]


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "blobs").iterdir()}


async def test_the_new_file_takes_the_place_of_the_old_one(
    folder: Path, quantizations: Quantizations, quantizer: HeldQuantizer, plan: Plan
) -> None:
    quantizer.released.set()
    *told, made = await finished(quantizations, plan)
    assert isinstance(made, Manifest)
    assert [(layer.kind, layer.digest) for layer in made.layers] == [
        ("model", digest_of(SMALL)),
        ("system", digest_of(b"Be brief.")),
    ]
    assert made.layers[0].size_bytes == len(SMALL)
    assert (folder / "blobs" / digest_of(SMALL).replace(":", "-")).read_bytes() == SMALL
    assert made.config is not None
    config = json.loads((folder / "blobs" / made.config.digest.replace(":", "-")).read_text())
    assert config == {
        "model_format": "gguf",
        "model_family": "qwen3",
        "file_type": "Q8_0",
        "rootfs": {"type": "layers", "diff_ids": [layer.digest for layer in made.layers]},
    }
    first, last = told[0], told[-1]
    assert first == Status("quantizing F16 model to Q8_0", digest_of(WHOLE), len(WHOLE), 0)
    assert last == first._replace(completed=len(WHOLE))


async def test_one_that_is_closed_early_leaves_nothing(
    folder: Path, quantizations: Quantizations, quantizer: HeldQuantizer, plan: Plan
) -> None:
    before = files(folder)
    async with aclosing(quantizations.run(plan)) as told:
        async for status in told:
            assert isinstance(status, Status)
            if status.completed == 500:
                assert len(files(folder)) == len(before) + 1
                break
    assert (files(folder), quantizer.running) == (before, [])
    quantizer.released.set()
    assert isinstance((await finished(quantizations, plan))[-1], Manifest), "the next one has its turn"


async def test_they_take_turns(quantizations: Quantizations, quantizer: HeldQuantizer, plan: Plan) -> None:
    both = [asyncio.create_task(finished(quantizations, plan)) for _ in range(2)]
    await asyncio.to_thread(quantizer.begun.wait)
    await asyncio.sleep(0.05)  # for the other to begin, if it would
    quantizer.released.set()
    assert [type((await task)[-1]) for task in both] == [Manifest, Manifest]
    assert quantizer.most_at_once == 1


async def test_a_failure_leaves_nothing(
    folder: Path, quantizations: Quantizations, quantizer: HeldQuantizer, plan: Plan
) -> None:
    before = files(folder)
    quantizer.failure = ModelLoadError("can't quantize it")
    quantizer.released.set()
    with pytest.raises(ModelLoadError, match="can't quantize it"):
        await finished(quantizations, plan)
    assert files(folder) == before


async def test_a_folder_that_is_gone_is_an_error_of_the_model(
    folder: Path, quantizations: Quantizations, quantizer: HeldQuantizer, plan: Plan
) -> None:
    (folder / "blobs").rename(folder / "elsewhere")
    quantizer.released.set()
    with pytest.raises(ModelLoadError, match=f"can't keep {digest_of(WHOLE)} as Q8_0: No such file or directory"):
        await finished(quantizations, plan)


async def test_a_file_of_that_type_stays_as_it_is(folder: Path, quantizations: Quantizations) -> None:
    manifest = manifests.read(folder, ModelName.parse("tiny"))
    assert await finished(quantizations, quantizations.plan(manifest, "f16")) == [manifest]
