"""Decoders that rank: what they are asked about a pair of texts, and the score that is read off their last state.

Owns no state. A score is a product of the state with one row of weights: a classifier's own, or the head's row of the
token that says yes less that of the one that says no, whose product is the log-odds of yes among the two.
"""

import re
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pagemill.backends.paged.architectures import read_architecture
from pagemill.backends.paged.checkpoint import Checkpoint
from pagemill.backends.paged.decoder_loading import head_rows
from pagemill.backends.paged.sentence_files import LogitScore, SentenceConfig, is_qwen3_reranker
from pagemill.backends.paged.tokenizer import PagedTokenizer
from pagemill.backends.pair_format import DOCUMENT, QUERY, TemplatePairs
from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.prompts.chat_template import ChatTemplate

CLASSIFIER = "score.weight"
# https://huggingface.co/Qwen/Qwen3-Reranker-0.6B
QWEN3_TEMPLATE = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct "
    'provided. Note that the answer can only be "yes" or "no".<|im_end|>\n<|im_start|>user\n<Instruct>: Given a web '
    f"search query, retrieve relevant passages that answer the query\n<Query>: {QUERY}\n<Document>: {DOCUMENT}"
    "<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
)


@dataclass(frozen=True, slots=True)
class DecoderScore:
    """From states `[num_seqs, hidden_size]` to scores `[num_seqs, 1]`."""

    weight: Tensor  # [hidden_size], float32
    sigmoid: bool

    def __call__(self, states: Tensor) -> Tensor:
        scores = (states @ self.weight)[:, None]
        return scores.sigmoid_() if self.sigmoid else scores


def make_pairs(checkpoint: Checkpoint, tokenizer: PagedTokenizer, sentence: SentenceConfig) -> TemplatePairs:
    """As the model's chat template has pairs, or else Qwen's rerankers.

    Raises:
        ModelLoadError: neither says how the model takes them.
    """
    template = _rendered_pair(tokenizer, sentence)
    if template is None and is_qwen3_reranker(checkpoint.folder, checkpoint.config["model_type"]):
        template = QWEN3_TEMPLATE
    if template is None:
        raise ModelLoadError(
            f"{checkpoint.folder} does not say how its pairs are written: its chat template has no use for messages of "
            "the roles query and document"
        )
    return TemplatePairs.parse(tokenizer, template)


def score_row(checkpoint: Checkpoint, tokenizer: PagedTokenizer, logit_score: LogitScore | None) -> Tensor:
    """`[hidden_size]` float32, of a classifier's head, or of the tokens that say yes and no (None: by these words).

    Raises:
        ModelLoadError: it tells several classes apart, or lacks a tensor or token; names it.
    """
    config = read_architecture(checkpoint.config, generates=False).config
    if CLASSIFIER in checkpoint:
        checkpoint.expect(CLASSIFIER, (1, config.hidden_size))
        return checkpoint.load(CLASSIFIER)[0].float()
    if config.logits_soft_cap is not None or config.logits_divisor != 1.0:
        raise ModelLoadError(f"{checkpoint.folder}: scores of logits that are capped or scaled are not supported")
    true, false = logit_score or LogitScore(_token(tokenizer, "yes"), _token(tokenizer, "no"))
    if false is None:
        return head_rows(checkpoint, [true])[0]
    yes, no = head_rows(checkpoint, [true, false])
    difference: Tensor = yes - no
    return difference


def _rendered_pair(tokenizer: PagedTokenizer, sentence: SentenceConfig) -> str | None:
    """What the chat template makes of a pair, as sentence-transformers gives it one; None if it does not name the roles
    (many templates pass any through, for a conversation's turns) or has no use for the texts.
    """
    source = tokenizer.chat_template
    if source is None or not all(re.search(f"['\"]{role}['\"]", source) for role in ("query", "document")):
        return None
    template = ChatTemplate(source, bos_token=tokenizer.bos_token, eos_token=tokenizer.eos_token)
    messages = [{"role": "query", "content": QUERY}, {"role": "document", "content": DOCUMENT}]
    if sentence.default_prompt:
        messages.insert(0, {"role": "system", "content": sentence.default_prompt})
    arguments: dict[str, Any] = {"add_generation_prompt": False, **sentence.template_arguments}
    try:
        text = template.render(messages, **arguments)
    except InvalidRequestError:
        return None
    return text if text.count(QUERY) == text.count(DOCUMENT) == 1 else None


def _token(tokenizer: PagedTokenizer, text: str) -> int:
    token_id, *others = tokenizer.encode(text, add_special=False, parse_special=False)
    if others:
        raise ModelLoadError(f"{text!r} is no single token, so its probability is no score")
    return token_id
