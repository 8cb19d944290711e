"""What waits for the device is found before a graph is recorded. The meta device stands for a GPU."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.recording import RefuseWaiting

NUMBERS = torch.arange(4.0)
ON_DEVICE = torch.arange(4.0, device="meta")


@pytest.mark.parametrize(
    "work",
    [
        lambda: NUMBERS.sum().item(),
        lambda: bool(NUMBERS.sum() > 1),
        lambda: 3 in NUMBERS,
        lambda: NUMBERS[NUMBERS > 1],
        lambda: NUMBERS.nonzero(),
        lambda: torch.where(NUMBERS > 1),
        lambda: NUMBERS.unique(),  # type: ignore[no-untyped-call]
        lambda: torch.repeat_interleave(NUMBERS, torch.tensor([1, 1, 1, 1])),
        lambda: NUMBERS.masked_select(NUMBERS > 1),
        lambda: torch.equal(NUMBERS, NUMBERS),
    ],
)
def test_what_waits_for_the_device_is_refused(work: Callable[[], object]) -> None:
    with torch.inference_mode():
        work()
        with RefuseWaiting(), pytest.raises(RuntimeError, match="waits for the device"):
            work()


@pytest.mark.parametrize(
    "work",
    [
        lambda: NUMBERS.to("meta"),
        lambda: ON_DEVICE.copy_(NUMBERS),
        lambda: torch.ops.aten.lift_fresh(ON_DEVICE),  # what torch.tensor ends with
    ],
)
def test_copies_from_the_host_are_refused(work: Callable[[], object]) -> None:
    with torch.inference_mode(), RefuseWaiting(), pytest.raises(RuntimeError, match="between the host and the device"):
        work()


@pytest.mark.parametrize(
    "work",
    [
        lambda numbers: numbers.masked_fill(numbers > 1, 0).softmax(-1),
        lambda numbers: torch.where(numbers > 1, numbers, torch.tensor(2.0)),
        lambda numbers: numbers[torch.arange(2, device=numbers.device)],
        lambda numbers: numbers.index_select(0, torch.zeros(2, dtype=torch.long, device=numbers.device)),
        lambda numbers: torch.zeros(3, device=numbers.device).copy_(numbers[:3]),
    ],
)
@pytest.mark.parametrize("numbers", [NUMBERS, ON_DEVICE])
def test_other_work_passes(work: Callable[[Tensor], Tensor], numbers: Tensor) -> None:
    with torch.inference_mode():
        expected = work(numbers)
        with RefuseWaiting():
            assert work(numbers).shape == expected.shape
