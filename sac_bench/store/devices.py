"""The kinds of devices that trained a run. Imports no torch, so notebooks start quickly."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_GPU = re.compile(r"NVIDIA|Tesla|GeForce|Quadro|TITAN|Radeon|Instinct")


def kind_of(stage: Mapping[str, Any]) -> str | None:
    """Return the kind of device of recorded conditions, "cpu" or "cuda"; earlier versions recorded only its name."""
    if not isinstance(name := stage.get("device"), str):
        return None
    return stage.get("device_kind") or ("cuda" if _GPU.search(name) else "cpu")


def device_kinds(status: Mapping[str, Any]) -> set[str]:
    """Return the kinds of devices that a run was trained on, by its status; none before it has started."""
    return {kind for stage in status.get("conditions") or [status] if (kind := kind_of(stage))}
