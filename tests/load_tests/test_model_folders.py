"""Random models as Hugging Face folders."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from load_tests.model_folders import bfloat16_bits, half_split, hugging_face_name, write_folder
from load_tests.models import SPECIAL_TOKENS, Shape, random_tensors, shapes
from tokenizers import Tokenizer

SHAPE = shapes()["1M"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "tiny"
    write_folder(path, SHAPE)
    return path


def read_tensors(path: Path) -> dict[str, tuple[str, npt.NDArray[np.uint16]]]:
    raw = path.read_bytes()
    start = 8 + int.from_bytes(raw[:8], "little")
    header: dict[str, Any] = json.loads(raw[8:start])
    assert start % 8 == 0
    found = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            bits = np.frombuffer(raw[start + first : start + last], np.uint16)
            found[name] = (entry["dtype"], bits.reshape(entry["shape"]))
    return found


def test_a_folder_of_the_same_shape_is_the_same_to_the_byte(tmp_path: Path, folder: Path) -> None:
    write_folder(tmp_path / "again", SHAPE)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert files == {path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()}
    assert len(files) == 5


def test_its_tensors_are_all_of_the_models_in_bf16(folder: Path) -> None:
    tensors = read_tensors(folder / "model.safetensors")
    assert {dtype for dtype, _ in tensors.values()} == {"BF16"}
    assert sum(bits.size for _, bits in tensors.values()) == SHAPE.num_parameters
    assert tensors["model.layers.1.mlp.down_proj.weight"][1].shape == (SHAPE.hidden, SHAPE.feed_forward)
    embedding = dict(random_tensors(SHAPE))["token_embd.weight"]
    assert np.array_equal(tensors["model.embed_tokens.weight"][1], bfloat16_bits(embedding))


def test_tensors_have_the_names_that_transformers_gives_them() -> None:
    assert hugging_face_name("output.weight") == "lm_head.weight"
    assert hugging_face_name("output_norm.weight") == "model.norm.weight"
    assert hugging_face_name("blk.11.attn_norm.weight") == "model.layers.11.input_layernorm.weight"


def test_rows_of_special_tokens_are_zero_so_that_greedy_decoding_never_picks_them(folder: Path) -> None:
    _, output = read_tensors(folder / "model.safetensors")["lm_head.weight"]
    assert not output[256 : 256 + len(SPECIAL_TOKENS)].any()
    assert output[256 + len(SPECIAL_TOKENS) :].any(axis=1).all()


def test_bf16_is_rounded_to_nearest_and_ties_to_even() -> None:
    step = 2.0**-7  # between bf16 numbers from 1 to 2
    exact = np.array([1, 1 + 0.5 * step, 1 + 0.51 * step, 1 + 1.5 * step, -1 - 1.5 * step, 0], np.float32)
    back = (bfloat16_bits(exact).astype(np.uint32) << 16).view(np.float32)
    assert back.tolist() == [1, 1, 1 + step, 1 + 2 * step, -1 - 2 * step, 0]


def test_queries_and_keys_meet_alike_in_both_layouts_of_rotary_embedding() -> None:
    shape = Shape(hidden=16, layers=1, heads=2, kv_heads=2, head_dim=8, feed_forward=8, vocab=300)
    generator = np.random.default_rng(0)
    query, key = (generator.standard_normal((16, 16)).astype(np.float32) for _ in range(2))
    heard, said = generator.standard_normal((2, 16)).astype(np.float32)

    def scores(query: npt.NDArray[np.float32], key: npt.NDArray[np.float32], pairs: Any) -> list[float]:
        rotated = [rotate((w @ x).reshape(2, 8), at, pairs) for w, x, at in ((query, said, 5), (key, heard, 2))]
        return [float(a @ b) for a, b in zip(*rotated, strict=True)]

    neighbours = scores(query, key, [(2 * index, 2 * index + 1) for index in range(4)])
    split_query = half_split("blk.0.attn_q.weight", query, shape)
    split_key = half_split("blk.0.attn_k.weight", key, shape)
    assert scores(split_query, split_key, [(index, index + 4) for index in range(4)]) == pytest.approx(neighbours, 1e-4)


def rotate(heads: npt.NDArray[np.float32], position: int, pairs: list[tuple[int, int]]) -> npt.NDArray[np.float32]:
    """Each pair of a head's numbers turned by its own angle."""
    turned = heads.copy()
    for index, (first, second) in enumerate(pairs):
        angle = position * 10000.0 ** (-2 * index / heads.shape[1])
        turned[:, first] = heads[:, first] * np.cos(angle) - heads[:, second] * np.sin(angle)
        turned[:, second] = heads[:, second] * np.cos(angle) + heads[:, first] * np.sin(angle)
    return turned


def test_its_tokenizer_gives_text_back_and_knows_its_special_tokens(folder: Path) -> None:
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    text = "<|im_start|>user\nHow tall is the tower? 324 m, été.<|im_end|>"
    ids = tokenizer.encode(text).ids
    assert tokenizer.decode(ids, skip_special_tokens=False) == text
    assert (ids[0], ids[-1]) == (257, 258)
    assert tokenizer.get_vocab_size() == SHAPE.vocab


def test_a_tied_model_has_its_output_in_its_embedding_and_qwen3_norms_for_each_head(tmp_path: Path) -> None:
    shape = replace(SHAPE, architecture="qwen3", tied=True, head_dim=64)
    write_folder(tmp_path / "tied", shape)
    tensors = read_tensors(tmp_path / "tied" / "model.safetensors")
    assert sum(bits.size for _, bits in tensors.values()) == shape.num_parameters
    assert "lm_head.weight" not in tensors
    assert tensors["model.layers.0.self_attn.q_norm.weight"][1].shape == (64,)
    assert not tensors["model.embed_tokens.weight"][1][256 : 256 + len(SPECIAL_TOKENS)].any()
