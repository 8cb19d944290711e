"""The arguments of an earlier tool call, as chat templates see them. Owns no state.

Most templates take them for an object (`arguments | tojson`), DeepSeek's for the text of one (`'...' + arguments`).
This is both: where a template joins it to text, it is its JSON.
"""

import json
from typing import Any


class ToolArguments(dict[str, Any]):
    """A JSON object that can be used as its own text."""

    def __str__(self) -> str:
        return json.dumps(self, ensure_ascii=False)

    def __add__(self, text: str) -> str:
        return str(self) + text

    def __radd__(self, text: str) -> str:
        return text + str(self)
