"""What every response and chunk of one request begins with: its id, time, model and fingerprint.

Owns no state. Made once per request, so `created` and the id are the same in all of its chunks.
"""

import hashlib
from typing import Any, NamedTuple

from pagemill import __version__
from pagemill.pool import LoadedModel


class Envelope(NamedTuple):
    """`created` is in seconds of Unix time; `model` is the name that the client used."""

    id: str
    created: int
    model: str
    system_fingerprint: str

    def wrap(self, kind: str, choices: list[dict[str, Any]], **rest: Any) -> dict[str, Any]:
        """A whole response or chunk. `kind` is its `object` field."""
        return {
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": self.system_fingerprint,
            "choices": choices,
            **rest,
        }


def system_fingerprint(model: LoadedModel) -> str:
    """Changes when the software or the model does: equal seeds give equal outputs only while it stays the same."""
    info = model.info
    parts = (__version__, model.name, info.architecture, info.quantization, info.size_bytes, info.vocab_size)
    return "fp_" + hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
