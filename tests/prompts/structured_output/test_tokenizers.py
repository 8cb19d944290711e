"""The vocabularies of all kinds of tokenizers: an output is right byte for byte, whatever its tokens are."""

import json
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from random import Random
from typing import Literal

import pytest

import pagemill.store
from pagemill.backends.base import Tokenizer, decode
from pagemill.prompts.structured_output.compiler import GrammarCompiler
from pagemill.prompts.structured_output.formats import Format, JSONSchema, Regex

GRIST = Path(pagemill.store.__path__[0]) / "demo" / "grist"
WORDS = Regex("(the|then|é中)( (the|then|é中)){0,5}!", "f")
JSON = JSONSchema('{"type": "array", "items": {"enum": ["thé", "an\\nd", 12.5]}, "minItems": 2, "maxItems": 4}', "f")


@contextmanager
def gguf(path: Path) -> Iterator[Tokenizer]:
    from pagemill.backends.gguf.backend import GGUFBackend
    from pagemill.backends.gguf.options import GGUFOptions

    backend = GGUFBackend.load(path, GGUFOptions(max_model_len=64, max_num_seqs=1, threads=1))
    yield backend.tokenizer
    backend.close()


@contextmanager
def gguf_of(tmp_path: Path, *, sentencepiece: bool) -> Iterator[Tokenizer]:
    from support.tiny_gguf import TinyModel

    with gguf(TinyModel(sentencepiece=sentencepiece).write(tmp_path / "tiny.gguf")) as tokenizer:
        yield tokenizer


@contextmanager
def folder(tmp_path: Path, kind: Literal["byte-level", "sentencepiece"]) -> Iterator[Tokenizer]:
    from support.tokenizer_kinds import load, write

    yield load(write(kind, tmp_path / kind))


@contextmanager
def grist_folder(tmp_path: Path) -> Iterator[Tokenizer]:
    from pagemill.backends.paged.checkpoint import Checkpoint
    from pagemill.backends.paged.tokenizer import PagedTokenizer

    with Checkpoint.open(GRIST) as checkpoint:
        yield PagedTokenizer.load(checkpoint, json.loads((GRIST / "config.json").read_text())["vocab_size"])


TOKENIZERS: dict[str, Callable[[Path], AbstractContextManager[Tokenizer]]] = {
    "gguf bytes": lambda path: gguf_of(path, sentencepiece=False),
    "gguf sentencepiece": lambda path: gguf_of(path, sentencepiece=True),
    "gguf grist": lambda path: gguf(GRIST / "grist-q8_0.gguf"),
    "folder grist": grist_folder,
    "folder bytes": lambda path: folder(path, "byte-level"),
    "folder sentencepiece": lambda path: folder(path, "sentencepiece"),
}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_random_tokens_along_a_format_say_what_it_allows(tmp_path: Path, name: str) -> None:
    with TOKENIZERS[name](tmp_path) as tokenizer:
        compiler = GrammarCompiler(tokenizer, max_source_bytes=1000, cache_size=4)
        for seed in range(20):
            assert re.fullmatch(WORDS.source, said(tokenizer, compiler, WORDS, seed))
            assert 2 <= len(json.loads(said(tokenizer, compiler, JSON, seed))) <= 4


def said(tokenizer: Tokenizer, compiler: GrammarCompiler, wanted: Format, seed: int) -> str:
    random, matcher = Random(seed), compiler.compile(wanted).matcher()
    output: list[int] = []
    while True:
        mask = matcher.allowed()
        assert len(mask) * 8 >= tokenizer.vocab_size
        choices = [i for i in range(tokenizer.vocab_size) if mask[i >> 3] >> (i & 7) & 1]
        token_id = random.choice(choices)
        if token_id in tokenizer.eos_token_ids:
            return decode(tokenizer, output)
        matcher.advance(token_id)
        output.append(token_id)
