"""Names of split GGUF files: `model-00001-of-00003.gguf`, as llama.cpp writes and finds them. Owns no state."""

import re

SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf", re.DOTALL)


def all_names(name: str) -> list[str]:
    """The names, or keys, of all files of the model that this one belongs to; the first one first."""
    split = SPLIT.fullmatch(name)
    if split is None:
        return [name]
    return [f"{split['stem']}-{number:05}-of-{split['count']}.gguf" for number in range(1, int(split["count"]) + 1)]
