"""Presets: the settings of other implementations and of SAC's successors, which a variant takes with `as = "NAME"`.

`as` stands for the preset's options, written in the same table: what that table sets itself takes precedence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from sac_bench.errors import InputError, nearest
from sac_bench.spec.toml import read

FOLDER = Path(__file__).parent / "presets"
KEY = "as"


@dataclass(frozen=True)
class Preset:
    """The settings of another implementation of SAC, or of a successor of SAC (a recipe)."""

    name: str
    about: str
    source: str
    differs: str
    """What options cannot express."""
    options: Mapping[str, Any]
    """With `algorithm`."""
    sources: Mapping[str, str]
    """{option: where its value is from}."""
    kind: Literal["peer", "recipe"] = "peer"


@cache
def presets() -> dict[str, Preset]:
    """Return all presets by name."""
    return {path.stem: Preset(path.stem, **read(path)) for path in sorted(FOLDER.glob("*.toml"))}


def with_presets(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Return an experiment's tables with the options of the presets that [base] and [variants.NAME] name.

    Raises InputError for an unknown preset, and for one in [base] that has another algorithm than the file.
    """
    made = dict(table)
    if isinstance(base := table.get("base"), dict) and KEY in base:
        own = _expanded(base, f"{where}: [base]")
        algorithm = own.pop("algorithm")
        if made.setdefault("algorithm", algorithm) != algorithm:
            raise InputError(f"{where}: [base] {KEY}: {base[KEY]!r} is of {algorithm}, not of {made['algorithm']}")
        made["base"] = own
    if isinstance(variants := table.get("variants"), dict):
        made["variants"] = {
            name: _expanded(of, f"{where}: [variants.{name}]") if isinstance(of, dict) else of
            for name, of in variants.items()
        }
    return made


def _expanded(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    if KEY not in table:
        return dict(table)
    name, known = table[KEY], presets()
    if not isinstance(name, str) or name not in known:
        near = nearest(name, known) if isinstance(name, str) else ""
        raise InputError(f"{where} {KEY}: no preset {name!r}{near}; sac-bench list presets shows all")
    return {**known[name].options, **{key: value for key, value in table.items() if key != KEY}}
