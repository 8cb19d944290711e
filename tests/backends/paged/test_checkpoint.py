"""Opening model folders: the right tensors, or an error that names the file and what is wrong with it."""

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

from safetensors.torch import load_file, save_file  # noqa: E402

from pagemill.backends.paged.checkpoint import Checkpoint  # noqa: E402
from pagemill.errors import ModelLoadError  # noqa: E402
from pagemill.store.references import DEMO_FOLDER  # noqa: E402

CONFIG = {"model_type": "llama", "vocab_size": 8}
TENSORS = {
    "model.embed_tokens.weight": torch.arange(32, dtype=torch.float32).reshape(8, 4).bfloat16(),
    "model.norm.weight": torch.linspace(0, 1, 4),
    "lm_head.weight": torch.arange(100, 132).reshape(8, 4).bfloat16(),
    "model.rotary.positions": torch.arange(6),
    "scalar": torch.tensor(2.5),
    "empty": torch.zeros(0, 3),
}
SHARDS = (
    ("model.embed_tokens.weight", "scalar"),
    ("model.norm.weight", "empty"),
    ("lm_head.weight", "model.rotary.positions"),
)
Save = Callable[[Mapping[str, Any], Path], None]


def save_pickle(tensors: Mapping[str, Any], path: Path) -> None:
    torch.save(dict(tensors), path)


def save_legacy_pickle(tensors: Mapping[str, Any], path: Path) -> None:
    torch.save(dict(tensors), path, _use_new_zipfile_serialization=False)


def save_safetensors(tensors: Mapping[str, Any], path: Path) -> None:
    save_file(dict(tensors), path)


FORMS: Mapping[str, tuple[Save, str]] = {
    "safetensors": (save_safetensors, "model.safetensors"),
    "bin": (save_pickle, "pytorch_model.bin"),
    "legacy bin": (save_legacy_pickle, "pytorch_model.bin"),
}


def write_single(folder: Path, form: str = "safetensors", tensors: Mapping[str, Any] = TENSORS) -> Path:
    """One file; returns it."""
    save, name = FORMS[form]
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(CONFIG))
    save(tensors, folder / name)
    return folder / name


