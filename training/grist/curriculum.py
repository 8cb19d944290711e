"""The stages of a training run: from which step each begins and how it mixes the tasks.

The easy families are learnt within a million tokens; later stages give their share to the ones that need a model to
find a word by the word before it. Constants only.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from grist.conversations import OWN_WEIGHTS


@dataclass(frozen=True, slots=True)
class Stage:
    """A mixture in force from `start_step` on; `weights` override the tasks' own. `name` seeds its data."""

    name: str
    start_step: int
    weights: Mapping[str, float]


STAGES = (
    Stage("plain", 0, OWN_WEIGHTS),
    Stage("second plain", 900, {
        "add": 2.5, "subtract": 3.5, "copy": 5.0, "reverse": 5.0, "sort": 4.0, "count": 0.8, "capital": 1.2,
        "calendar": 1.2, "identity": 0.6, "smalltalk": 0.5, "unknown": 0.6, "memory": 1.5, "extraction": 3.0,
    }),
    Stage("third plain", 1100, {
        "add": 2.5, "subtract": 3.5, "copy": 3.0, "reverse": 4.0, "sort": 4.0, "count": 0.8, "capital": 1.2,
        "calendar": 1.2, "identity": 0.6, "smalltalk": 0.5, "unknown": 0.6, "memory": 1.5, "extraction": 3.0,
        "drill": 7.0,
    }),
    Stage("fourth plain", 1700, {
        "add": 3.5, "subtract": 5.0, "copy": 4.0, "reverse": 5.0, "sort": 4.0, "count": 0.8, "capital": 1.0,
        "calendar": 1.0, "identity": 0.6, "smalltalk": 0.5, "unknown": 0.6, "memory": 1.5, "extraction": 4.5,
    }),
)


def stage_at(step: int) -> Stage:
    """The stage in force at `step`."""
    return max((stage for stage in STAGES if stage.start_step <= step), key=lambda stage: stage.start_step)
