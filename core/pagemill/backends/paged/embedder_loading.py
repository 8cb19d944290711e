"""From a model folder to an embedder: which models make embeddings, and how. Owns no state."""

from dataclasses import dataclass
from logging import getLogger
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from pagemill.backends.base import ModelInfo
from pagemill.backends.embedder import EmbeddingTask
from pagemill.backends.paged.architectures import read_architecture
from pagemill.backends.paged.architectures.families import FAMILIES
from pagemill.backends.paged.attention import make_attention
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder_embedding import PooledDecoder
from pagemill.backends.paged.decoder_loading import load_decoder
from pagemill.backends.paged.device import choose_device, choose_dtype
from pagemill.backends.paged.embedder import EmbeddingLimits, PagedEmbedder, PooledModel
from pagemill.backends.paged.encoder.config import ENCODERS
from pagemill.backends.paged.encoder.loading import load_encoder
from pagemill.backends.paged.encoder.pooled_encoder import PooledEncoder
from pagemill.backends.paged.ops import make_ops
from pagemill.backends.paged.options import PagedOptions
from pagemill.backends.paged.reranking import DecoderScore, make_pairs, score_row
from pagemill.backends.paged.sentence_files import SentenceConfig, is_qwen3_reranker, read_sentence_config
from pagemill.backends.paged.sentence_modules import PooledModelWithModules, load_vector_modules
from pagemill.backends.paged.tokenizer import PagedTokenizer
from pagemill.backends.pair_format import PairFormat
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


class _Loaded(NamedTuple):
    """A model, and what is to be known of it. `pairs`: None if the tokenizer says how pairs are written."""

    model: PooledModel
    tokenizer: PagedTokenizer
    limits: EmbeddingLimits
    context_length: int
    hidden_size: int  # of its rows
    task: EmbeddingTask = "embed"
    pairs: PairFormat | None = None
    further_bytes: int = 0  # beside its weights


def _load(checkpoint: Checkpoint, options: PagedOptions, device: torch.device) -> PagedEmbedder:
    dtype = choose_dtype(options.dtype, checkpoint.dtype, device)
    sentence = read_sentence_config(checkpoint.folder)
    loaded = _Loader(checkpoint, sentence, options, device, dtype).load()
    model, size = loaded.model, loaded.hidden_size
    if loaded.task == "embed" and sentence.vector_modules:
        modules, size = load_vector_modules(sentence.vector_modules, size, device)
        model = PooledModelWithModules(model, modules)
    info = ModelInfo(
        architecture=str(checkpoint.config["model_type"]),
        num_parameters=checkpoint.num_parameters,
        quantization=DTYPE_NAMES[dtype],
        format="safetensors",
        size_bytes=checkpoint.size_bytes,
        memory_bytes=checkpoint.num_parameters * dtype.itemsize + loaded.further_bytes,
        on_gpu=device.type == "cuda",
        vocab_size=loaded.tokenizer.vocab_size,
        context_length=loaded.context_length,
        embedding_length=size,
        metadata=dict(checkpoint.config),
    )
    prompt = sentence.default_prompt or ""
    if prompt and loaded.task == "embed" and not sentence.pools_prompt:
        why = f"leaves its default prompt {prompt!r} out of the pooling, which is not supported"
        raise ModelLoadError(f"{checkpoint.folder} {why}")
    return PagedEmbedder(model, loaded.tokenizer, info, loaded.limits, loaded.task, loaded.pairs, prompt)