def write_shards(folder: Path, form: str = "safetensors") -> list[Path]:
    """Three files and an index; returns the files."""
    save, name = FORMS[form]
    stem, suffix = name.split(".")
    (folder / "config.json").write_text(json.dumps(CONFIG))
    paths = [folder / f"{stem}-{number + 1:05}-of-00003.{suffix}" for number in range(3)]
    for path, names in zip(paths, SHARDS, strict=True):
        save({tensor: TENSORS[tensor] for tensor in names}, path)
    weight_map = {tensor: path.name for path, names in zip(paths, SHARDS, strict=True) for tensor in names}
    (folder / f"{name}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return paths


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def with_header(path: Path, header: bytes, data: bytes | None = None) -> None:
    """Replace the header of a safetensors file, and its data if given."""
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    path.write_bytes(len(header).to_bytes(8, "little") + header + (content[8 + length :] if data is None else data))


def refusal(folder: Path) -> str:
    """Why the folder can't be opened."""
    with pytest.raises(ModelLoadError) as caught:
        Checkpoint.open(folder)
    return str(caught.value)


# What is read


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("write", [write_single, write_shards])
def test_every_tensor_is_read_as_it_was_saved(form: str, write: Callable[[Path, str], object], tmp_path: Path) -> None:
    write(tmp_path, form)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert set(checkpoint.names()) == set(TENSORS)
        for name, expected in TENSORS.items():
            assert name in checkpoint
            assert checkpoint.shape(name) == tuple(expected.shape)
            assert checkpoint.dtype_of(name) == expected.dtype
            loaded = checkpoint.load(name)
            assert loaded.dtype == expected.dtype
            assert torch.equal(loaded, expected)


@pytest.mark.parametrize("form", FORMS)
def test_tensors_outlive_the_checkpoint(form: str, tmp_path: Path) -> None:
    write_single(tmp_path, form)
    with Checkpoint.open(tmp_path) as checkpoint:
        loaded = checkpoint.load("lm_head.weight")
    checkpoint.close()
    assert torch.equal(loaded, TENSORS["lm_head.weight"])


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_writing_to_a_tensor_leaves_the_file_alone(form: str, tmp_path: Path) -> None:
    path = write_single(tmp_path, form)
    before = path.read_bytes()
    with Checkpoint.open(tmp_path) as checkpoint:
        checkpoint.load("lm_head.weight").fill_(7)
    assert path.read_bytes() == before


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_tensors_are_mapped_not_copied(form: str, tmp_path: Path) -> None:
    path = write_single(tmp_path, form, {"weight": torch.ones(1 << 20)})
    with Checkpoint.open(tmp_path) as checkpoint:
        loaded = checkpoint.load("weight")
        assert any(start <= loaded.data_ptr() < end for start, end, name in mappings() if name == str(path))


def mappings() -> list[tuple[int, int, str]]:
    """This process's mapped files: begin, end, path."""
    lines = Path("/proc/self/maps").read_text().splitlines()
    fields = (line.split(maxsplit=5) for line in lines)
    return [(*(int(end, 16) for end in field[0].split("-")), field[5]) for field in fields if len(field) == 6]  # type: ignore[misc]


def test_the_dtype_is_that_of_most_weights(tmp_path: Path) -> None:
    write_single(tmp_path)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.dtype == torch.bfloat16
        assert checkpoint.num_parameters == 32 + 4 + 32 + 1


def test_the_size_is_that_of_all_files(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.size_bytes == sum(path.stat().st_size for path in paths)
        assert checkpoint.file_of("lm_head.weight") == paths[2]


def test_the_folders_configurations_are_read(tmp_path: Path) -> None:
    write_single(tmp_path)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert (checkpoint.config, checkpoint.generation_config) == (CONFIG, {})
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": 2}')
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.generation_config == {"eos_token_id": 2}


def test_safetensors_come_before_bin(tmp_path: Path) -> None:
    write_single(tmp_path, "bin", {"weight": torch.zeros(1)})
    path = write_single(tmp_path, "safetensors", {"weight": torch.ones(1)})
    with Checkpoint.open(tmp_path) as checkpoint:
        assert checkpoint.file_of("weight") == path
        assert checkpoint.load("weight") == 1


def test_the_demo_model_opens() -> None:
    with Checkpoint.open(DEMO_FOLDER / "grist") as checkpoint:
        assert checkpoint.dtype == torch.bfloat16
        checkpoint.expect("model.embed_tokens.weight", (2048, 256))
        assert "lm_head.weight" not in checkpoint


def test_a_wrong_shape_names_tensor_shapes_and_file(tmp_path: Path) -> None:
    path = write_single(tmp_path)
    with Checkpoint.open(tmp_path) as checkpoint:
        checkpoint.expect("lm_head.weight", (8, 4))
        message = (
            rf"lm_head\.weight of {re.escape(str(path))} has the shape \[8, 4\], but .*config\.json asks for \[9, 4\]"
        )
        with pytest.raises(ModelLoadError, match=message):
            checkpoint.expect("lm_head.weight", (9, 4))


def test_a_missing_tensor_is_named(tmp_path: Path) -> None:
    write_single(tmp_path)
    with Checkpoint.open(tmp_path) as checkpoint:
        assert "nothing" not in checkpoint
        for ask in (checkpoint.load, checkpoint.shape, checkpoint.dtype_of):
            with pytest.raises(ModelLoadError, match="lacks the tensor nothing"):
                ask("nothing")


def test_weights_without_floats_have_no_dtype(tmp_path: Path) -> None:
    write_single(tmp_path, tensors={"weight": torch.ones(1, dtype=torch.int32)})
    with Checkpoint.open(tmp_path) as checkpoint, pytest.raises(ModelLoadError, match="no weights of a floating type"):
        _ = checkpoint.dtype


# Folders that are no model of this kind


def test_what_is_no_folder_is_refused(tmp_path: Path) -> None:
    assert "is not a folder" in refusal(tmp_path / "nowhere")


def test_a_folder_without_config_says_so(tmp_path: Path) -> None:
    assert "has no config.json, so it is no Hugging Face model folder" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("adapter_config.json", "adapter.*merge it into its base model"),
        ("model_index.json", "diffusers"),
        ("tiny.gguf", r"GGUF.*name the file: .*tiny\.gguf"),
    ],
)
def test_folders_of_other_kinds_are_refused_by_name(name: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text("{}")
    assert re.search(reason, refusal(tmp_path))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is not JSON"),
        (b'{"model_type": ', "is not JSON"),
        (b"\xff\xff", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b"[]", "list where a JSON object belongs"),
        (b"{}", "names no model_type"),
        (b'{"model_type": 5}', "names no model_type"),
    ],
)
def test_a_damaged_config_is_refused_by_name(content: bytes, reason: str, tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "config.json").write_bytes(content)
    message = refusal(tmp_path)
    assert str(tmp_path / "config.json") in message
    assert reason in message


