"""Make a model with random weights as a GGUF file: the load tests measure speed, which weights don't change.

`python -m load_tests.models --params 88M`: a Llama, or at 0.6B a model of Qwen3-0.6B's exact shape, in Q8_0. With
`--quantization Q4_K_M` that file is quantized on by llama.cpp itself; with `--format safetensors` the same weights are
written in bf16, as a Hugging Face folder (`model_folders.py`). Deterministic: the same size gives the same bytes. Its
byte-level BPE tokenizer is valid but made up. The rows of the output matrix that belong to special tokens and to bytes
that are not plain text are zero: greedy decoding then never picks them (the largest of thousands of random logits is
above zero), so every token is text of its own, and all servers can send a chunk for each.
"""

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import gguf
import numpy as np
import numpy.typing as npt

CACHE = Path(__file__).parent / ".cache"
SEED = 88
Quantization = Literal["Q8_0", "Q4_K_M"]
SPECIAL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
BOS_TOKEN_ID, EOS_TOKEN_ID = 256, 258
RMS_EPS = 1e-5
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """A model's dimensions. `qwen3` also normalises each head's queries and keys."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    feed_forward: int
    vocab: int
    architecture: Literal["llama", "qwen3"] = "llama"
    tied: bool = False  # the output matrix is the embedding
    context: int = 4096
    rope_base: float = 10000.0

    @property
    def has_head_norms(self) -> bool:
        return self.architecture == "qwen3"

    @property
    def num_parameters(self) -> int:
        attention = 2 * self.hidden * self.head_dim * (self.heads + self.kv_heads)
        norms = 2 * self.hidden + (2 * self.head_dim if self.has_head_norms else 0)
        layer = attention + 3 * self.hidden * self.feed_forward + norms
        return self.layers * layer + (1 if self.tied else 2) * self.vocab * self.hidden + self.hidden

    def kv_bytes(self, num_tokens: int) -> int:
        """Of keys and values in f16."""
        return num_tokens * self.layers * 2 * self.kv_heads * self.head_dim * 2


def shapes() -> dict[str, Shape]:
    """The sizes on offer, by their number of parameters. 0.6B is Qwen3-0.6B."""
    return {
        "1M": Shape(hidden=128, layers=2, heads=4, kv_heads=2, head_dim=32, feed_forward=256, vocab=4096),
        "88M": Shape(hidden=768, layers=12, heads=12, kv_heads=4, head_dim=64, feed_forward=2048, vocab=8192),
        "0.6B": Shape(
            hidden=1024,
            layers=28,
            heads=16,
            kv_heads=8,
            head_dim=128,
            feed_forward=3072,
            vocab=151_936,
            architecture="qwen3",
            tied=True,
            context=40_960,
            rope_base=1_000_000.0,
        ),
    }


def model_path(size: str, quantization: Quantization = "Q8_0") -> Path:
    """The GGUF file of that size, made now if it is not in the cache."""
    path = CACHE / f"random-{shapes()[size].architecture}-{size}-{quantization.lower()}.gguf"
    if not path.exists():
        CACHE.mkdir(exist_ok=True)
        unfinished = path.with_suffix(".unfinished")
        if quantization == "Q8_0":
            write_model(unfinished, shapes()[size])
        else:
            quantize(model_path(size), unfinished)
        unfinished.rename(path)
    return path


def find_model(name: str) -> Path:
    """The demo model, a random one by its size and perhaps its quantization (88M, 0.6B:Q4_K_M), or a file by path."""
    if name == "grist":
        from pagemill.store.references import resolve_local

        return resolve_local("grist").path
    size, _, quantization = name.partition(":")
    if size not in shapes():
        return Path(name).resolve()
    for known in get_args(Quantization):
        if known == (quantization or "Q8_0"):
            return model_path(size, known)
    raise ValueError(f"{name}: there is no {quantization} here, only {', '.join(get_args(Quantization))}")


def quantize(source: Path, target: Path) -> None:
    """Write a GGUF file's model in Q4_K_M, by llama.cpp: from Q8_0, whose loss is nothing to random weights."""
    import llama_cpp

    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    options.allow_requantize = True
    if llama_cpp.llama_model_quantize(os.fsencode(source), os.fsencode(target), options):
        raise RuntimeError(f"llama.cpp could not quantize {source}")


def write_model(path: Path, shape: Shape) -> None:
    """Write the file. Takes seconds for 88M."""
    writer = gguf.GGUFWriter(path, shape.architecture)
    writer.add_name(f"random {shape.architecture}, {shape.num_parameters / 1e6:.0f}M parameters")
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(RMS_EPS)
    writer.add_vocab_size(shape.vocab)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    _add_tokenizer(writer, shape.vocab)
    _add_tensors(writer, shape)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def text_token_ids(vocab: int) -> range:
    """The tokens that are neither special nor a single byte: prompts are made of these."""
    return range(256 + len(SPECIAL_TOKENS), vocab)


