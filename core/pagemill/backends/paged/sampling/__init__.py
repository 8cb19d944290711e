"""Choosing the next tokens of a whole batch on the device; the host reads nothing until `SampledBatch.collect`.

`sampler` groups a batch's rows by what they ask for; `adjustments`, `penalties` and `masks` change logits; `filters`
keeps the likely tokens; `draw` picks one; `logprobs` tells how likely it was. Each row's outcome depends on that row
alone.
"""

from pagemill.backends.paged.sampling.logprobs import prompt_logprobs
from pagemill.backends.paged.sampling.sampler import SampledBatch, Sampler

__all__ = ["SampledBatch", "Sampler", "prompt_logprobs"]