def test_a_config_that_is_a_folder_is_refused(tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "config.json").mkdir()
    assert "config.json" in refusal(tmp_path)


def test_a_damaged_generation_config_is_refused_by_name(tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "generation_config.json").write_text("{")
    assert "generation_config.json is not JSON" in refusal(tmp_path)


@pytest.mark.parametrize("method", ["awq", "gptq", "bitsandbytes", "fp8", "compressed-tensors", "mxfp4"])
def test_quantized_weights_are_refused_by_their_method(method: str, tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": {"quant_method": method}}))
    assert f"quantized by {method}, which is not supported" in refusal(tmp_path)


@pytest.mark.parametrize("quantization", [{}, [], "awq"])
def test_an_unnamed_quantization_is_refused_too(quantization: object, tmp_path: Path) -> None:
    write_single(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CONFIG | {"quantization_config": quantization}))
    assert "quantized by an unnamed method" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("other", "hint"),
    [
        (None, "download them"),
        ("model-00001-of-00002.safetensors", "no index"),
        ("tiny.gguf", "tiny.gguf is of a format that is not read"),
        ("consolidated.00.pth", "consolidated.00.pth is of a format"),
        ("adapter_config.json", "it is an adapter"),
    ],
)
def test_a_folder_without_weights_says_what_it_looked_for(other: str | None, hint: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    if other is not None:
        (tmp_path / other).write_text("{}")
    message = refusal(tmp_path)
    assert "has no weights" in message
    assert hint in message
    assert "model.safetensors.index.json" in message


# Indexes


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    paths[1].unlink()
    assert "lacks 1 of the 3 files that model.safetensors.index.json names: model-00002-of-00003" in refusal(tmp_path)


def test_many_missing_shards_are_counted(tmp_path: Path) -> None:
    write_shards(tmp_path)
    change_index(tmp_path, lambda index: index["weight_map"].update({f"t{n}": f"s{n}.safetensors" for n in range(9)}))
    assert "lacks 9 of the 12 files" in refusal(tmp_path)


def test_a_tensor_that_its_shard_lacks_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    change_index(tmp_path, lambda index: index["weight_map"].update({"layer.9": paths[0].name}))
    message = refusal(tmp_path)
    assert f"says that the tensor layer.9 is in {paths[0].name}, but it is in none of the files" in message


def test_a_tensor_that_is_in_another_shard_is_named(tmp_path: Path) -> None:
    paths = write_shards(tmp_path)
    change_index(tmp_path, lambda index: index["weight_map"].update({"scalar": paths[2].name}))
    assert f"scalar is in {paths[2].name}, but it is in {paths[0].name}" in refusal(tmp_path)


@pytest.mark.parametrize("form", ["safetensors", "bin"])
def test_a_tensor_in_two_shards_is_named_with_both(form: str, tmp_path: Path) -> None:
    paths = write_shards(tmp_path, form)
    save, _ = FORMS[form]
    save({name: TENSORS[name] for name in (*SHARDS[1], "scalar")}, paths[1])
    assert f"the tensor scalar is both in {paths[0]} and in {paths[1]}" in refusal(tmp_path)


@pytest.mark.parametrize("name", ["../model.safetensors", "/etc/passwd", "a/b.safetensors", "", 5, None, ["a"]])
def test_an_index_may_name_files_beside_it_only(name: object, tmp_path: Path) -> None:
    write_shards(tmp_path)
    change_index(tmp_path, lambda index: index["weight_map"].update({"layer.9": name}))
    assert re.search(r"layer\.9 is in .*no name of a file beside it", refusal(tmp_path))


@pytest.mark.parametrize("name", ["..", ".", "x" * 300, "a\0b"])
def test_a_name_that_no_file_can_have_is_one_that_is_missing(name: str, tmp_path: Path) -> None:
    write_shards(tmp_path)
    change_index(tmp_path, lambda index: index["weight_map"].update({"layer.9": name}))
    assert re.search("lacks 1 of the 4 files|no name of a file", refusal(tmp_path))


@pytest.mark.parametrize("weight_map", [None, {}, [], "all"])
def test_an_index_without_a_map_is_refused(weight_map: object, tmp_path: Path) -> None:
    write_shards(tmp_path)
    change_index(tmp_path, lambda index: index.update(weight_map=weight_map))
    assert "model.safetensors.index.json has no weight_map" in refusal(tmp_path)


def test_an_index_that_is_no_json_is_refused(tmp_path: Path) -> None:
    write_shards(tmp_path)
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map"')
    assert "model.safetensors.index.json is not JSON" in refusal(tmp_path)


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
