"""KV in blocks of a fixed number of tokens, shared by reference count and found again by content: the block manager of
PagedAttention (Kwon et al. 2023, arXiv:2309.06180) with automatic prefix caching.

A full block's content is known by its key: the content id of the block before it, and its own tokens. Content ids are
never given twice, so a key names one prefix exactly; no hash has to be trusted. A block is, at any time, one of
- free: no content, nobody's;
- cached: nobody's, its content can be found (in part filled if a sequence ended in it, to be copied); the least
  recently used is taken when no free one is left;
- used: its reference count, the number of sequences that hold it, is positive.

A block that a sequence shares in part is copied before it writes there (copy on write): n continuations of one prompt
share all its full blocks, and each copies the beginning of the last one.

A running sequence promises the blocks of its prompt before they are computed, so that a later one with the same prefix
can wait for them (`PrefixMatch.num_pending`). Owned by one scheduler.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence as ReadOnlySequence
from itertools import takewhile

from pagemill.engine.beginnings import Beginnings
from pagemill.engine.block_contents import ROOT_CONTENT, BlockKey, Content, Holding
from pagemill.engine.common_prefix import common_prefix_length
from pagemill.engine.kv_cache import Admission, KVCacheStats, PrefixMatch
from pagemill.engine.step import CopyKV


class BlockKVCache:
    """Bookkeeping for `num_blocks` blocks of `block_size` tokens. See the module for the states of a block."""

    def __init__(self, num_blocks: int, block_size: int, *, enable_prefix_caching: bool = True) -> None:
        self.num_blocks = num_blocks
        self.block_size = block_size
        self.max_sequence_tokens = num_blocks * block_size
        self._enable_prefix_caching = enable_prefix_caching
        self._least_shared = max(1, block_size // 4)  # tokens of a block; fewer are not worth a copy
        self._free: deque[int] = deque(range(num_blocks))
        self._cached: OrderedDict[int, None] = OrderedDict()  # least recently used first
        self._num_references = [0] * num_blocks
        self._content_of: dict[int, Content] = {}  # by block
        self._contents: dict[BlockKey, Content] = {}
        self._holdings: dict[int, Holding] = {}
        self._open: dict[int, Holding] = {}  # by the block that the sequence is filling, if it has begun to
        self._beginnings = Beginnings()  # of blocks from which tokens can be copied
        self._next_content_id = ROOT_CONTENT + 1

    def match(self, token_ids: ReadOnlySequence[int]) -> PrefixMatch:
        contents = self._known_prefix(token_ids)
        reused = _computed(contents)
        _source, num_shared = self._shared_block(reused, token_ids)
        num_cached = len(reused) * self.block_size + num_shared
        return PrefixMatch(num_cached, max(num_cached, len(contents) * self.block_size))

    def admit(
        self, sequence_id: int, token_ids: ReadOnlySequence[int], num_new_tokens: int, *, reuse: bool = True
    ) -> Admission | None:
        reused = _computed(self._known_prefix(token_ids)) if reuse else []
        source, num_shared = self._shared_block(reused, token_ids) if reuse else (0, 0)
        num_cached = len(reused) * self.block_size + num_shared
        num_new_blocks = self._blocks_for(min(num_cached + num_new_tokens, len(token_ids))) - len(reused)
        num_taken_from_cache = sum(1 for content in reused if content.block in self._cached)
        if num_new_blocks > len(self._free) + len(self._cached) - num_taken_from_cache:
            return None
        holding = Holding(token_ids, num_computed=num_cached)
        for content in reused:
            self._reference(content.block)
            holding.blocks.append(content.block)
        if reused:
            holding.num_registered = len(reused)
            holding.parent = reused[-1].content_id
        self._holdings[sequence_id] = holding
        self._grow(holding, num_new_blocks)
        self._promise(holding)
        # The source may just have been given away, even to this sequence: it is read before anything is written.
        copies = (CopyKV(source, holding.blocks[len(reused)], num_shared),) if num_shared else ()
        return Admission(num_cached, copies)

    def restore(self, sequence_id: int, token_ids: ReadOnlySequence[int]) -> bool:
        has_room = self._blocks_for(len(token_ids)) <= len(self._free)
        return has_room and self.admit(sequence_id, token_ids, len(token_ids), reuse=False) is not None

    def extend(self, sequence_id: int, num_tokens: int) -> bool:
        holding = self._holdings[sequence_id]
        missing = self._blocks_for(num_tokens) - len(holding.blocks)
        if missing <= 0:
            return True
        if missing > len(self._free) + len(self._cached):
            return False
        self._grow(holding, missing)
        self._promise(holding)
        return True

    def commit(self, sequence_id: int, num_computed: int) -> None:
        holding = self._holdings[sequence_id]
        size = self.block_size
        holding.num_computed = num_computed
        if not self._enable_prefix_caching:
            return
        while (holding.num_registered + 1) * size <= num_computed:
            start = holding.num_registered * size
            tokens = tuple(holding.token_ids[start : start + size])
            self._register(holding, (holding.parent, tokens), holding.blocks[holding.num_registered])
        start = holding.num_registered * size
        if start < num_computed and (block := holding.blocks[holding.num_registered]) not in self._open:
            self._open[block] = holding
            self._begin(holding.parent, holding.token_ids[start], block)

    def release(self, sequence_id: int, *, forget: bool = False) -> None:
        holding = self._holdings.pop(sequence_id)
        for content in holding.promised:
            if not content.computed:
                self._forget(content)
        # The last block first: a prefix is of use without what follows it, but not the other way round.
        for block in reversed(holding.blocks):
            self._num_references[block] -= 1
            if self._num_references[block] == 0:
                if not forget:
                    self._keep_open(holding, block)
                elif block in self._content_of:
                    self._forget(self._content_of[block])
                if block in self._content_of:
                    self._cached[block] = None
                else:
                    self._close(block)
                    self._free.append(block)

    def placement(self, sequence_id: int) -> tuple[int, ...]:
        holding = self._holdings[sequence_id]
        holding.placement = holding.placement or tuple(holding.blocks)
        return holding.placement

    def stats(self) -> KVCacheStats:
        free, cached = len(self._free), len(self._cached)
        return KVCacheStats(
            total_tokens=self.num_blocks * self.block_size,
            free_tokens=free * self.block_size,
            cached_tokens=cached * self.block_size,
            used_tokens=(self.num_blocks - free - cached) * self.block_size,
            unfilled_tokens=sum(
                len(holding.blocks) * self.block_size - holding.num_computed for holding in self._holdings.values()
            ),
        )

    def check_integrity(self) -> None:
        counts = [0] * self.num_blocks
        for holding in self._holdings.values():
            for block in holding.blocks:
                counts[block] += 1
        assert counts == self._num_references, "reference counts differ from the sequences' tables"
        free, cached = set(self._free), set(self._cached)
        assert len(free) == len(self._free), "a block is free twice"
        used = {block for block, count in enumerate(counts) if count}
        assert free.isdisjoint(cached), "a block is free and cached"
        assert used.isdisjoint(free | cached), "a used block is free or cached"
        assert len(free) + len(cached) + len(used) == self.num_blocks, "a block is lost"
        for key, content in self._contents.items():
            assert content.key == key, "a content is filed under another's key"
            assert self._content_of.get(content.block) is content, "a content's block does not know it"
        assert len(self._contents) == len(self._content_of), "a block keeps a content that can't be found"
        for block in cached:
            assert self._content_of[block].computed, "a cached block was never computed"
        assert not any(block in self._content_of for block in free), "a free block has content"
        for block, holding in self._open.items():
            assert holding.blocks[holding.num_registered] == block, "an open block is not the one that is being filled"
            assert self._num_references[block] == 1, "an open block is shared"
        for block in self._beginnings.blocks():
            findable = block in self._content_of and self._content_of[block].computed
            assert findable or block in self._open, "a block that holds nothing can be copied from"

    def _blocks_for(self, num_tokens: int) -> int:
        return -(-num_tokens // self.block_size)

    def _known_prefix(self, token_ids: ReadOnlySequence[int]) -> list[Content]:
        """The contents, computed or promised, of the longest known prefix that leaves a token to compute."""
        contents: list[Content] = []
        if not self._enable_prefix_caching:
            return contents
        parent, size = ROOT_CONTENT, self.block_size
        for start in range(0, (len(token_ids) - 1) // size * size, size):
            content = self._contents.get((parent, tuple(token_ids[start : start + size])))
            if content is None:
                break
            contents.append(content)
            parent = content.content_id
        return contents

    def _shared_block(self, reused: list[Content], token_ids: ReadOnlySequence[int]) -> tuple[int, int]:
        """A block behind the reused ones that begins with the sequence's next tokens, and how many of them it holds:
        0 if they are too few to be worth a copy. One token is left to compute.
        """
        parent = reused[-1].content_id if reused else ROOT_CONTENT
        start = len(reused) * self.block_size
        if (block := self._beginnings.find(parent, token_ids[start])) is None:
            return 0, 0
        held = self._computed_tokens(block)
        wanted = token_ids[start : min(start + self.block_size, len(token_ids) - 1)]
        count = common_prefix_length(held, wanted, min(len(held), len(wanted)))
        return (block, count) if count >= self._least_shared else (0, 0)

    def _computed_tokens(self, block: int) -> ReadOnlySequence[int]:
        holding = self._open.get(block)
        if holding is None:
            return self._content_of[block].key[1]
        return holding.token_ids[holding.num_registered * self.block_size : holding.num_computed]

    def _begin(self, parent: int, token_id: int, block: int) -> None:
        """The block begins so; what was found by that beginning and is filled in part can't be found any more."""
        before = self._beginnings.put(parent, token_id, block)
        if before is not None and before in self._cached and len(self._content_of[before].key[1]) < self.block_size:
            del self._cached[before]
            self._forget(self._content_of[before])
            self._free.append(before)

    def _keep_open(self, holding: Holding, block: int) -> None:
        """The sequence that filled the block ends: what it did fill stays to be copied, if that is worth it."""
        if block not in self._open:
            return
        tokens = tuple(self._computed_tokens(block))
        if len(tokens) >= self._least_shared and self._beginnings.find(holding.parent, tokens[0]) == block:
            del self._open[block]
            self._file((holding.parent, tokens), block, computed=True)

    def _close(self, block: int) -> None:
        """Nobody fills the block any more, and nothing can be copied from it."""
        self._open.pop(block, None)
        self._beginnings.drop(block)

    def _reference(self, block: int) -> None:
        if self._num_references[block] == 0:
            del self._cached[block]
        self._num_references[block] += 1

    def _grow(self, holding: Holding, num_blocks: int) -> None:
        for _ in range(num_blocks):
            if self._free:
                block = self._free.popleft()
            else:
                block = self._cached.popitem(last=False)[0]
                self._forget(self._content_of[block])
            self._num_references[block] = 1
            holding.blocks.append(block)
        holding.placement = None

    def _promise(self, holding: Holding) -> None:
        """Announce the full blocks that the sequence's present tokens will fill, as far as it has room for them."""
        if not self._enable_prefix_caching:
            return
        size = self.block_size
        first = holding.num_registered + len(holding.promised)
        parent = holding.promised[-1].content_id if holding.promised else holding.parent
        for index in range(first, min(len(holding.token_ids) // size, len(holding.blocks))):
            key = (parent, tuple(holding.token_ids[index * size : (index + 1) * size]))
            if key in self._contents:  # another sequence computes the same; this one will find it out at commit
                return
            content = self._file(key, holding.blocks[index], computed=False)
            holding.promised.append(content)
            parent = content.content_id

    def _register(self, holding: Holding, key: BlockKey, block: int) -> None:
        """The sequence's next full block is computed: make it findable, unless an equal one is already."""
        promise = holding.promised.pop(0) if holding.promised else None
        if promise is not None and promise.key != key and not promise.computed:
            self._forget(promise)  # made on a prefix that was evicted since: nobody could find it
        content = self._contents.get(key)
        if content is None:
            content = self._file(key, block, computed=True)
        elif not content.computed and content.block != block:
            self._take_over(content, block)
        content.computed = True
        self._close(block)
        self._begin(holding.parent, key[1][0], content.block)
        holding.num_registered += 1
        holding.parent = content.content_id

    def _take_over(self, content: Content, block: int) -> None:
        """Another sequence promised what this one has computed first."""
        del self._content_of[content.block]
        content.block = block
        self._content_of[block] = content

    def _file(self, key: BlockKey, block: int, *, computed: bool) -> Content:
        content = Content(self._next_content_id, key, block, computed)
        self._next_content_id += 1
        self._contents[key] = content
        self._content_of[block] = content
        return content

    def _forget(self, content: Content) -> None:
        del self._contents[content.key]
        del self._content_of[content.block]
        if content.computed:
            self._close(content.block)


def _computed(contents: list[Content]) -> list[Content]:
    """The first of them, as far as they are computed."""
    return list(takewhile(lambda content: content.computed, contents))