def _add_tokenizer(writer: gguf.GGUFWriter, vocab: int) -> None:
    tokens, merges = vocabulary(vocab)
    types = [gguf.TokenType.NORMAL] * vocab
    types[256 : 256 + len(SPECIAL_TOKENS)] = [gguf.TokenType.CONTROL] * len(SPECIAL_TOKENS)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges(merges)
    writer.add_bos_token_id(BOS_TOKEN_ID)
    writer.add_eos_token_id(EOS_TOKEN_ID)
    writer.add_add_bos_token(False)
    writer.add_chat_template(CHAT_TEMPLATE)


def vocabulary(size: int) -> tuple[list[str], list[str]]:
    """All tokens in the order of their ids, and the merges: bytes, special tokens, then the pieces."""
    letters = byte_letters()
    pieces, merges = _merged_pieces(size - 256 - len(SPECIAL_TOKENS))
    return [letters[byte] for byte in range(256)] + list(SPECIAL_TOKENS) + pieces, merges


def byte_letters() -> dict[int, str]:
    """GPT-2's printable stand-in for each byte."""
    printable = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + index) for index, byte in enumerate(others)}


def _merged_pieces(count: int) -> tuple[list[str], list[str]]:
    """Pieces of two letters, with and without a space before, then longer ones; and the merge that makes each."""
    alphabet = "etaoinshrdlucmfwypvbgkqjxz"
    pairs = [(first, second) for first in alphabet for second in alphabet]
    spaced = [("Ġ", first + second) for first, second in pairs]
    triples = [(first + second, third) for first, second in pairs for third in alphabet]
    quads = [(first + second, third + fourth) for first, second in pairs for third, fourth in pairs]
    merges = (pairs + spaced + triples + quads)[:count]
    if len(merges) < count:
        raise ValueError(f"a vocabulary of {count} pieces is more than these merges give")
    return [left + right for left, right in merges], [f"{left} {right}" for left, right in merges]


def _add_tensors(writer: gguf.GGUFWriter, shape: Shape) -> None:
    for name, values in random_tensors(shape):
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            packed = gguf.quants.quantize(values, gguf.GGMLQuantizationType.Q8_0)
            writer.add_tensor(name, packed, raw_dtype=gguf.GGMLQuantizationType.Q8_0)


def random_tensors(shape: Shape) -> Iterator[tuple[str, npt.NDArray[np.float32]]]:
    """All weights by their names in a GGUF file."""
    generator = np.random.Generator(np.random.PCG64(SEED))
    query, kv = shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        return generator.standard_normal((rows, columns), dtype=np.float32) * np.float32(0.02)

    embedding = matrix(shape.vocab, shape.hidden)
    yield "token_embd.weight", _without_unprintable(embedding) if shape.tied else embedding
    for layer in range(shape.layers):
        block = f"blk.{layer}"
        yield f"{block}.attn_norm.weight", np.ones(shape.hidden, np.float32)
        yield f"{block}.attn_q.weight", matrix(query, shape.hidden)
        yield f"{block}.attn_k.weight", matrix(kv, shape.hidden)
        yield f"{block}.attn_v.weight", matrix(kv, shape.hidden)
        if shape.has_head_norms:
            yield f"{block}.attn_q_norm.weight", np.ones(shape.head_dim, np.float32)
            yield f"{block}.attn_k_norm.weight", np.ones(shape.head_dim, np.float32)
        yield f"{block}.attn_output.weight", matrix(shape.hidden, query)
        yield f"{block}.ffn_norm.weight", np.ones(shape.hidden, np.float32)
        yield f"{block}.ffn_gate.weight", matrix(shape.feed_forward, shape.hidden)
        yield f"{block}.ffn_up.weight", matrix(shape.feed_forward, shape.hidden)
        yield f"{block}.ffn_down.weight", matrix(shape.hidden, shape.feed_forward)
    yield "output_norm.weight", np.ones(shape.hidden, np.float32)
    if not shape.tied:
        yield "output.weight", _without_unprintable(matrix(shape.vocab, shape.hidden))


def _without_unprintable(output: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """The rows of special tokens and of bytes that are not plain text become zero."""
    plain = np.arange(ord(" "), ord("~") + 1)
    output[[row for row in range(256 + len(SPECIAL_TOKENS)) if row not in plain]] = 0
    return output


def main() -> None:
    """Make a model and say where it is."""
    from load_tests.model_folders import model_folder

    parser = argparse.ArgumentParser(description="make a model with random weights")
    parser.add_argument("--params", choices=sorted(shapes()), default="88M", help="size (default: %(default)s)")
    parser.add_argument("--format", choices=("gguf", "safetensors"), default="gguf", help="default: %(default)s")
    parser.add_argument(
        "--quantization", choices=get_args(Quantization), default="Q8_0", help="of a GGUF file (default: %(default)s)"
    )
    options = parser.parse_args()
    gguf_file = options.format == "gguf"
    path = model_path(options.params, options.quantization) if gguf_file else model_folder(options.params)
    weights = path if gguf_file else path / "model.safetensors"
    print(
        f"{path}: {shapes()[options.params].num_parameters:,} parameters, {weights.stat().st_size:,} bytes of weights"
    )


if __name__ == "__main__":
    main()
