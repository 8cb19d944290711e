"""The split between host and device: `sample` launches work and reads nothing back; `collect` copies once."""

import pytest
import torch

from backends.paged.sampling.conftest import EOS, MakeSampler, start_all
from pagemill.backends.paged.sampling import Sampler, sampler
from pagemill.backends.paged.sampling.transfer import HostCopy
from support.sampling_kinds import KINDS


@pytest.mark.parametrize("vocab_size", [64, 50_257])
def test_sampling_works_on_tensors_that_have_no_data_to_read(vocab_size: int) -> None:
    device = torch.device("meta")
    tested = Sampler(vocab_size, EOS, device, 4)
    start_all(tested, KINDS)
    ids = list(range(len(KINDS)))
    mask = bytes(-(-vocab_size // 32) * 4)
    for step in range(6):  # past min_tokens, and past a penalty's window
        masks = [mask if index % 3 < step else None for index in ids]  # of none, some and all rows
        batch = tested.sample(torch.empty(len(ids), vocab_size, device=device), ids, masks)
        assert batch.token_ids.shape == (len(ids),)
        assert batch.token_ids.device.type == "meta"
        if step == 3:
            tested.end(ids.pop())


def test_what_is_read_on_the_cpu_is_a_read_elsewhere() -> None:
    """So that the test above can fail."""
    tensor = torch.empty(3, device="meta")
    for read in (torch.Tensor.tolist, torch.Tensor.nonzero, bool):
        with pytest.raises((RuntimeError, NotImplementedError)):
            read(tensor)


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:9]])
def test_a_step_travels_to_the_host_in_one_copy(
    make_sampler: MakeSampler, monkeypatch: pytest.MonkeyPatch, kinds: list[object]
) -> None:
    copies: list[torch.Tensor] = []

    class Counted(HostCopy):
        def __init__(self, tensor: torch.Tensor) -> None:
            copies.append(tensor)
            super().__init__(tensor)

    monkeypatch.setattr(sampler, "HostCopy", Counted)
    tested = make_sampler(64, *KINDS[: len(kinds)])
    batch = tested.sample(torch.randn(len(kinds), 64), range(len(kinds)))
    sampled = batch.collect()
    assert len(copies) == 1
    assert [item.token_id for item in sampled] == batch.token_ids.tolist()
    assert [item.logprobs is not None for item in sampled] == [
        kind.logprobs is not None for kind in KINDS[: len(kinds)]
    ]


def test_a_batch_is_collected_late_with_what_it_had_when_it_was_sampled(make_sampler: MakeSampler) -> None:
    tested = make_sampler(64, *KINDS)
    twin = make_sampler(64, *KINDS)
    logits = [torch.randn(len(KINDS), 64, generator=torch.Generator().manual_seed(step)) for step in range(3)]
    batches = [tested.sample(rows.clone(), range(len(KINDS))) for rows in logits]
    for sequence_id in range(len(KINDS)):  # ended in the meantime
        tested.end(sequence_id)
    late = [batch.collect() for batch in batches]
    assert late == [twin.sample(rows.clone(), range(len(KINDS))).collect() for rows in logits]
