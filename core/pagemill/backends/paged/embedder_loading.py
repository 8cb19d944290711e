"""From a model folder to an embedder: which models make embeddings, and how. Owns no state."""

from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any

import torch

from pagemill.backends.base import ModelInfo
from pagemill.backends.paged.architectures import read_architecture
from pagemill.backends.paged.architectures.families import FAMILIES
from pagemill.backends.paged.attention import make_attention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder_embedding import PooledDecoder
from pagemill.backends.paged.decoder_loading import load_decoder
from pagemill.backends.paged.device import choose_device, choose_dtype
from pagemill.backends.paged.embedder import EmbeddingLimits, PagedEmbedder
from pagemill.backends.paged.encoder.config import ENCODERS
from pagemill.backends.paged.encoder.loading import load_encoder
from pagemill.backends.paged.encoder.pooled_encoder import PooledEncoder
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.sentence_files import SentenceConfig, read_sentence_config
from pagemill.backends.paged.tokenizer import PagedTokenizer
from pagemill.errors import ModelLoadError
from pagemill.machine import num_usable_cores

logger = getLogger(__name__)

DEFAULT_MAX_NUM_SEQS = {"cpu": 64, "cuda": 256}
DEFAULT_MAX_NUM_BATCHED_TOKENS = {"cpu": 2048, "cuda": 16384}
DTYPE_NAMES = {torch.bfloat16: "BF16", torch.float16: "F16", torch.float32: "F32"}
IDENTITY, SIGMOID = "Identity", "Sigmoid"  # what torch's classes are called


def load_embedder(folder: Path, options: PagedOptions) -> PagedEmbedder:
    """Load a model for embeddings or scores.

    Raises:
        ModelLoadError: names the file, tensor, field or number that is wrong.
    """
    began = perf_counter()
    device = choose_device(options.device)
    torch.set_num_threads(options.threads or num_usable_cores())
    try:
        with Checkpoint.open(folder) as checkpoint:
            embedder = _load(checkpoint, options, device)
    except torch.OutOfMemoryError as error:
        raise ModelLoadError(f"can't load {folder}: {error}") from error
    logger.info(
        "loaded %s on %s as %s in %.2f s, for inputs of up to %d tokens",
        folder,
        device,
        embedder.info.quantization,
        perf_counter() - began,
        embedder.max_model_len,
    )
    return embedder


def _load(checkpoint: Checkpoint, options: PagedOptions, device: torch.device) -> PagedEmbedder:
    dtype = choose_dtype(options.dtype, checkpoint.dtype, device)
    sentence = read_sentence_config(checkpoint.folder)
    model_type = str(checkpoint.config["model_type"])
    if model_type in ENCODERS:
        return _load_encoder(checkpoint, sentence, options, device, dtype)
    if model_type in FAMILIES:
        return _load_decoder(checkpoint, sentence, options, device, dtype)
    known = ", ".join(sorted((*ENCODERS, *FAMILIES)))
    raise ModelLoadError(
        f"{checkpoint.folder}: no embeddings of model_type={model_type!r} are supported here (known are {known})"
    )


