"""A conversation with one model: what was said, what is asked for beside it, and the request that follows from that.

A `Conversation` owns its messages. It knows nothing of terminals.
"""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pagemill.cli.server_client import ServerClient


@dataclass(slots=True)
class Conversation:
    """What `/api/chat` is asked. `messages` alternate between user and assistant; the system message goes before."""

    model: str
    keep_alive: str | None = None
    system: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    format: str | dict[str, Any] | None = None
    think: bool | str | None = None  # None: as the model has it
    messages: list[dict[str, str]] = field(default_factory=list)

    async def say(self, server: "ServerClient", text: str) -> AsyncGenerator[dict[str, Any], None]:
        """The lines of the answer, as they come; the last has the timings.

        What was said until the generator was closed is remembered. If nothing was, the question is forgotten too.
        """
        self.messages.append({"role": "user", "content": text})
        answer = ""
        try:
            async with aclosing(server.stream("/api/chat", self.request())) as lines:
                async for line in lines:
                    answer += line["message"].get("content") or ""
                    yield line
        finally:
            if answer:
                self.messages.append({"role": "assistant", "content": answer})
            else:
                self.messages.pop()

    def request(self) -> dict[str, Any]:
        """The body for `/api/chat`."""
        messages = [{"role": "system", "content": self.system}] if self.system else []
        body: dict[str, Any] = {"model": self.model, "messages": messages + self.messages, "options": self.options}
        for name in ("keep_alive", "format", "think"):
            if getattr(self, name) is not None:
                body[name] = getattr(self, name)
        return body

    def as_model(self, name: str, messages_before: Sequence[Mapping[str, str]]) -> dict[str, Any]:
        """The body for `/api/create` of a model that goes on from here: `messages_before` are those of the model."""
        further = {
            "system": self.system,
            "parameters": self.options,
            "messages": [*messages_before, *self.messages],
        }
        return {"model": name, "from": self.model, **{field: value for field, value in further.items() if value}}
