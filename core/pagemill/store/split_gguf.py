"""Names of split GGUF files: `model-00001-of-00003.gguf`, as llama.cpp writes and finds them. Owns no state."""

import re

SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def all_names(name: str) -> list[str]:
    """The names, or keys, of all files of the model that this one belongs to; the first one first."""
    split = SPLIT.fullmatch(name)
    if split is None:
        return [name]
    return [f"{split['stem']}-{number:05}-of-{split['count']}.gguf" for number in range(1, int(split["count"]) + 1)]


def stem_of(name: str) -> str | None:
    """What the model is called that this file begins: the name without `.gguf`, and without its number if the model is
    split. None for the later parts of one.
    """
    split = SPLIT.fullmatch(name)
    if split is None:
        return name.removesuffix(".gguf")
    return split["stem"] if int(split["number"]) == 1 else None