def _load_encoder(
    checkpoint: Checkpoint, sentence: SentenceConfig, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> PagedEmbedder:
    scores = _is_classifier(checkpoint)
    ops = make_ops(options.attention_backend, device, dtype)
    encoder, head = load_encoder(checkpoint, dtype=dtype, device=device, ops=ops, with_head=scores)
    config = encoder.config
    limits = _limits(checkpoint, sentence, options, device, config.max_model_len)
    if limits.max_model_len > config.max_model_len:
        raise ModelLoadError(
            f"max_model_len is {limits.max_model_len}, but {checkpoint.folder} has {config.max_model_len} positions"
        )
    model = PooledEncoder(encoder, device, sentence.pooling or "mean", head, sigmoid=_has_sigmoid(checkpoint))
    tokenizer = PagedTokenizer.load(checkpoint, config.vocab_size)
    info = _info(
        checkpoint, tokenizer, dtype, device, context_length=config.max_model_len, hidden_size=config.hidden_size
    )
    return PagedEmbedder(model, tokenizer, info, limits, "score" if scores else "embed")


def _load_decoder(
    checkpoint: Checkpoint, sentence: SentenceConfig, options: PagedOptions, device: torch.device, dtype: torch.dtype
) -> PagedEmbedder:
    config = checkpoint.config
    if _is_classifier(checkpoint):
        raise ModelLoadError(f"{checkpoint.folder}: architectures={config['architectures']!r} is not supported")
    if config.get("is_causal") is False or config.get("use_bidirectional_attention"):
        raise ModelLoadError(f"{checkpoint.folder}: a decoder with attention in both directions is not supported")
    trained = read_architecture(config, generates=False).config.max_position_embeddings
    limits = _limits(checkpoint, sentence, options, device, trained)
    decoder = load_decoder(
        checkpoint,
        dtype=dtype,
        device=device,
        ops=make_ops(options.attention_backend, device, dtype),
        attention=make_attention(options.attention_backend, device, dtype),
        max_model_len=limits.max_model_len,
        generates=False,
    )
    model = PooledDecoder(
        decoder, limits, sentence.pooling or "last", dtype=dtype, device=device, block_size=options.block_size
    )
    tokenizer = PagedTokenizer.load(checkpoint, decoder.vocab_size)
    size = decoder.config.hidden_size
    info = _info(
        checkpoint, tokenizer, dtype, device, context_length=trained, hidden_size=size, further_bytes=model.kv_bytes
    )
    return PagedEmbedder(model, tokenizer, info, limits, "embed")


def _limits(
    checkpoint: Checkpoint, sentence: SentenceConfig, options: PagedOptions, device: torch.device, trained: int
) -> EmbeddingLimits:
    """As set; else as long as sentence-transformers' files say, who knows what the model was trained with."""
    length = options.max_model_len or min(sentence.max_seq_length or trained, trained)
    if length > trained:
        logger.warning(
            "max_model_len %d is beyond the %d tokens that %s was made for", length, trained, checkpoint.folder
        )
    return EmbeddingLimits(
        length,
        options.max_num_seqs or DEFAULT_MAX_NUM_SEQS[device.type],
        options.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS[device.type],
    )


def _is_classifier(checkpoint: Checkpoint) -> bool:
    classes = checkpoint.config.get("architectures") or []
    return any(str(name).endswith("ForSequenceClassification") for name in classes)


def _has_sigmoid(checkpoint: Checkpoint) -> bool:
    """Whether scores are put between 0 and 1: unless the model's files, as sentence-transformers writes them, say that
    they are as they come.

    Raises:
        ModelLoadError: they ask for something else.
    """
    config = checkpoint.config
    nested = config.get("sentence_transformers")
    named: Any = nested.get("activation_fn") if isinstance(nested, dict) else None
    named = named or config.get("sbert_ce_default_activation_function") or SIGMOID
    name = str(named).rpartition(".")[2]
    if name not in (IDENTITY, SIGMOID):
        raise ModelLoadError(f"{checkpoint.folder}: the activation {named} of its scores is not supported")
    return name == SIGMOID


def _info(
    checkpoint: Checkpoint,
    tokenizer: PagedTokenizer,
    dtype: torch.dtype,
    device: torch.device,
    *,
    context_length: int,
    hidden_size: int,
    further_bytes: int = 0,
) -> ModelInfo:
    return ModelInfo(
        architecture=str(checkpoint.config["model_type"]),
        num_parameters=checkpoint.num_parameters,
        quantization=DTYPE_NAMES[dtype],
        format="safetensors",
        size_bytes=checkpoint.size_bytes,
        memory_bytes=checkpoint.num_parameters * dtype.itemsize + further_bytes,
        on_gpu=device.type == "cuda",
        vocab_size=tokenizer.vocab_size,
        context_length=context_length,
        embedding_length=hidden_size,
        metadata=dict(checkpoint.config),
    )
