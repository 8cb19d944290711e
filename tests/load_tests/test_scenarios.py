"""The lists of requests that clients send."""

import pytest
from load_tests.scenarios import scenarios

TOKEN_IDS = range(300, 8000)
NAMES = sorted(scenarios())


@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_requests_and_another_seed_others(name: str) -> None:
    scenario = scenarios()[name]
    assert scenario.plan(20, TOKEN_IDS, 1) == scenario.plan(20, TOKEN_IDS, 1)
    prompts = {request.prompt_token_ids[:16] for request in scenario.plan(20, TOKEN_IDS, 1)}
    others = {request.prompt_token_ids[:16] for request in scenario.plan(20, TOKEN_IDS, 2)}
    assert prompts.isdisjoint(others)


@pytest.mark.parametrize("name", NAMES)
def test_every_seed_asks_for_the_same_work(name: str) -> None:
    scenario = scenarios()[name]

    def work(seed: int) -> tuple[list[int], list[int]]:
        requests = scenario.plan(25, TOKEN_IDS, seed)
        return (
            sorted(len(request.prompt_token_ids) for request in requests),
            sorted(request.max_tokens for request in requests),
        )

    assert work(1) == work(2)


@pytest.mark.parametrize("name", NAMES)
def test_lengths_span_their_ranges_and_fit_the_context(name: str) -> None:
    scenario = scenarios()[name]
    requests = scenario.plan(40, TOKEN_IDS, 0)
    own = [len(request.prompt_token_ids) - scenario.shared_tokens for request in requests]
    output = [request.max_tokens for request in requests]
    assert (min(own), max(own)) == scenario.own_tokens
    assert (min(output), max(output)) == scenario.output_tokens
    longest = max(len(request.prompt_token_ids) + request.max_tokens for request in requests)
    assert longest <= scenario.max_model_len < longest + 512
    assert scenario.max_model_len % 256 == 0


@pytest.mark.parametrize("name", ["shared_prefix", "shared_prefix_cold", "shared_prefix_warm"])
def test_shared_prefixes_are_shared_and_what_follows_is_not(name: str) -> None:
    scenario = scenarios()[name]
    prompts = [request.prompt_token_ids for request in scenario.plan(32, TOKEN_IDS, 5)]
    assert len({prompt[:512] for prompt in prompts}) == 1
    assert len({prompt[512:520] for prompt in prompts}) == 32
    warm = {request.prompt_token_ids[:512] for request in scenario.warm_up(4, TOKEN_IDS, 5)}
    assert (prompts[0][:512] in warm) == (name == "shared_prefix_warm")


def test_warm_up_and_run_share_no_prompt() -> None:
    scenario = scenarios()["mixed"]
    warm = {request.prompt_token_ids[:16] for request in scenario.warm_up(16, TOKEN_IDS, 3)}
    run = {request.prompt_token_ids[:16] for request in scenario.plan(16, TOKEN_IDS, 3)}
    assert warm.isdisjoint(run)


def test_a_run_has_four_rounds_at_least_but_a_cold_start_one() -> None:
    assert [scenarios()["mixed"].num_requests(clients) for clients in (1, 4, 16, 32)] == [15, 24, 64, 128]
    assert scenarios()["shared_prefix_cold"].num_requests(16) == 16
