"""The floor program's model: llama.cpp through the same bindings as ours, one context, one sequence, greedy.

Owns no state: what is loaded is handed out as `Loaded`.
"""

import argparse
import ctypes
import os
from concurrent.futures import Future
from pathlib import Path
from typing import Any, NamedTuple

from pagemill.backends.gguf.library import load_library

PROMPT = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"


class Loaded(NamedTuple):
    """llama.cpp's functions, the vocabulary, the context and the sampler."""

    c: Any
    vocab: Any
    context: Any
    sampler: Any


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """What `load` needs."""
    parser.add_argument("--model", type=Path, required=True)
    for name in ("--max-num-seqs", "--max-model-len", "--threads"):
        parser.add_argument(name, type=int, required=True)


def load(options: argparse.Namespace, loaded: "Future[Loaded]") -> None:
    """Load the model with as much KV as the others make."""
    library = load_library()
    c = library.c
    model, _ = library.attempt(
        lambda: c.llama_model_load_from_file(os.fsencode(options.model), c.llama_model_default_params())
    )
    params = c.llama_context_default_params()
    params.n_seq_max = options.max_num_seqs
    params.n_ctx = options.max_num_seqs * options.max_model_len
    params.n_batch = params.n_ubatch = 512
    params.n_outputs_max = 32
    params.n_threads = params.n_threads_batch = options.threads
    params.flash_attn_type = 1
    params.kv_unified = False
    context, _ = library.attempt(lambda: c.llama_init_from_model(model, params))
    loaded.set_result(Loaded(c, c.llama_model_get_vocab(model), context, c.llama_sampler_init_greedy()))


def tokenize(loaded: Loaded, text: str) -> Any:
    """Token ids as a C array."""
    data = text.encode()
    ids = (ctypes.c_int32 * (len(data) + 16))()
    count = loaded.c.llama_tokenize(loaded.vocab, data, len(data), ids, len(ids), False, True)
    return (ctypes.c_int32 * count)(*ids[:count])


def next_piece(loaded: Loaded, ids: Any) -> tuple[Any, str]:
    """Compute these tokens; the next token and its text."""
    loaded.c.llama_decode(loaded.context, loaded.c.llama_batch_get_one(ids, len(ids)))
    token = loaded.c.llama_sampler_sample(loaded.sampler, loaded.context, -1)
    buffer = ctypes.create_string_buffer(64)
    size = loaded.c.llama_token_to_piece(loaded.vocab, token, buffer, len(buffer), 0, True)
    return (ctypes.c_int32 * 1)(token), buffer.raw[:size].decode(errors="replace")
