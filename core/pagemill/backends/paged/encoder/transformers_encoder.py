"""Encoders that have no definition of our own, through transformers': a `PooledModel`. Owns the module.

ModernBERT, Nomic, DeBERTa, ELECTRA, T5's encoder, Gemma with attention in both directions, and what else transformers
knows. Sequences are padded to the longest of their batch. When a model is loaded it is tried whether padding changes
its results, and whether attention has the direction that config.json says: definitions ignore such things in silence.
"""

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from pagemill.backends.embedder import EmbeddingInput
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.encoder.pooling import Pooling, pool
from pagemill.backends.paged.transformers_loading import (
    find_context_length,
    load_module,
    read_transformers_config,
    refuse,
)
from pagemill.errors import ModelLoadError

FREE_PADDING = 8  # tokens by which the lengths in one batch may differ, and beyond them a quarter of the shortest
TOLERANCE = 0.05  # of a hidden state's size; bfloat16 rounds by 0.004, what is not masked changes all of it
PROBE = (1, 2, 3, 4, 5)
UNUSED = ("pooler.",)  # in the names of parameters that embeddings have no need of


class TransformersEncoder:
    """With `scores` its rows are a classifier's logits, put between 0 and 1 by `sigmoid`; else pooled states.

    `num_positions` is the longest sequence that it can take, None where nothing limits it.
    """

    def __init__(self, module: Any, device: torch.device, pooling: Pooling, *, scores: bool, sigmoid: bool) -> None:
        self._module = module
        self._device = device
        self._pooling: Pooling = pooling
        self._scores = scores
        self._sigmoid = sigmoid
        text = module.config.get_text_config()
        self._padding = text.pad_token_id if isinstance(text.pad_token_id, int) else 0
        knows_types = "token_type_ids" in inspect.signature(module.forward).parameters
        self._pairs_have_types = knows_types and (getattr(text, "type_vocab_size", None) or 0) > 1
        self.hidden_size = int(text.hidden_size)
        self.vocab_size = int(text.vocab_size)
        self.num_positions = _num_positions(module)

    def __call__(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        return torch.cat([self._rows(batch) for batch in _batches(inputs)])

    def states(self, inputs: Sequence[EmbeddingInput]) -> list[Tensor]:
        """The last hidden states of each input as one batch, `[num_tokens, hidden_size]`."""
        output, mask = self._run(inputs, output_hidden_states=True)
        return [states[its_mask] for states, its_mask in zip(output.hidden_states[-1], mask, strict=True)]

    def _rows(self, inputs: Sequence[EmbeddingInput]) -> Tensor:
        output, mask = self._run(inputs)
        if self._scores:
            scores: Tensor = output.logits.float()
            return scores.sigmoid_() if self._sigmoid else scores
        return pool(output.last_hidden_state[mask], [len(item.token_ids) for item in inputs], self._pooling)

    def _run(self, inputs: Sequence[EmbeddingInput], **arguments: Any) -> tuple[Any, Tensor]:
        """The model's output for one batch, and which of its tokens are no padding."""
        longest = max(len(item.token_ids) for item in inputs)
        token_ids = torch.full((len(inputs), longest), self._padding)
        mask, types = torch.zeros_like(token_ids), torch.zeros_like(token_ids)
        for row, item in enumerate(inputs):
            length = len(item.token_ids)
            token_ids[row, :length] = torch.tensor(item.token_ids)
            mask[row, :length] = 1
            if item.second_start is not None:
                types[row, item.second_start : length] = 1
        mask = mask.to(self._device)
        if self._pairs_have_types:
            arguments["token_type_ids"] = types.to(self._device)
        output = self._module(input_ids=token_ids.to(self._device), attention_mask=mask, **arguments)
        return output, mask.bool()


def load_transformers_encoder(
    checkpoint: Checkpoint,
    *,
    dtype: torch.dtype,
    device: torch.device,
    pooling: Pooling | None,
    scores: bool,
    sigmoid: bool,
    both_directions: bool,
) -> TransformersEncoder:
    """`pooling` None: the last state where attention is causal, else the mean. `both_directions`: config.json says that
    tokens see those behind them, where the architecture's own don't.

    Raises:
        ModelLoadError: transformers does not know the architecture, its weights are not all there, or it does not do
            what is needed; names the architecture and the reason.
    """
    config = read_transformers_config(checkpoint)
    _check_config(checkpoint, config, scores=scores)
    auto_class = _auto_class(config, scores=scores)
    may_lack = () if scores else UNUSED
    module = load_module(checkpoint.folder, config, auto_class, may_lack=may_lack, dtype=dtype).to(device)
    module.config.get_text_config().use_cache = False
    try:
        with torch.inference_mode():
            sees_both = _check(TransformersEncoder(module, device, "mean", scores=scores, sigmoid=sigmoid))
    except Exception as error:  # the model's code may fail in any way on what it was not written for
        refuse(config, str(error) or type(error).__name__, error)
    if both_directions and not sees_both:
        refuse(config, "config.json asks for attention in both directions, which its definition does not do")
    pooling = pooling or ("mean" if sees_both else "last")
    return TransformersEncoder(module, device, pooling, scores=scores, sigmoid=sigmoid)


def _auto_class(config: Any, *, scores: bool) -> Any:
    """The register of transformers' models that this one is looked up in."""
    if scores:
        return transformers.AutoModelForSequenceClassification
    if type(config) in transformers.MODEL_FOR_TEXT_ENCODING_MAPPING:  # where T5 has its encoder alone
        return transformers.AutoModelForTextEncoding
    if config.is_encoder_decoder:
        refuse(config, "transformers has no model of its encoder alone")
    return transformers.AutoModel


def _check_config(checkpoint: Checkpoint, config: Any, *, scores: bool) -> None:
    """Refuse what the configuration alone shows."""
    names = [str(name) for name in checkpoint.config.get("architectures") or ()]
    if foreign := [name for name in names if not hasattr(transformers, name)]:
        refuse(config, f"architectures={foreign} is none of transformers', and the folder's own code is not run")
    if scores and config.num_labels != 1:
        refuse(config, f"it tells {config.num_labels} classes apart; what scores pairs has one")


def _check(encoder: TransformersEncoder) -> bool:
    """Whether tokens see those behind them.

    Raises:
        ModelLoadError: they see padding.
    """
    short, long = EmbeddingInput(PROBE[:2]), EmbeddingInput(PROBE)
    alone = encoder.states([short])[0]
    if _differ(alone, encoder.states([short, long])[0]):
        raise ModelLoadError("a text's states depend on the padding beside it")
    return _differ(alone[:1], encoder.states([long])[0][:1])


def _differ(one: Tensor, other: Tensor) -> bool:
    difference = (one - other).float().norm() / one.float().norm()
    return not bool(difference <= TOLERANCE)  # True for what is not finite, too


def _num_positions(module: Any) -> int | None:
    """Of a table of positions its rows, less those up to the padding's in RoBERTa's kin; else what is configured."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            first = 0 if part.padding_idx is None else part.padding_idx + 1
            return int(part.num_embeddings) - first
    return find_context_length(module.config)


def _batches(inputs: Sequence[EmbeddingInput]) -> Iterator[Sequence[EmbeddingInput]]:
    """Neighbours of about one length; the inputs come in order of their lengths."""
    start = 0
    for end in range(1, len(inputs) + 1):
        shortest = len(inputs[start].token_ids)
        if end == len(inputs) or len(inputs[end].token_ids) > shortest + FREE_PADDING + shortest // 4:
            yield inputs[start:end]
            start = end
