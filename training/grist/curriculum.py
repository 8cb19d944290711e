"""The stages of a training run: from which step each begins and how it mixes the tasks.

The easy families are learnt within a million tokens; later stages give their share to the ones that need a model to
find a word by the word before it. Constants only.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stage:
    """A mixture in force from `start_step` on; `weights` override the tasks' own. `name` seeds its data."""

    name: str
    start_step: int
    weights: Mapping[str, float]


STAGES = (
    Stage(
        "plain",
        0,
        {
            "add": 2.2,
            "subtract": 2.4,
            "copy": 2.2,
            "reverse": 3.2,
            "sort": 3.2,
            "count": 1.0,
            "capital": 1.6,
            "calendar": 1.2,
            "identity": 1.0,
            "smalltalk": 0.6,
            "unknown": 0.7,
            "memory": 2.0,
            "extraction": 2.6,
            "drill": 2.5,
        },
    ),
    Stage(
        "second plain",
        1700,
        {
            "add": 2.4,
            "subtract": 2.8,
            "copy": 1.8,
            "reverse": 3.2,
            "sort": 3.4,
            "count": 1.0,
            "capital": 1.6,
            "calendar": 1.4,
            "identity": 1.2,
            "smalltalk": 0.8,
            "unknown": 0.8,
            "memory": 2.0,
            "extraction": 2.8,
        },
    ),
)


def stage_at(step: int) -> Stage:
    """The stage in force at `step`."""
    return max((stage for stage in STAGES if stage.start_step <= step), key=lambda stage: stage.start_step)
