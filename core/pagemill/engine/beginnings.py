"""Finds a block by how it begins: by the content before it and its first token. Owned by one `BlockKVCache`."""


class Beginnings:
    """At most one block for each beginning, the newest; at most one beginning for each block."""

    def __init__(self) -> None:
        self._blocks: dict[tuple[int, int], int] = {}  # by (content id before the block, its first token)
        self._keys: dict[int, tuple[int, int]] = {}  # the same by block

    def find(self, parent: int, token_id: int) -> int | None:
        """The block that continues the content `parent` with this token."""
        return self._blocks.get((parent, token_id))

    def put(self, parent: int, token_id: int, block: int) -> int | None:
        """The block now begins so, and no longer in another way. Another block that did is not found any more: which,
        is returned.
        """
        self.drop(block)
        key = (parent, token_id)
        before = self._blocks.get(key)
        if before is not None:
            del self._keys[before]
        self._blocks[key] = block
        self._keys[block] = key
        return before

    def drop(self, block: int) -> None:
        """The block is not to be found any more, if it was."""
        key = self._keys.pop(block, None)
        if key is not None:
            del self._blocks[key]

    def blocks(self) -> list[int]:
        """All that can be found."""
        assert {block: key for key, block in self._blocks.items()} == self._keys, "a block is filed in two ways"
        return list(self._keys)
