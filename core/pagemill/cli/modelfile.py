"""Modelfiles: what a model is to be made of, as Ollama writes it down. Reads text only, touches no file it names.

Owns no state. Format: https://docs.ollama.com/modelfile
"""

import codecs
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from pagemill.cli.failure import CommandError
from pagemill.errors import InvalidRequestError
from pagemill.ollama_options import parameter_of_text

QUOTES = ('"""', '"')
NAMING = ("PARAMETER", "MESSAGE")
ROLES = ("system", "user", "assistant")
NOT_SUPPORTED = {
    "ADAPTER": "adapters can't be applied",
    "RENDERER": "prompts are made by the model's own chat template",
    "PARSER": "how a model writes tool calls and reasoning is read from its chat template",
    "REQUIRES": "it asks for a version of Ollama",
}
# Parameters that Ollama gave up: it passes them over with a warning.
GIVEN_UP = frozenset(
    {"penalize_newline", "low_vram", "f16_kv", "logits_all", "vocab_only", "use_mlock"}
    | {"mirostat", "mirostat_tau", "mirostat_eta"}
)


@dataclass(slots=True)
class Modelfile:
    """`source` is a model's name or a file, as it was written."""

    source: str = ""
    template: str = ""
    system: str = ""
    parameters: dict[str, object] = field(default_factory=dict)
    messages: list[Mapping[str, str]] = field(default_factory=list)
    licenses: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def request(self) -> dict[str, object]:
        """What `/api/create` is asked, but for what the model is made of."""
        fields: dict[str, object] = {
            "template": self.template,
            "system": self.system,
            "parameters": self.parameters,
            "messages": self.messages,
            "license": self.licenses,
        }
        return {name: value for name, value in fields.items() if value}


class Instruction(NamedTuple):
    """`word` is what a PARAMETER or MESSAGE names first. The value is without quotes around it."""

    line: int
    name: str  # in capitals
    word: str
    value: str

    def wrong(self, why: str) -> CommandError:
        return CommandError(f"line {self.line}: {self.name}: {why}")


def parse_modelfile(content: bytes) -> Modelfile:
    """
    Raises:
        CommandError: it is none; names the line and the instruction.
    """
    made = Modelfile()
    for instruction in _instructions(_lines(content)):
        _add(made, instruction)
    if not made.source:
        raise CommandError("it has no FROM, which says what the model is made of")
    return made


def _add(made: Modelfile, instruction: Instruction) -> None:
    name, value = instruction.name, instruction.value
    match name:
        case "FROM" if made.source:
            raise instruction.wrong(f"there is one before, {made.source}; a model is made of one")
        case "FROM":
            made.source = value
        case "SYSTEM":
            made.system = value
        case "TEMPLATE":
            made.template = value
        case "LICENSE":
            made.licenses.append(value)
        case "PARAMETER":
            _add_parameter(made, instruction)
        case "MESSAGE":
            if instruction.word not in ROLES:
                raise instruction.wrong(f"a message is of {', '.join(ROLES)}, not of {instruction.word}")
            made.messages.append({"role": instruction.word, "content": value})
        case _ if name in NOT_SUPPORTED:
            raise instruction.wrong(f"not supported: {NOT_SUPPORTED[name]}")
        case _:
            raise instruction.wrong(
                "no such instruction; there are FROM, PARAMETER, SYSTEM, MESSAGE, LICENSE, TEMPLATE"
            )


def _add_parameter(made: Modelfile, instruction: Instruction) -> None:
    name = instruction.word
    if name in GIVEN_UP:
        made.warnings.append(f"line {instruction.line}: parameter {name} has no effect")
        return
    try:
        value = parameter_of_text(name, instruction.value)
    except InvalidRequestError as error:
        raise instruction.wrong(error.message) from error
    before = made.parameters.get(name)
    made.parameters[name] = [*before, *value] if isinstance(before, list) and isinstance(value, list) else value


def _instructions(lines: Sequence[str]) -> Iterator[Instruction]:
    """A value that begins with quotes goes on, over lines, until a line ends with them."""
    numbered = iter(enumerate(lines, 1))
    for number, line in numbered:
        name, value = _split(line)
        if not name or name.startswith("#"):
            continue
        name, word = name.upper(), ""
        if name in NAMING:
            word, value = _split(value)
        instruction = Instruction(number, name, word, value)
        if not value:
            raise instruction.wrong(f"{word or 'it'} has no value")
        while not _is_closed(value):
            _, further = next(numbered, (0, None))
            if further is None:
                raise instruction.wrong("its quotes are never closed")
            value = f"{value}\n{further}"
        yield instruction._replace(value=_unquoted(value.strip()))


def _split(text: str) -> tuple[str, str]:
    """The first word, and the rest."""
    word, *rest = text.split(maxsplit=1) or ("",)
    return word, rest[0] if rest else ""


def _is_closed(value: str) -> bool:
    value = value.rstrip()
    quotes = _quotes_of(value)
    return not quotes or (len(value) >= 2 * len(quotes) and value.endswith(quotes))


def _unquoted(value: str) -> str:
    quotes = _quotes_of(value)
    return value[len(quotes) : -len(quotes)] if quotes else value


def _quotes_of(value: str) -> str:
    return next((quotes for quotes in QUOTES if value.startswith(quotes)), "")


def _lines(content: bytes) -> Sequence[str]:
    """UTF-8, or UTF-16 if its first bytes say so."""
    is_utf_16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf_16 else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise CommandError(f"it is no text: {error}") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
