"""The choice of sizes and the padding of decode graphs. A recorder that computes again stands for CUDA's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pagemill.backends.paged.attention.base import AttentionBatch, LayerKV, Prefill
from pagemill.backends.paged.graphs import DecodeGraphs, Recorder, Recording, padded_size
from pagemill.backends.paged.model import KVShape

CPU = torch.device("cpu")
PAGES = (LayerKV(torch.zeros(9, 1, 16, 4), torch.zeros(9, 1, 16, 4)),)


class Model:
    """Its hidden states are its inputs, row by row: token id, position, slot, context length, the first page."""

    kv_shape = KVShape(1, 1, 4)
    vocab_size = 10

    def __init__(self) -> None:
        self.batches: list[AttentionBatch] = []

    def forward(
        self,
        token_ids: Tensor,
        positions: Tensor,
        batch: AttentionBatch,
        pages: tuple[LayerKV, ...],
        rows: Tensor | None = None,
    ) -> Tensor:
        assert rows is None, "a graph computes all rows"
        self.batches.append(batch)
        return torch.stack([token_ids, positions, batch.slots, batch.context_lens, batch.block_tables[:, 0]], 1)

    def logits(self, hidden: Tensor) -> Tensor:
        return hidden.float()


class Repeater:
    """Keeps what was recorded last in `rows`, padding and all."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.rows = torch.empty(0)

    def __call__(self, compute: Callable[[], Tensor]) -> Recording:
        output = torch.full_like(compute(), -7)
        self.sizes.append(len(output))

        def replay() -> None:
            self.rows = output.copy_(compute())

        return Recording(replay, output)


def decodes(count: int, *, width: int = 3) -> tuple[Tensor, Tensor, AttentionBatch]:
    rows = torch.arange(1, count + 1)
    batch = AttentionBatch(
        num_decodes=count,
        query_starts=torch.arange(count + 1, dtype=torch.int32),
        context_lens=(rows + 30).int(),
        block_tables=(rows + 40).int()[:, None].repeat(1, width),
        slots=rows + 20,
        max_query_len=1,
        max_context_len=30 + count,
    )
    return rows, rows + 10, batch


def make_graphs(recorder: Recorder, **limits: int) -> DecodeGraphs:
    return DecodeGraphs(Model(), max_num_seqs=50, max_blocks=5, device=CPU, record=recorder, **limits)


def rows_of(count: int) -> Tensor:
    return torch.stack([torch.arange(1, count + 1) + shift for shift in (0, 10, 20, 30, 40)], 1)


def test_sizes_are_powers_of_two_up_to_eight_and_then_its_multiples() -> None:
    assert [padded_size(count) for count in (1, 2, 3, 4, 5, 8, 9, 16, 17, 250)] == [1, 2, 4, 4, 8, 8, 16, 16, 24, 256]


@pytest.mark.parametrize("count", [1, 3, 8, 11])
def test_a_batch_is_computed_as_it_is_and_its_padding_sees_and_writes_nothing(count: int) -> None:
    recorder = Repeater()
    graphs = make_graphs(recorder)
    graphs.forward(*decodes(16), PAGES)  # leaves its rows in the buffers
    hidden = graphs.forward(*decodes(count), PAGES)
    assert hidden is not None
    torch.testing.assert_close(hidden, rows_of(count))
    padding = recorder.rows[count:]
    assert len(recorder.rows) == padded_size(count)
    assert not padding[:, [0, 1, 3]].any()
    assert (padding[:, 2] == -1).all()


def test_a_size_is_recorded_once() -> None:
    recorder = Repeater()
    graphs = make_graphs(recorder)
    for count in (3, 4, 1, 3, 12, 16):
        graphs.forward(*decodes(count), PAGES)
    assert recorder.sizes == [4, 1, 16]


def test_a_graph_is_recorded_for_the_longest_context() -> None:
    model = Model()
    graphs = DecodeGraphs(model, max_num_seqs=4, max_blocks=5, device=CPU, record=Repeater())
    graphs.forward(*decodes(3, width=2), PAGES)
    (batch,) = model.batches[:1]
    assert batch.block_tables.shape == (4, 5)
    assert batch.max_context_len == 80
    assert batch.query_starts.tolist() == [0, 1, 2, 3, 4]


def test_prefills_and_large_batches_are_left_to_the_caller() -> None:
    recorder = Repeater()
    graphs = make_graphs(recorder, max_batch_size=8)
    token_ids, positions, batch = decodes(3)
    mixed = AttentionBatch(
        num_decodes=2,
        query_starts=batch.query_starts,
        context_lens=batch.context_lens,
        block_tables=batch.block_tables,
        slots=batch.slots,
        max_query_len=1,
        max_context_len=33,
        prefills=(Prefill(2, 2, 1, 33),),
    )
    assert graphs.forward(token_ids, positions, mixed, PAGES) is None
    assert graphs.forward(*decodes(9), PAGES) is None
    assert not recorder.sizes


def test_when_there_are_enough_graphs_a_larger_one_serves_or_none() -> None:
    recorder = Repeater()
    graphs = make_graphs(recorder, max_graphs=2)
    graphs.forward(*decodes(8), PAGES)
    graphs.forward(*decodes(16), PAGES)
    hidden = graphs.forward(*decodes(2), PAGES)
    assert hidden is not None
    torch.testing.assert_close(hidden, rows_of(2))
    assert len(recorder.rows) == 8
    assert graphs.forward(*decodes(17), PAGES) is None
    assert recorder.sizes == [8, 16]


def test_other_pages_than_those_recorded_are_refused() -> None:
    graphs = make_graphs(Repeater())
    graphs.forward(*decodes(1), PAGES)
    others = (LayerKV(torch.zeros(9, 1, 16, 4), torch.zeros(9, 1, 16, 4)),)
    with pytest.raises(ValueError, match="these are others"):
        graphs.forward(*decodes(1), others)


def test_what_can_not_be_recorded_is_tried_once_and_left_to_the_caller(caplog: pytest.LogCaptureFixture) -> None:
    attempts: list[int] = []

    def refuse(compute: Callable[[], Tensor]) -> Recording:
        attempts.append(len(compute()))
        raise RuntimeError("operation not permitted when stream is capturing")

    graphs = make_graphs(refuse)
    assert graphs.forward(*decodes(3), PAGES) is None
    assert graphs.forward(*decodes(9), PAGES) is None
    assert attempts == [4]
    assert "not permitted when stream is capturing" in caplog.text
