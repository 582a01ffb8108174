"""Reads the status of a run: whether it has ended at some steps, on which device, and whether it exploded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

ENDED = ("finished", "diverged")
UNENDED = ("not started", "interrupted", "to be continued", "running")
"""Standings of runs that are still to be trained."""


def standing_at(status: Mapping[str, Any], steps: int) -> str:
    """Return a run's status with respect to `steps`: a run with that many steps has ended, even if it was continued.

    One of "not started", "interrupted", "failed", "to be continued" (it finished with fewer steps), "damaged",
    "finished", "diverged".
    """
    name = status["status"]
    if name in ("new", "planned"):
        return "not started"
    if name == "diverged":
        return "finished" if status["steps"] > steps else "diverged"
    if name != "damaged" and status["steps"] >= steps:
        return "finished"
    return {"finished": "to be continued", "failed": "failed", "damaged": "damaged"}.get(name, "interrupted")


def has_raised(status: Mapping[str, Any]) -> bool:
    """Return whether a run failed because its own environment raised. It is retrained only on request."""
    return status["status"] == "failed" and status.get("raised_at") is not None


_GPU = re.compile(r"NVIDIA|Tesla|GeForce|Quadro|TITAN|Radeon|Instinct")


def kind_of(stage: Mapping[str, Any]) -> str | None:
    """Return the kind of device of recorded conditions, "cpu" or "cuda"; earlier versions recorded only its name."""
    if not isinstance(name := stage.get("device"), str):
        return None
    return stage.get("device_kind") or ("cuda" if _GPU.search(name) else "cpu")


def device_kinds(status: Mapping[str, Any]) -> set[str]:
    """Return the kinds of devices that a run was trained on, by its status; none before it has started."""
    return {kind for stage in status.get("conditions") or [status] if (kind := kind_of(stage))}


def exploded_at(status: Mapping[str, Any], steps: int) -> int | None:
    """Return the step at which a run was first seen to have exploded within `steps` (training/explosion.py)."""
    first = status.get("exploded")
    return first if isinstance(first, int) and first <= steps else None
