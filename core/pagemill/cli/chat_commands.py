"""The `/` commands of the interactive chat. Owns nothing: a command acts on the `Chat` that it was given."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pagemill.cli.chat_variables import SET_HELP, set_variable
from pagemill.cli.failure import CommandError
from pagemill.cli.model_card import parameters, write_model_card
from pagemill.cli.tables import write_line

if TYPE_CHECKING:
    from pagemill.cli.chat import Chat

HELP = """Available commands:
  /set            Set session variables
  /show           Show model information
  /load MODEL     Go on with another model
  /save MODEL     Make a model of this session
  /clear          Forget the conversation
  /bye            Exit
  /?, /help       Help for a command, as in /? set
  /? shortcuts    Help for keys

Use \"\"\" to begin and end a message of several lines. Ctrl-C stops an answer, Ctrl-D exits."""

SHOW_HELP = """Available commands:
  /show info         What the model is
  /show license      Its licence
  /show modelfile    A Modelfile that makes it
  /show parameters   Parameters of the model and of this session
  /show system       The system message
  /show template     The chat template"""

SHORTCUTS = """Available keys:
  Ctrl-A, Ctrl-E     To the beginning, the end of the line
  Alt-B, Alt-F       Back, forward by a word
  Ctrl-K, Ctrl-U     Delete what is behind, before the cursor
  Ctrl-W             Delete the word before the cursor
  Ctrl-L             Clear the screen
  Ctrl-R             Look for a line of the history; arrows go through it
  Ctrl-C             Stop the answer
  Ctrl-D             Exit (/bye)"""

TOPICS = {"set": SET_HELP, "show": SHOW_HELP, "shortcuts": SHORTCUTS}
# What /show prints as it is of a model, and what it says where there is none.
TEXTS = {
    "license": "The model has no licence.",
    "modelfile": "There is no Modelfile.",
    "template": "The model has no chat template.",
}


class ChatCommands:
    """Executes the commands of one chat. `leaving` is set by /bye."""

    def __init__(self, chat: "Chat") -> None:
        self.leaving = False
        self._chat = chat

    async def execute(self, text: str) -> None:
        """One command with its arguments.

        Raises:
            CommandError: there is no such command, or it is used wrongly.
        """
        name, _, rest = text.removeprefix("/").partition(" ")
        rest = rest.strip()
        match name:
            case "bye" | "exit":
                self.leaving = True
            case "?" | "help":
                write_line(TOPICS.get(rest.removeprefix("/"), HELP))
            case "clear":
                self._chat.conversation.messages.clear()
                write_line("Cleared the conversation.")
            case "load":
                await self._chat.load(_model("load", rest))
                write_line(f"Loaded {rest}.")
            case "save":
                await self._chat.save(_model("save", rest))
                write_line(f"Created the model {rest}.")
            case "set":
                await set_variable(self._chat, rest)
            case "show":
                await self._show(rest)
            case _:
                raise CommandError(f"unknown command /{name}; /? lists them")

    async def _show(self, what: str) -> None:
        conversation = self._chat.conversation
        if what not in ("info", "parameters", "system", *TEXTS):
            write_line(SHOW_HELP)
            return
        shown = await self._chat.show()
        if what == "info":
            write_model_card(shown)
        elif what == "parameters":
            _write_parameters(shown, conversation.options)
        elif what == "system":
            write_line(conversation.system or shown.get("system") or "No system message was set.")
        else:
            write_line(shown.get(what) or TEXTS[what])


def _model(command: str, rest: str) -> str:
    if not rest:
        raise CommandError(f"usage: /{command} MODEL")
    return rest


def _write_parameters(shown: Mapping[str, Any], options: Mapping[str, Any]) -> None:
    for title, pairs in (("Model", parameters(shown)), ("Session", list(options.items()))):
        write_line(f"{title} parameters:")
        for name, value in pairs:
            write_line(f"  {name:<18} {value}")
        if not pairs:
            write_line("  none")
