"""The status of a run, and what follows from it: whether it has ended at some steps, its devices, its explosion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from typing_extensions import ReadOnly, TypedDict  # pydantic requires it before Python 3.12

from sac_bench.store.atomic import Fingerprint

ENDED = ("finished", "diverged")
UNENDED = ("not started", "interrupted", "to be continued", "running")
"""Standings of runs that are still to be trained."""

Word = Literal["new", "planned", "started", "failed", "finished", "diverged", "damaged"]
"""What `RunDirectory.status` says of a run: "new" was never planned, "damaged" is found when it is read."""


class Conditions(TypedDict, total=False):
    """What the bytes of a run depend on besides its spec and cohort."""

    since: ReadOnly[int]
    """The steps from which they hold."""
    device: ReadOnly[str]
    """The model of the CPU or GPU."""
    device_kind: ReadOnly[str]
    """"cpu" or "cuda"."""
    compiled: ReadOnly[bool]
    threads: ReadOnly[int]
    products: ReadOnly[str]
    """The precision of products, and the vector instructions of the CPU."""
    versions: ReadOnly[str]
    """"torch 2.13.0, numpy 2.4.6"."""
    commit: ReadOnly[str]


class _Details(TypedDict, total=False):
    cohort: ReadOnly[str]
    """The cohort that trains the run."""
    cohort_size: ReadOnly[int]
    target_steps: ReadOnly[int]
    conditions: ReadOnly[list[Conditions]]
    """The conditions of its training, and those that replaced them when it was resumed."""
    reason: ReadOnly[str | None]
    """Why it failed, diverged or is damaged."""
    raised_at: ReadOnly[int | None]
    """The step at which its own environment raised."""
    exploded: ReadOnly[int | None]
    """The step at which it was first seen to have exploded (training/explosion.py)."""
    wall_seconds: ReadOnly[float]
    share_seconds: ReadOnly[float]
    evaluation_seconds: ReadOnly[float]
    saving_seconds: ReadOnly[float]
    flops_per_step: ReadOnly[float]
    """The FLOPs of acting in one transition (training/flops.py)."""
    flops_per_update: ReadOnly[float]
    """The FLOPs of one update on average."""
    tables: ReadOnly[Mapping[str, Fingerprint]]
    policy: ReadOnly[Fingerprint | None]
    weights: ReadOnly[Fingerprint | None]
    last_finite: ReadOnly[Mapping[Any, float]]
    """The metrics before it diverged."""


class RunStatus(_Details):
    """A run's status.json."""

    status: ReadOnly[Word]
    steps: ReadOnly[int]
    """The steps that are saved."""


class StatusChanges(_Details, total=False):
    """Entries of a run's status to be changed."""

    status: ReadOnly[Word]
    steps: ReadOnly[int]


def standing_at(status: RunStatus, steps: int) -> str:
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


def has_raised(status: RunStatus) -> bool:
    """Return whether a run failed because its own environment raised. It is retrained only on request."""
    return status["status"] == "failed" and status.get("raised_at") is not None


def stages_of(status: RunStatus) -> Sequence[Conditions]:
    """Return the conditions of a run's training in order."""
    return status.get("conditions", [])


def device_kinds(status: RunStatus) -> set[str]:
    """Return the kinds of devices that a run was trained on, by its status; none before it has started."""
    return {stage["device_kind"] for stage in stages_of(status)}


def exploded_at(status: RunStatus, steps: int) -> int | None:
    """Return the step at which a run was first seen to have exploded within `steps` (training/explosion.py)."""
    first = status.get("exploded")
    return first if isinstance(first, int) and first <= steps else None
