"""The versions on which a run's bytes depend, which must be equal on all machines of a command.

The code runs on machines where nothing but Python is installed (execution/host.py), so it imports nothing else.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

OURS = ("torch", "envpool", "gymnasium", "mujoco", "numpy")
"""Packages besides this one whose versions must be equal: results depend on them."""


def versions() -> dict[str, str]:
    """Return the versions of what a run's bytes depend on; of this package, also a digest of its sources.

    What is not installed is left out.
    """
    packages = {name: number for name in OURS if (number := _installed(name))}
    own = find_spec("sac_bench")
    if own is None or own.origin is None:
        return packages
    root, digest = Path(own.origin).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return {
        "sac_bench": f"{_installed('sac_bench') or 'of unknown version'} (sources {digest.hexdigest()[:8]})",
        **packages,
    }


def different(host: str, theirs: Mapping[str, str]) -> str:
    """Return why a machine with other versions is not used."""
    own = versions()
    names = [name for name in own if theirs.get(name) != own[name]]
    there, here = (
        ", ".join(f"{name} {of[name]}" if name in of else f"no {name}" for name in names) for of in (theirs, own)
    )
    return f"machine {host} has {there}, and this command has {here}: install the same versions on all machines"


def _installed(name: str) -> str | None:
    """Return the version of an installed package."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None
