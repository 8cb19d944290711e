"""Drawing a token from the likely ones: top-k, typical, top-p, min-p and temperature, in llama.cpp's order.

Owns no state. Filters look at a few candidates, sorted, rather than at the whole vocabulary; how likely those are is
known exactly, since the weight of all tokens is summed up. A row that has no more than `min_p` and a temperature needs
no order at all, and is drawn from the whole vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.draw import draw, row_sums
from pagemill.backends.paged.sampling.rows import largest

FIRST_CANDIDATES = 256  # where reading back is free; if what is wanted is not among them, more are taken
MORE_CANDIDATES = 16  # times as many, or all if that would not be far from all


@dataclass(frozen=True, slots=True)
class Filters:
    """The parameters of some rows, each `[num_rows, 1]`; float64 but for `top_k`. What is off is infinite."""

    temperature: Tensor
    top_k: Tensor  # int64
    typical_p: Tensor
    top_p: Tensor
    log_min_p: Tensor
    any_typical: bool
    any_min_p: bool

    def select(self, rows: Tensor) -> "Filters":
        """Those of some of the rows."""
        return Filters(
            self.temperature[rows],
            self.top_k[rows],
            self.typical_p[rows],
            self.top_p[rows],
            self.log_min_p[rows],
            self.any_typical,
            self.any_min_p,
        )


@dataclass(frozen=True, slots=True)
class Candidates:
    """Tokens `[num_rows, count]` by falling logit. The weight of a token is the exponential of its gap; `total`
    `[num_rows, 1]` is that of all tokens that the filters look at, and `entropy` that of their distribution, in nats.
    """

    token_ids: Tensor
    gaps: Tensor  # logit minus the row's largest, float64; -inf: not to be drawn
    total: Tensor
    entropy: Tensor


def draw_from_all(logits: Tensor, filters: Filters, uniforms: Tensor) -> Tensor:
    """A token `[num_rows]` of each row of `[num_rows, vocab_size]`, by `min_p` and temperature only. Changes logits."""
    logits -= logits.amax(-1, keepdim=True)
    if filters.any_min_p:
        logits.masked_fill_(logits < filters.log_min_p.float(), -torch.inf)
    return draw(logits.div_(filters.temperature.float()).exp_(), uniforms)


def draw_from_top_k(logits: Tensor, filters: Filters, uniforms: Tensor, count: int) -> Tensor:
    """Likewise, of the `filters.top_k` most likely tokens, of which there are at most `count`."""
    values, token_ids = largest(logits, count)
    gaps = (values - values[:, :1]).double()
    gaps.masked_fill_(torch.arange(gaps.shape[1], device=gaps.device) >= filters.top_k, -torch.inf)
    weights = gaps.exp()
    total = weights.sum(-1, keepdim=True)
    entropy = total.log() - torch.special.xlogy(weights, weights).sum(-1, keepdim=True) / total
    return _pick(Candidates(token_ids, gaps, total, entropy), filters, uniforms)


def draw_from_nucleus(logits: Tensor, filters: Filters, uniforms: Tensor) -> Tensor:
    """Likewise, with `typical_p` or `top_p` but no `top_k`."""
    vocab_size = logits.shape[1]
    if logits.device.type != "cpu":  # to see whether candidates suffice, the host would have to wait
        return _pick(_candidates(logits, filters, vocab_size), filters, uniforms)
    return _draw_from_enough(logits, filters, uniforms, min(FIRST_CANDIDATES, vocab_size))


def _draw_from_enough(logits: Tensor, filters: Filters, uniforms: Tensor, count: int) -> Tensor:
    candidates = _candidates(logits, filters, count)
    tokens = _pick(candidates, filters, uniforms)
    if count == logits.shape[1]:
        return tokens
    wanted = torch.where(filters.typical_p.isinf(), filters.top_p, filters.typical_p) * candidates.total
    lacking = (candidates.gaps.exp().sum(-1, keepdim=True) <= wanted).squeeze(1).nonzero().squeeze(1)
    if len(lacking):
        more = count * MORE_CANDIDATES
        enough = more if more * MORE_CANDIDATES <= logits.shape[1] else logits.shape[1]
        tokens[lacking] = _draw_from_enough(logits[lacking], filters.select(lacking), uniforms[lacking], enough)
    return tokens


def _candidates(logits: Tensor, filters: Filters, count: int) -> Candidates:
    """The `count` that come first: the most likely tokens, or of rows with `typical_p` the most typical ones."""
    gaps = logits - logits.amax(-1, keepdim=True)
    weights = gaps.exp()
    total = row_sums(weights)
    if not filters.any_typical:
        values, token_ids = largest(gaps, count)
        return Candidates(token_ids, values.double(), total, torch.zeros_like(total))
    entropy = total.log() - row_sums(torch.special.xlogy(weights, weights)) / total
    distance = (gaps.double() - (total.log() - entropy)).abs_()
    scores = torch.where(filters.typical_p.isinf(), gaps, -distance.float())
    _, token_ids = largest(scores, count)
    chosen, order = gaps.gather(1, token_ids).sort(dim=-1, descending=True, stable=True)
    return Candidates(token_ids.gather(1, order), chosen.double(), total, entropy)


def _pick(candidates: Candidates, filters: Filters, uniforms: Tensor) -> Tensor:
    gaps, total = candidates.gaps, candidates.total
    if filters.any_typical:
        gaps = torch.where(_typical(candidates, filters.typical_p), gaps, -torch.inf)
        total = torch.where(filters.typical_p.isinf(), total, gaps.exp().sum(-1, keepdim=True))
    weights = gaps.exp()
    before = weights.cumsum(-1) - weights
    gaps = torch.where(before < filters.top_p * total, gaps, -torch.inf)
    gaps = gaps - gaps.amax(-1, keepdim=True)
    gaps = torch.where(gaps < filters.log_min_p, -torch.inf, gaps)
    column = draw((gaps / filters.temperature).exp().float(), uniforms)
    return candidates.token_ids.gather(1, column.unsqueeze(1)).squeeze(1)


def _typical(candidates: Candidates, typical_p: Tensor) -> Tensor:
    """Which tokens are the most typical ones that together are more likely than `typical_p`."""
    log_probabilities = candidates.gaps - candidates.total.log()
    order = (log_probabilities + candidates.entropy).abs().argsort(dim=-1, stable=True)
    weights = candidates.gaps.exp().gather(1, order)
    kept = weights.cumsum(-1) - weights <= typical_p * candidates.total
    return torch.zeros_like(kept).scatter_(1, order, kept)
