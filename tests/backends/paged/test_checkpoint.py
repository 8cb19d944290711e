"""Opening model folders: the right tensors, or an error that says what is missing or does not fit together."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from pagemill.backends.paged.checkpoint import Checkpoint  # noqa: E402
from pagemill.errors import ModelLoadError  # noqa: E402
from pagemill.store.references import DEMO_FOLDER  # noqa: E402
from support.checkpoint_files import (  # noqa: E402
    CONFIG,
    FORMS,
    SHARDS,
    TENSORS,
    refusal,
    write_shards,
    write_single,
)


def change_index(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "model.safetensors.index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


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
        address = checkpoint.load("weight").data_ptr()
        assert any(start <= address < end and name == str(path) for start, end, name in mappings())


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
