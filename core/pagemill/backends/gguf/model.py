"""Loading a GGUF file into llama.cpp, and what the model says about itself.

`Model` owns the `llama_model`; its tokenizer and contexts must not be used after `close`.
"""

import ctypes
import os
import re
from logging import getLogger
from pathlib import Path

from pagemill.backends.base import ModelInfo
from pagemill.backends.gguf.library import Library
from pagemill.backends.gguf.metadata import MAGIC, FileMetadata
from pagemill.backends.gguf.options import GGUFOptions
from pagemill.errors import ModelLoadError

logger = getLogger(__name__)

_FUNCTION_NAME = re.compile(r"^\w+: ")  # before each of llama.cpp's log lines
LOAD_MODE_NONE, LOAD_MODE_MMAP, LOAD_MODE_MLOCK = 0, 1, 2  # enum llama_load_mode; 3 is mmap and mlock
SIZE_SUFFIXES = {" - Small": "_S", " - Medium": "_M", " - Large": "_L"}
QUANTIZATION_NAMES = {"all F32": "F32", "Q2_K - Medium": "Q2_K", "IQ3_S mix - 3.66 bpw": "IQ3_M", "MXFP4 MoE": "MXFP4"}


class Model:
    """A loaded model. `handle` is its `llama_model *`."""

    def __init__(self, library: Library, handle: int, path: Path) -> None:
        self.library = library
        self.handle: int | None = handle
        self.path = path
        self.file_metadata = FileMetadata(path)

    @property
    def vocab(self) -> int:
        """The `llama_vocab *`, which the model owns."""
        return int(self.library.c.llama_model_get_vocab(self.handle))

    @property
    def architecture(self) -> str:
        return self.text("general.architecture") or "unknown"

    @property
    def context_length(self) -> int:
        """What the model was trained for, in tokens; 0 if the file doesn't say."""
        return int(self.library.c.llama_model_n_ctx_train(self.handle))

    @property
    def is_recurrent(self) -> bool:
        """Whether some layer keeps a state instead of keys and values: it can't forget the tail of a sequence."""
        c = self.library.c
        return bool(c.llama_model_is_recurrent(self.handle) or c.llama_model_is_hybrid(self.handle))

    @property
    def is_purely_recurrent(self) -> bool:
        """Whether every layer does: there are no keys and values at all."""
        return bool(self.library.c.llama_model_is_recurrent(self.handle))

    @property
    def has_sliding_window(self) -> bool:
        """Whether some layer sees only the last tokens before its own."""
        return int(self.library.c.llama_model_n_swa(self.handle)) > 0

    @property
    def weight_bytes(self) -> int:
        return int(self.library.c.llama_model_size(self.handle))

    def text(self, key: str) -> str | None:
        """A scalar of the file's metadata as text; None if there is none, or it is an array."""
        size = 256
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self.library.c.llama_model_meta_val_str(self.handle, key.encode(), buffer, size)
            if count < 0:
                return None
            if count < size:
                return buffer.value.decode("utf-8", errors="replace")
            size = count + 1

    def chat_template(self) -> str | None:
        source = self.library.c.llama_model_chat_template(self.handle, None)
        return None if source is None else source.decode("utf-8", errors="replace")

    def info(self, kv_bytes: int) -> ModelInfo:
        c = self.library.c
        return ModelInfo(
            architecture=self.architecture,
            num_parameters=int(c.llama_model_n_params(self.handle)),
            quantization=quantization_name(c.llama_ftype_name(c.llama_model_ftype(self.handle)).decode()),
            format="gguf",
            size_bytes=self.path.stat().st_size,
            memory_bytes=self.weight_bytes + kv_bytes,
            vocab_size=int(c.llama_vocab_n_tokens(self.vocab)),
            context_length=self.context_length,
            embedding_length=int(c.llama_model_n_embd(self.handle)),
            chat_template=self.chat_template(),
            metadata=self.file_metadata,
        )

    def close(self) -> None:
        """Free the model; idempotent."""
        if self.handle is not None:
            self.library.c.llama_model_free(self.handle)
            self.handle = None


def load_model(library: Library, path: Path, options: GGUFOptions) -> Model:
    """Load the file's weights (mapped, unless `options.mmap` is off) and vocabulary.

    Raises:
        ModelLoadError: the file is missing, no GGUF, or damaged; names it.
    """
    _check_file(path)
    params = library.c.llama_model_default_params()
    mode = (LOAD_MODE_MMAP if options.mmap else LOAD_MODE_NONE) | (LOAD_MODE_MLOCK if options.mlock else LOAD_MODE_NONE)
    params.load_mode = mode
    handle, errors = library.attempt(lambda: library.c.llama_model_load_from_file(os.fsencode(path), params))
    if not handle:
        raise ModelLoadError(f"can't load {path}: {reason_of(errors)}")
    return Model(library, handle, path)


def reason_of(errors: list[str]) -> str:
    """llama.cpp's own words for why it failed, without its functions' names and the lines that only pass it on."""
    reasons = [
        _FUNCTION_NAME.sub("", _FUNCTION_NAME.sub("", line).removeprefix("error loading model: ")) for line in errors
    ]
    return "; ".join(reason for reason in reasons if not reason.startswith("failed to load model")) or "no reason given"


def quantization_name(ftype_name: str) -> str:
    """llama.cpp's name of a file type in the form that file names have: "Q4_K - Medium" is Q4_K_M."""
    name = ftype_name.removeprefix("(guessed) ")
    if name in QUANTIZATION_NAMES:
        return QUANTIZATION_NAMES[name]
    for words, suffix in SIZE_SUFFIXES.items():
        if name.endswith(words):
            return name.removesuffix(words) + suffix
    return name.partition(" - ")[0]


def _check_file(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(len(MAGIC))
    except OSError as error:
        raise ModelLoadError(f"can't load {path}: {error.strerror}") from error
    if magic != MAGIC:
        raise ModelLoadError(f"can't load {path}: it is not a GGUF file (it begins with {magic!r})")


def refuse_what_cannot_generate(model: Model) -> None:
    """llama.cpp loads models that this backend can't run; some of them it would even abort the process on.

    Raises:
        ModelLoadError: this is one; says of what kind.
    """
    c, architecture = model.library.c, model.architecture
    if c.llama_model_has_encoder(model.handle) or not c.llama_model_has_decoder(model.handle):
        kind = "an encoder model"
    elif c.llama_model_is_diffusion(model.handle):
        kind = "a diffusion model"
    elif model.text(f"{architecture}.attention.causal") == "false":
        kind = "an encoder-only model"
    elif model.text(f"{architecture}.pooling_type") not in (None, "0"):
        kind = "an embedding model"
    else:
        return
    raise ModelLoadError(f"can't serve {model.path}: {architecture} is {kind}, it does not generate text")
