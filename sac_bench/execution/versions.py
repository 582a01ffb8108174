"""The versions on which a run's bytes depend, which must be equal on all machines of a command."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import sac_bench

OURS = ("torch", "envpool", "gymnasium", "mujoco", "numpy")
"""Packages besides this one whose versions must be equal: results depend on them."""


def versions() -> dict[str, str]:
    """Return the versions of what a run's bytes depend on; of this package, also a digest of its sources."""
    root = Path(sac_bench.__file__).parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    own = f"{version('sac_bench')} (sources {digest.hexdigest()[:8]})"
    return {"sac_bench": own, **{name: version(name) for name in OURS}}


def different(host: str, theirs: Mapping[str, str]) -> str:
    """Return why a machine with other versions is not used."""
    own = versions()
    names = [name for name in own if theirs.get(name) != own[name]]
    there, here = (", ".join(f"{name} {of.get(name, 'not installed')}" for name in names) for of in (theirs, own))
    return f"machine {host} has {there}, and this command has {here}: install the same versions on all machines"
