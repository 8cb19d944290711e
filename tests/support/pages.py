"""The pages of infra/ as data: their sections, and the commands in their console blocks.

Owns no state. A command starts behind `$ `; a line that ends in a backslash goes on in the next.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

CONSOLE = re.compile(r"^```console\n(.*?)^```", re.MULTILINE | re.DOTALL)
HEADING = re.compile(r"^## (.+)$", re.MULTILINE)


def sections(page: Path) -> list[str]:
    """The titles of its second-level headings."""
    return HEADING.findall(page.read_text())


def section(page: Path, title: str) -> str:
    """The text below a heading, to the next of its level."""
    text = page.read_text()
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(page: Path) -> Iterator[list[str]]:
    """Every command, split as a shell does; each part of a pipe is one, with redirections left in it."""
    for block in CONSOLE.findall(page.read_text()):
        for line in block.replace("\\\n", " ").splitlines():
            assert line.startswith("$ "), f"{page}: a line in a console block that is no command: {line!r}"
            words = shlex.split(line[2:])
            while "|" in words:
                cut = words.index("|")
                yield words[:cut]
                words = words[cut + 1 :]
            yield words


@dataclass(frozen=True, slots=True)
class AwsCommand:
    """`aws SERVICE OPERATION --flag value ...`"""

    service: str
    operation: str
    arguments: tuple[str, ...]  # without a flag before them
    flags: dict[str, tuple[str, ...]]  # by name, without dashes

    @classmethod
    def of(cls, words: list[str]) -> "AwsCommand":
        _, service, name, *rest = words
        arguments: list[str] = []
        flags: dict[str, tuple[str, ...]] = {}
        current: str | None = None
        for word in rest:
            if word.startswith("--"):
                current = word[2:]
                flags[current] = ()
            elif current is None:
                arguments.append(word)
            else:
                flags[current] += (word,)
        return cls(service, name, tuple(arguments), flags)
