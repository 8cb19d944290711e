"""The interactive chat of `pagemill run`: lines in, answers out, until /bye or Ctrl-D.

A `Chat` owns the conversation, the connection to what answers (in an exit stack, since /load may replace it) and the
line editor. Imports prompt_toolkit only when it starts.
"""

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TYPE_CHECKING, Any

from pagemill.cli.answering import Output, answer, printable
from pagemill.cli.conversation import Conversation
from pagemill.cli.loading import load
from pagemill.cli.tables import write_error, write_line
from pagemill.errors import PagemillError

if TYPE_CHECKING:
    from pagemill.cli.line_editor import LineEditor
    from pagemill.cli.server_client import ServerClient

PROMPT = ">>> "
QUOTES = '"""'
Connect = Callable[[str], "AbstractAsyncContextManager[ServerClient]"]


class Chat:
    """One interactive session."""

    def __init__(
        self,
        conversation: Conversation,
        server: "ServerClient",
        stack: AsyncExitStack,
        connect: Connect,
        output: Output,
    ) -> None:
        self.conversation = conversation
        self.server = server
        self.output = output
        self._stack = stack
        self._connect = connect
        self._editor: LineEditor | None = None

    @property
    def editor(self) -> "LineEditor":
        if self._editor is None:
            from pagemill.cli.line_editor import LineEditor

            self._editor = LineEditor()
        return self._editor

    async def run(self) -> None:
        """Until the user leaves. A failed request or command is printed, and the chat goes on."""
        from pagemill.cli.chat_commands import ChatCommands

        commands = ChatCommands(self)
        await self._show_messages()
        while not commands.leaving:
            text = await self._read_message()
            if text is None:
                return
            try:
                if text.startswith("/"):
                    await self._interruptible(commands.execute(text))
                elif text:
                    await self._interruptible(answer(self.server, self.conversation, text, self.output))
            except PagemillError as error:
                write_error(str(error))
            write_line()

    async def load(self, model: str) -> None:
        """Go on with another model. If it can't be had, everything stays as it is.

        Raises:
            PagemillError: it can't be loaded; says why.
        """
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(self._connect(model))
            await load(server, model, self.conversation.keep_alive)
            opened = stack.pop_all()
        await self._stack.aclose()
        self._stack.push_async_callback(opened.aclose)
        self.server = server
        self.conversation.model = model
        self.conversation.messages.clear()
        await self._show_messages()

    async def save(self, name: str) -> None:
        """Make a model of this session: what is loaded, with the system message, the parameters and what was said.

        Raises:
            PagemillError: it can't be made; says why.
        """
        messages_before = (await self.show()).get("messages") or ()
        await self.server.post("/api/create", {**self.conversation.as_model(name, messages_before), "stream": False})

    async def show(self) -> dict[str, Any]:
        """What the model is."""
        return await self.server.post("/api/show", {"model": self.conversation.model})

    async def _show_messages(self) -> None:
        """Those of the model, before which a conversation does not begin."""
        for message in (await self.show()).get("messages") or ():
            if message["role"] != "system":
                prompt = PROMPT if message["role"] == "user" else ""
                write_line(f"{prompt}{printable(message['content'])}" + ("" if prompt else "\n"))

    async def _read_message(self) -> str | None:
        """One line, or the lines between triple quotes. None: the user leaves. Empty: there is nothing to say."""
        try:
            line = (await self.editor.read(PROMPT)).strip()
            return await self._read_quoted(line, QUOTES) if QUOTES in line else line
        except KeyboardInterrupt:
            write_line("Use Ctrl-D or /bye to exit.")
            return ""
        except EOFError:
            return None

    async def _read_quoted(self, line: str, quotes: str) -> str:
        """A message that begins with triple quotes, after a command perhaps, goes on until they are closed."""
        before, _, rest = line.partition(quotes)
        if before and not before.startswith("/"):
            return line  # quotes in the middle of a sentence
        lines = [rest]
        while not lines[-1].rstrip().endswith(quotes):
            lines.append(await self.editor.read("... "))
        lines[-1] = lines[-1].rstrip().removesuffix(quotes)
        return before + "\n".join(lines)

    async def _interruptible(self, work: Coroutine[Any, Any, None]) -> None:
        """Run to the end, or until Ctrl-C."""
        loop, task = asyncio.get_running_loop(), asyncio.create_task(work)
        loop.add_signal_handler(signal.SIGINT, task.cancel)
        try:
            await asyncio.wait([task])
        finally:
            loop.remove_signal_handler(signal.SIGINT)
        if not task.cancelled():
            task.result()  # raises what it raised
