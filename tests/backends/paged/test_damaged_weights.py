"""Damaged files of weights: an error that names the file and what is wrong, and never other bytes for a tensor."""

import json
import math
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from safetensors.torch import load_file  # noqa: E402

from pagemill.backends.paged.checkpoint import Checkpoint  # noqa: E402
from pagemill.errors import ModelLoadError  # noqa: E402
from support.checkpoint_files import CONFIG, FORMS, refusal, write_shards, write_single  # noqa: E402


def with_header(path: Path, header: bytes, data: bytes | None = None) -> None:
    """Replace the header of a safetensors file, and its data if given."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes(len(header).to_bytes(8, "little") + header + (content[8 + length :] if data is None else data))


# Damaged safetensors


def test_a_truncated_file_is_named_with_the_tensor_that_is_cut(tmp_path: Path) -> None:
    path = write_single(tmp_path)
    path.write_bytes(path.read_bytes()[:-10])
    message = refusal(tmp_path)
    assert f"{path} is truncated or damaged" in message
    assert re.search(r"the tensor \S+ ends at byte \d+ of the data, of which there are \d+", message)


def test_a_truncated_shard_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    paths[1].write_bytes(paths[1].read_bytes()[:-1])
    assert f"{paths[1]} is truncated" in refusal(tmp_path)


@pytest.mark.parametrize("size", [0, 1, 7, 8, 60])
def test_a_file_cut_within_its_header_says_both_lengths(size: int, tmp_path: Path) -> None:
    path = write_single(tmp_path)
    path.write_bytes(path.read_bytes()[:size])
    assert f"it is {size} bytes long and its header would be" in refusal(tmp_path)


def test_a_git_lfs_pointer_is_told_from_damage(tmp_path: Path) -> None:
    for form in ("safetensors", "bin"):
        path = write_single(tmp_path / form, form)
        path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n")
        assert "is a Git LFS pointer, not the file itself" in refusal(tmp_path / form)


def test_bytes_after_the_last_tensor_are_damage(tmp_path: Path) -> None:
    path = write_single(tmp_path)
    path.write_bytes(path.read_bytes() + b"123")
    assert "3 bytes follow its last tensor" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"no json", "header is not JSON"),
        (b"\xff\xfe\xfd", "header is not JSON"),
        (b"[" * 50_000, "header is not JSON"),
        (b"[]", "header is no JSON object"),
        (b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}, "w": 5}', "'w' is in it twice"),
        (b'{"w": 5}', "entry of the tensor w is 5"),
        (b'{"w": {}}', "entry of the tensor w is {}"),
        (b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [0]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": "F32", "shape": [true], "data_offsets": [0, 4]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": "F32", "shape": [99999999999999999999], "data_offsets": [0, 4]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": ["F32"], "shape": [1], "data_offsets": [0, 4]}}', "entry of the tensor w"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', r"w, F32 \[2\], needs 8 bytes and has 4"),
        (b'{"w": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}', "needs 4 bytes and has -4"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}', "w ends at byte 8 of the data, .* are 4"),
        (b'{"w": {"dtype": "I8", "shape": [3], "data_offsets": [1, 4]}}', "w begins at byte 1 .*not at 0.*hole"),
        (b'{"w": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]}}', "1 bytes follow its last tensor"),
        (
            b'{"w": {"dtype": "I8", "shape": [3], "data_offsets": [0, 3]},'
            b' "v": {"dtype": "I8", "shape": [2], "data_offsets": [2, 4]}}',
            "v begins at byte 2 .*not at 3.*overlaps",
        ),
        (b"{}", "4 bytes follow its last tensor"),
        (b'{"__metadata__": 5, "w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}', "damaged"),
    ],
)
def test_a_wrong_header_says_what_is_wrong(header: bytes, reason: str, tmp_path: Path) -> None:
    path = write_single(tmp_path)
    with_header(path, header, bytes(4))
    message = refusal(tmp_path)
    assert str(path) in message
    assert re.search(reason, message)


def test_a_header_without_tensors_is_refused(tmp_path: Path) -> None:
    path = write_single(tmp_path)
    with_header(path, b"{}", b"")
    assert "holds no tensors" in refusal(tmp_path)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "U64", "F4", "I4"])
def test_an_unsupported_type_is_named_with_its_tensor(dtype: str, tmp_path: Path) -> None:
    path = write_single(tmp_path)
    header = {"w": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}
    with_header(path, json.dumps(header).encode(), bytes(4))
    assert f"the tensor w of {path} is {dtype}, which is not supported" in refusal(tmp_path)


# Damaged .bin files


@pytest.mark.parametrize("form", ["bin", "legacy bin"])
def test_a_truncated_pickle_is_refused_by_name(form: str, tmp_path: Path) -> None:
    path = write_single(tmp_path, form)
    content = path.read_bytes()
    for size in (0, 1, 50, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        assert f"{path} is damaged, or no file of tensors" in refusal(tmp_path)


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    path = write_single(tmp_path, "bin", {"weight": torch.ones(1), "evil": Malice(tmp_path / "ran")})
    assert f"{path} is damaged, or no file of tensors" in refusal(tmp_path)
    assert not (tmp_path / "ran").exists()


class Malice:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([torch.ones(1)], "holds list, not a dictionary"),
        ({"model": {"weight": torch.ones(1)}}, "holds dict under 'model', where a tensor belongs"),
        ({1: torch.ones(1)}, "under 1, where a tensor belongs"),
        ({"weight": torch.ones(1).to(torch.float8_e4m3fn)}, "weight of .* is float8_e4m3fn, strided, which is not"),
        ({"weight": torch.ones(1, dtype=torch.complex64)}, "weight of .* is complex64"),
        ({"weight": torch.ones(2, 2).to_sparse()}, "weight of .* is float32, sparse_coo, which is not"),
    ],
)
def test_a_pickle_of_other_things_is_refused(content: Any, reason: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    torch.save(content, tmp_path / "pytorch_model.bin")
    message = refusal(tmp_path)
    assert "pytorch_model.bin" in message
    assert re.search(reason, message)


# Any damage at all


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Path]:
    return {form: write_single(tmp_path_factory.mktemp(form.replace(" ", "-")), form) for form in FORMS}


@settings(max_examples=250, deadline=None)
@given(data=st.data())
def test_a_damaged_header_never_gives_other_bytes_for_a_tensor(
    data: st.DataObject, originals: Mapping[str, Path]
) -> None:
    """One byte changed, or the file cut: refused, or each tensor that still has its name and type is what it was."""
    original = originals["safetensors"]
    content = bytearray(original.read_bytes())
    header_length = int.from_bytes(content[:8], "little")
    if data.draw(st.booleans()):
        position = data.draw(st.integers(0, 8 + header_length - 1))
        content[position] = data.draw(st.integers(0, 255) | st.sampled_from(b'{}[]",:0123456789 '))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    folder = original.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / original.name).write_bytes(content)
    try:
        checkpoint = Checkpoint.open(folder)
    except ModelLoadError:
        return
    expected = load_file(original)
    with checkpoint:
        for name in checkpoint.names():
            loaded = checkpoint.load(name)
            assert tuple(loaded.shape) == checkpoint.shape(name)
            assert loaded.dtype == checkpoint.dtype_of(name)
            if name in expected and expected[name].dtype == loaded.dtype:
                assert torch.equal(loaded.flatten(), expected[name].flatten())


@pytest.mark.parametrize("form", ["bin", "legacy bin"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_pickle_is_refused_or_read(form: str, data: st.DataObject, originals: Mapping[str, Path]) -> None:
    original = originals[form]
    content = bytearray(original.read_bytes())
    if data.draw(st.booleans()):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    else:
        del content[data.draw(st.integers(0, len(content) - 1)) :]
    folder = original.parent / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / original.name).write_bytes(content)
    try:
        checkpoint = Checkpoint.open(folder)
    except ModelLoadError:
        return
    with checkpoint:
        for name in checkpoint.names():
            values = checkpoint.load(name).flatten().tolist()
            assert len(values) == math.prod(checkpoint.shape(name))
