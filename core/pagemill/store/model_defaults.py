"""What a model that was pulled or created has beside its weights: Ollama's further layers. Owns no state.

The store reads and writes it; who makes prompts applies it. May not import an engine, a backend or HTTP.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from reprlib import repr as shown

from pagemill.errors import InvalidRequestError, ModelLoadError
from pagemill.ollama_options import OF_GENERATIONS, OF_LOADING, Options, typed_options

ROLES = ("system", "user", "assistant")
Messages = tuple[Mapping[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelDefaults:
    """It holds where a request says nothing else."""

    system: str = ""
    parameters: Mapping[str, object] = field(default_factory=dict)  # Ollama's options; unknown ones are among them
    messages: Messages = ()  # that stand before a conversation's own: role and content
    licenses: tuple[Path, ...] = ()  # the files
    has_go_template: bool = False  # for chats, in a language that is Ollama's alone: here the weights' own is used
    parent: str = ""  # the model that it was made from

    def count(self, name: str) -> int | None:
        """A parameter that is a number above 0. Others leave it open."""
        value = self.parameters.get(name)
        return value if isinstance(value, int) and value > 0 else None

    def license_texts(self) -> list[str]:
        """
        Raises:
            ModelLoadError: a licence can't be read; names its file.
        """
        try:
            return [path.read_text(encoding="utf-8", errors="replace") for path in self.licenses]
        except OSError as error:
            raise ModelLoadError(f"can't read the licence {error.filename}: {error.strerror}") from error

    def without_place(self) -> str:
        """What of it a model without a chat template has no place for; empty if there is nothing."""
        given = {
            "its template, which is written for Ollama": self.has_go_template,
            "its system prompt": self.system,
            "its messages": self.messages,
        }
        return " and ".join(name for name, value in given.items() if value)

    def without_effect(self) -> list[str]:
        """The names of parameters that change nothing here."""
        return [name for name in self.parameters if name not in OF_GENERATIONS | OF_LOADING]


def checked_parameters(value: object) -> dict[str, object]:
    """Parameters as JSON has them, those that are known with their types. One that is null is as if absent.

    Raises:
        InvalidRequestError: they are no object, or one has a wrong type or value; names it.
    """
    if not isinstance(value, Mapping):
        raise InvalidRequestError(f"parameters must be an object, got {shown(value)}", param="parameters")
    known = typed_options(value)
    Options.of(known)  # raises for what is out of range
    return {**{name: item for name, item in value.items() if item is not None}, **known}


def checked_messages(value: object) -> Messages:
    """
    Raises:
        InvalidRequestError: they are no list of texts that somebody says; names the place.
    """
    if not isinstance(value, list):
        raise InvalidRequestError(f"messages must be a list, got {shown(value)}", param="messages")
    return tuple(_message(item, f"messages[{index}]") for index, item in enumerate(value))


def _message(item: object, path: str) -> Mapping[str, str]:
    if not isinstance(item, Mapping):
        raise InvalidRequestError(f"{path} must be an object, got {shown(item)}", param=path)
    role, content = item.get("role"), item.get("content") or ""
    if role not in ROLES:
        raise InvalidRequestError(f"{path}.role must be one of {', '.join(ROLES)}, got {shown(role)}", param=path)
    if not isinstance(content, str):
        raise InvalidRequestError(f"{path}.content must be a text, got {shown(content)}", param=path)
    for name, other in item.items():
        if other and name not in ("role", "content"):
            message = f"{path}.{name} is not supported: a model's messages are texts, got {shown(other)}"
            raise InvalidRequestError(message, param=f"{path}.{name}")
    return {"role": role, "content": content}
