"""Every kind of sampling that one batch may hold together, the greedy one first."""

from pagemill.generation import SamplingParams

KINDS = (
    SamplingParams(temperature=0.0),
    SamplingParams(seed=1),
    SamplingParams(seed=2, temperature=0.7, min_p=0.05),
    SamplingParams(seed=3, top_k=40),
    SamplingParams(seed=4, top_k=3, top_p=0.8),
    SamplingParams(seed=5, top_p=0.9),
    SamplingParams(seed=6, top_p=0.99, temperature=2.0),
    SamplingParams(seed=7, typical_p=0.6, top_p=0.9, min_p=0.01),
    SamplingParams(seed=8, repetition_penalty=1.5, frequency_penalty=1.0),
    SamplingParams(seed=9, presence_penalty=2.0, penalty_last_n=3, logprobs=5),
    SamplingParams(seed=10, logit_bias=((3, 4.0),), min_tokens=2, logprobs=0),
    SamplingParams(seed=11, allowed_token_ids=(1, 3, 5, 7, 9), min_tokens=2, stop_token_ids=(3,)),
    SamplingParams(temperature=0.0, repetition_penalty=2.0, logprobs=2),
)
