"""How likely tokens are under the model's raw distribution, before any adjustment. Owns no state.

A row's answer is one row of float64 numbers, `[logprob of its token, the k most likely token ids, their logprobs]`: all
of a step travels to the host at once.
"""

from collections.abc import Sequence as ReadOnlySequence

import torch
from torch import Tensor

from pagemill.backends.paged.sampling.draw import row_sums
from pagemill.backends.paged.sampling.rows import largest, num_rows_at_once
from pagemill.backends.paged.sampling.transfer import HostCopy, to_device
from pagemill.generation import TokenLogprob, TokenLogprobs


def score(logits: Tensor, token_ids: Tensor, num_top: int) -> Tensor:
    """See the module. `logits` `[num_rows, vocab_size]` float32, not changed; `token_ids` `[num_rows]` int64; returns
    `[num_rows, 1 + 2 * num_top]`.
    """
    rows_at_once = num_rows_at_once(logits.shape[1], logits.device)
    chunks = zip(torch.split(logits, rows_at_once), torch.split(token_ids, rows_at_once), strict=True)
    return torch.cat([_score(*chunk, num_top) for chunk in chunks])


def _score(logits: Tensor, token_ids: Tensor, num_top: int) -> Tensor:
    best = logits.amax(-1, keepdim=True)
    normalizer = best.double() + row_sums((logits - best).exp_()).log_()
    logprobs = [logits.gather(1, token_ids.unsqueeze(1)).double() - normalizer]
    if num_top > 0:
        values, top_ids = largest(logits, num_top)
        logprobs += [top_ids.double(), values.double() - normalizer]
    return torch.cat(logprobs, -1)


def entry(token_id: int, numbers: ReadOnlySequence[float], num_top: int) -> TokenLogprobs:
    """One row of what `score` gave, of which the `num_top` most likely tokens are wanted."""
    num_scored = (len(numbers) - 1) // 2
    top_ids = numbers[1 : 1 + min(num_top, num_scored)]
    top = tuple(
        TokenLogprob(int(top_id), value) for top_id, value in zip(top_ids, numbers[1 + num_scored :], strict=False)
    )
    return TokenLogprobs(token_id, numbers[0], top)


@torch.inference_mode()
def prompt_logprobs(logits: Tensor, token_ids: ReadOnlySequence[int], num_top: int) -> tuple[TokenLogprobs, ...]:
    """For each row of raw logits `[num_rows, vocab_size]`, the logprob of the token that followed. Waits for it.

    Memory is bounded by the caller's logits and a few chunks of them.
    """
    if not token_ids:
        return ()
    scored = HostCopy(score(logits, to_device(token_ids, torch.int64, logits.device), min(num_top, logits.shape[1])))
    return tuple(entry(*item, num_top) for item in zip(token_ids, scored.values(), strict=True))
