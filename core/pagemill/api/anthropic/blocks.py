"""Content blocks, as a request may have them: in messages, the system prompt, and the results of tools. Owns no state.

`cache_control` asks for what happens anyway: what prompts have in common is computed once.
"""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, NamedTuple

from pagemill.api.wire import WireModel, only, read_part, shown
from pagemill.errors import InvalidRequestError, UnsupportedParameterError
from pagemill.validated import field


class CacheControl(WireModel):
    """`cache_control`."""

    type: Literal["ephemeral"]
    ttl: Literal["5m", "1h"] | None = None


class TextBlock(WireModel):
    """Text."""

    type: Literal["text"]
    text: str
    citations: Annotated[Any, only(None, [])] = None
    cache_control: CacheControl | None = None


class ToolUseBlock(WireModel):
    """A call that the model made."""

    type: Literal["tool_use"]
    id: str = field(min_length=1)
    name: str = field(min_length=1)
    input: dict[str, Any]
    caller: Annotated[Any, only(None, {"type": "direct"})] = None
    cache_control: CacheControl | None = None


class ToolResultBlock(WireModel):
    """What came of a call."""

    type: Literal["tool_result"]
    tool_use_id: str = field(min_length=1)
    content: str | list[dict[str, Any]] | None = None
    is_error: bool | None = None
    cache_control: CacheControl | None = None


class ThinkingBlock(WireModel):
    """What the model thought. The signature is ours, and says nothing."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None


Block = TextBlock | ToolUseBlock | ToolResultBlock | ThinkingBlock
Kinds = Mapping[str, type[Block]]

TEXT: Kinds = {"text": TextBlock}
OF_USER: Kinds = {**TEXT, "tool_result": ToolResultBlock}
OF_ASSISTANT: Kinds = {**TEXT, "tool_use": ToolUseBlock, "thinking": ThinkingBlock}


class Placed(NamedTuple):
    """A block, and where it is in the request."""

    block: Block
    path: str


def read_blocks(content: str | Sequence[Any], path: str, kinds: Kinds) -> list[Placed]:
    """The blocks of a content, of which a plain text is one.

    Raises:
        InvalidRequestError: one is wrong; names the place.
        UnsupportedParameterError: one is of no such kind.
    """
    if isinstance(content, str):
        return [Placed(TextBlock(type="text", text=content), path)]
    return [_read_block(item, f"{path}[{index}]", kinds) for index, item in enumerate(content)]


def _read_block(item: Mapping[str, Any], path: str, kinds: Kinds) -> Placed:
    kind = item.get("type")
    if not isinstance(kind, str):
        raise InvalidRequestError(f"{path}.type must be a string, got {shown(kind)}", param=f"{path}.type")
    if kind not in kinds:
        message = f"{path}.type {shown(kind)} is not supported: only {' and '.join(kinds)}"
        raise UnsupportedParameterError(message, param=f"{path}.type")
    return Placed(read_part(item, kinds[kind], path), path)


def joined_text(content: str | Sequence[Any], path: str) -> str:
    """A content that is all text."""
    placed = read_blocks(content, path, TEXT)
    return "\n".join(block.text for block, _path in placed if isinstance(block, TextBlock))
