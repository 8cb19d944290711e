"""A sampler in plain Python and numpy, one token at a time: slow, and as the definitions say. The oracle of tests.

From a row of logits to the probability that each token is sampled next.
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pagemill.generation import SamplingParams

Row = NDArray[np.float64]


def adjusted_logits(
    logits: Sequence[float], prompt: Sequence[int], output: Sequence[int], sampling: SamplingParams, eos: frozenset[int]
) -> Row:
    """Bias, then masks, then penalties, as vLLM defines them."""
    row = np.array(logits, np.float64)
    for token_id, bias in sampling.logit_bias:
        row[token_id] += bias
    for token_id in range(len(row)):
        if sampling.allowed_token_ids is not None and token_id not in sampling.allowed_token_ids:
            row[token_id] = -np.inf
        ends = token_id in sampling.stop_token_ids or (token_id in eos and not sampling.ignore_eos)
        if ends and len(output) < sampling.min_tokens:
            row[token_id] = -np.inf
    tokens = [*((token_id, False) for token_id in prompt), *((token_id, True) for token_id in output)]
    if sampling.penalty_last_n is not None:
        tokens = tokens[max(0, len(tokens) - sampling.penalty_last_n) :]
    for token_id in {token_id for token_id, _ in tokens}:
        factor = sampling.repetition_penalty
        row[token_id] = row[token_id] / factor if row[token_id] > 0 else row[token_id] * factor
    for token_id, count in Counter(token_id for token_id, is_output in tokens if is_output).items():
        row[token_id] -= sampling.frequency_penalty * count + sampling.presence_penalty
    return row


def probabilities(row: Row, sampling: SamplingParams) -> Row:
    """Of each token to be sampled from adjusted logits: llama.cpp's chain. Of equal tokens the lower ids go first."""
    order = np.lexsort((np.arange(len(row)), -row))
    if sampling.greedy:
        certain: Row = np.eye(len(row))[order[0]]
        return certain
    kept = order[: sampling.top_k] if sampling.top_k else order
    kept = kept[np.isfinite(row[kept])]
    if sampling.typical_p < 1.0:
        surprise = -np.log(_softmax(row[kept]))
        distance = np.abs(surprise - float((np.exp(-surprise) * surprise).sum()))
        by_distance = np.argsort(distance, kind="stable")
        mass = np.cumsum(np.exp(-surprise)[by_distance])
        kept = kept[np.sort(by_distance[: int(np.searchsorted(mass, sampling.typical_p, "right")) + 1])]
    if sampling.top_p < 1.0:
        mass = np.cumsum(_softmax(row[kept]))
        kept = kept[: int(np.searchsorted(mass, sampling.top_p, "left")) + 1]
    if sampling.min_p > 0.0:
        kept = kept[row[kept] >= row[kept].max() + np.log(sampling.min_p)]
    result = np.zeros(len(row))
    result[kept] = _softmax(row[kept] / sampling.temperature)
    return result


def log_softmax(logits: Sequence[float]) -> Row:
    row = np.array(logits, np.float64)
    result: Row = row - row.max() - np.log(np.exp(row - row.max()).sum())
    return result


def _softmax(row: Row) -> Row:
    weights = np.exp(row - row.max())
    result: Row = weights / weights.sum()
    return result
