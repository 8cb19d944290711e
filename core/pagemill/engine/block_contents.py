"""What blocks hold, and what of them a sequence does: the records of `BlockKVCache`, which owns them all."""

from collections.abc import Sequence as ReadOnlySequence
from dataclasses import dataclass, field

BlockKey = tuple[int, tuple[int, ...]]  # (content id of the block before, this block's tokens)

ROOT_CONTENT = 0  # stands before the first block


@dataclass(slots=True)
class Content:
    """What a block holds, or will hold once its owner has computed it."""

    content_id: int
    key: BlockKey
    block: int
    computed: bool


@dataclass(slots=True)
class Holding:
    """What one sequence holds. `contents` are those of its first full blocks, as far as they are known."""

    token_ids: ReadOnlySequence[int]
    blocks: list[int] = field(default_factory=list)
    placement: tuple[int, ...] | None = None  # `blocks` as a tuple, made when asked for
    num_computed: int = 0
    num_registered: int = 0  # full blocks whose content is computed and has been offered for reuse
    parent: int = ROOT_CONTENT  # content id of the last of them
    promised: list[Content] = field(default_factory=list)  # not computed yet