@dataclass(frozen=True, slots=True)
class _Loader:
    """What a model is loaded from, and for."""

    checkpoint: Checkpoint
    sentence: SentenceConfig
    options: PagedOptions
    device: torch.device
    dtype: torch.dtype

    def load(self) -> _Loaded:
        """By a definition of our own, else by transformers'."""
        model_type, impl = self.checkpoint.config["model_type"], self.options.model_impl
        if impl != "transformers" and model_type in ENCODERS:
            return self._encoder()
        if impl != "transformers" and model_type in FAMILIES and not self._sees_both_directions:
            return self._decoder()
        if impl == "pagemill":
            known = ", ".join(sorted((*ENCODERS, *FAMILIES)))
            raise ModelLoadError(
                f"{self.checkpoint.folder}: no definition of our own makes embeddings of model_type={model_type!r} "
                f"(known are {known}, the decoders with attention in one direction)"
            )
        return self._foreign()

    def _encoder(self) -> _Loaded:
        scores = _is_classifier(self.checkpoint)
        ops = make_ops(self.options.attention_backend, self.device, self.dtype)
        encoder, head = load_encoder(self.checkpoint, dtype=self.dtype, device=self.device, ops=ops, with_head=scores)
        config = encoder.config
        limits = self._limits(config.max_model_len, is_hard=True)
        model = PooledEncoder(encoder, self.device, self.sentence.pooling or "mean", head, sigmoid=self._sigmoid())
        tokenizer = PagedTokenizer.load(self.checkpoint, config.vocab_size)
        task: EmbeddingTask = "score" if scores else "embed"
        return _Loaded(model, tokenizer, limits, config.max_model_len, config.hidden_size, task)

    def _decoder(self) -> _Loaded:
        checkpoint, options = self.checkpoint, self.options
        config = read_architecture(checkpoint.config, generates=False).config
        limits = self._limits(config.max_position_embeddings)
        tokenizer = PagedTokenizer.load(checkpoint, config.vocab_size)
        decoder = load_decoder(
            checkpoint,
            dtype=self.dtype,
            device=self.device,
            ops=make_ops(options.attention_backend, self.device, self.dtype),
            attention=make_attention(options.attention_backend, self.device, self.dtype),
            max_model_len=limits.max_model_len,
            generates=False,
        )
        pooling = self.sentence.pooling or "last"
        pooled = PooledDecoder(
            decoder, limits, pooling, dtype=self.dtype, device=self.device, block_size=options.block_size
        )
        loaded = _Loaded(
            pooled,
            tokenizer,
            limits,
            config.max_position_embeddings,
            config.hidden_size,
            further_bytes=pooled.kv_bytes,
        )
        return self._ranking(loaded) if self._ranks else loaded

    def _ranking(self, loaded: _Loaded) -> _Loaded:
        """A decoder that ranks."""
        pairs = make_pairs(self.checkpoint, loaded.tokenizer, self.sentence)
        row = score_row(self.checkpoint, loaded.tokenizer, self.sentence.logit_score).to(self.device)
        score = DecoderScore(row, self._sigmoid())
        return loaded._replace(model=PooledModelWithModules(loaded.model, [score]), task="score", pairs=pairs)

    def _foreign(self) -> _Loaded:
        try:
            from pagemill.backends.paged.encoder.transformers_encoder import load_transformers_encoder
        except ImportError as error:
            model_type = self.checkpoint.config["model_type"]
            raise ModelLoadError(f"model_type={model_type!r} needs transformers: pip install transformers") from error
        if self.sentence.logit_score is not None:
            raise ModelLoadError(f"{self.checkpoint.folder}: LogitScore is supported of {', '.join(FAMILIES)} only")
        scores = _is_classifier(self.checkpoint)
        encoder = load_transformers_encoder(
            self.checkpoint,
            dtype=self.dtype,
            device=self.device,
            pooling=self.sentence.pooling,
            scores=scores,
            sigmoid=self._sigmoid(),
            both_directions=self._sees_both_directions,
        )
        limits = self._limits(encoder.num_positions, is_hard=True)
        tokenizer = PagedTokenizer.load(self.checkpoint, encoder.vocab_size)
        length = encoder.num_positions or limits.max_model_len
        return _Loaded(encoder, tokenizer, limits, length, encoder.hidden_size, "score" if scores else "embed")

    @property
    def _ranks(self) -> bool:
        """Whether a decoder gives scores."""
        known = self.sentence.logit_score is not None or _is_classifier(self.checkpoint)
        return known or is_qwen3_reranker(self.checkpoint.folder, self.checkpoint.config["model_type"])

    @property
    def _sees_both_directions(self) -> bool:
        """Whether config.json says that a decoder's tokens see those behind them."""
        config = self.checkpoint.config
        return config.get("is_causal") is False or bool(config.get("use_bidirectional_attention"))

    def _limits(self, trained: int | None, *, is_hard: bool = False) -> EmbeddingLimits:
        """As set; else as long as sentence-transformers' files say, who knows what the model was trained with; else as
        the model was made for. `is_hard`: it can't take more than that. None: nothing says.

        Raises:
            ModelLoadError: it is too long, or nothing says how long it may be.
        """
        options, sentence, folder = self.options, self.sentence, self.checkpoint.folder
        lengths = [length for length in (sentence.max_seq_length, trained) if length is not None]
        length = options.max_model_len or min(lengths, default=None)
        if length is None:
            raise ModelLoadError(f"{folder} does not say how long its inputs may be; set max_model_len")
        if trained is not None and length > trained:
            if is_hard:
                raise ModelLoadError(f"max_model_len is {length}, but {folder} has {trained} positions")
            logger.warning("max_model_len %d is beyond the %d tokens that %s was made for", length, trained, folder)
        return EmbeddingLimits(
            length,
            options.max_num_seqs or DEFAULT_MAX_NUM_SEQS[self.device.type],
            options.max_num_batched_tokens or DEFAULT_MAX_NUM_BATCHED_TOKENS[self.device.type],
        )

    def _sigmoid(self) -> bool:
        """Whether scores are put between 0 and 1: unless the model's files, as sentence-transformers writes them, say
        that they are as they come.

        Raises:
            ModelLoadError: they ask for something else.
        """
        config = self.checkpoint.config
        nested = config.get("sentence_transformers")
        named: Any = nested.get("activation_fn") if isinstance(nested, dict) else None
        named = named or self.sentence.activation or config.get("sbert_ce_default_activation_function") or SIGMOID
        name = str(named).rpartition(".")[2]
        if name not in (IDENTITY, SIGMOID):
            raise ModelLoadError(f"{self.checkpoint.folder}: the activation {named} of its scores is not supported")
        return name == SIGMOID


def _is_classifier(checkpoint: Checkpoint) -> bool:
    classes = checkpoint.config.get("architectures") or []
    return any(str(name).endswith("ForSequenceClassification") for name in classes)
