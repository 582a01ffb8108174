"""The protocol card of a result: how its numbers came about, and whether two cards are of the same experiment.

What a source does not say is "unknown": it is never guessed, and it never counts as a difference.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

UNKNOWN: Literal["unknown"] = "unknown"
Unknown = Literal["unknown"]
NOT_THE_SAME = "not the same experiment"
"""How the reason begins why results with different cards get no verdict."""


class ProtocolCard(BaseModel):
    """How the numbers of one variant came about."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    environment: str = UNKNOWN
    """Its id with its version, such as Hopper-v5."""
    simulator: str = UNKNOWN
    """The simulator and its version."""
    updates_per_transition: Annotated[float, Field(gt=0)] | Unknown = UNKNOWN
    metric: Literal["evaluation", "training return", "maximum", "unknown"] = UNKNOWN
    """What a return is: of evaluation episodes, of training episodes, or the maximum over a curve."""
    actions: Literal["deterministic", "sampled", "unknown"] = UNKNOWN
    """The actions of the episodes whose returns are reported."""
    episodes: Annotated[int, Field(ge=1)] | Unknown = UNKNOWN
    """Episodes per evaluation."""
    seeds: str = UNKNOWN
    """How many there are, and what they do not share."""
    unfinished: str = UNKNOWN
    """Runs that ended before the others."""
    source: str = UNKNOWN
    """Who published the numbers, and where."""

    @property
    def policy(self) -> Literal["mean", "sample", "unknown"]:
        """The name of its actions in tables."""
        names: dict[str, Literal["mean", "sample"]] = {"deterministic": "mean", "sampled": "sample"}
        return names.get(self.actions, UNKNOWN)

    def rows(self) -> dict[str, str]:
        """Return {field in words: its value}."""
        return {name.replace("_", " "): _shown(getattr(self, name)) for name in type(self).model_fields}


CHANGES_SCORES = ("environment", "metric", "actions", "updates_per_transition")
"""Fields that change the expected score. The number of episodes only changes its noise, unless it is a maximum."""
UNITS = {"updates_per_transition": "updates per transition", "episodes": "episodes per evaluation"}


def differences(a: ProtocolCard, b: ProtocolCard) -> list[str]:
    """Return what changes scores and is known to differ: ["updates per transition 1 and 0.25"]."""
    return [
        f"{UNITS.get(name, name)} {_shown(of_a)} and {_shown(of_b)}"
        for name in _changing(a, b)
        if UNKNOWN not in (of_a := getattr(a, name), of_b := getattr(b, name)) and of_a != of_b
    ]


def unknown(a: ProtocolCard, b: ProtocolCard) -> list[str]:
    """Return the names of the fields that change scores and that one or both of the cards do not state."""
    return [UNITS.get(name, name) for name in _changing(a, b) if UNKNOWN in (getattr(a, name), getattr(b, name))]


def why_not_the_same(a: ProtocolCard, b: ProtocolCard) -> str:
    """Return "not the same experiment: ..." if the cards differ in what changes scores, else ""."""
    return f"{NOT_THE_SAME}: {'; '.join(found)}" if (found := differences(a, b)) else ""


def _changing(a: ProtocolCard, b: ProtocolCard) -> tuple[str, ...]:
    is_maximum = a.metric == b.metric == "maximum"
    return (*CHANGES_SCORES, *(["episodes"] if is_maximum else []))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
