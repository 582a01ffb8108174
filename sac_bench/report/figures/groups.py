"""Which variants are drawn together: an experiment's sweeps, and its variants by group."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from sac_bench.report.figures.pages import in_parts
from sac_bench.report.figures.style import COLORS
from sac_bench.results.manifest import Manifest

MOST_LINES = 30
"""The most variants in a group. Beyond 45, line styles would repeat (9 colours, 5 dashes)."""


class Sweep(NamedTuple):
    """The variants {name: value} that differ from a base in one numeric option; with the base, if it has a number.

    title: what readers call it, "reward scale of fixed temperature"; label: what they call the option.
    """

    option: str
    base: str
    values: dict[str, float]
    title: str
    label: str


class Group(NamedTuple):
    """Variants that are drawn in a panel, with its title."""

    title: str
    variants: list[str]


def sweeps(manifest: Manifest) -> dict[str, Sweep]:
    """Return {name: sweep}. The name, for files, is the option; of a base other than the reference "option of base"."""
    swept: dict[str, Sweep] = {}
    for name, variant in manifest.variants.items():
        if variant.swept:
            option, value = variant.swept
            base = variant.sweep_of or manifest.reference
            label = variant.sweep_label or option
            key, title = (
                (option, label)
                if base == manifest.reference
                else (f"{option} of {base}", f"{label} of {manifest.label(base)}")
            )
            swept.setdefault(key, Sweep(option, base, {}, title, label)).values[name] = value
    for sweep in swept.values():
        own = option_of(manifest, sweep)
        if own is not None and own not in sweep.values.values():
            sweep.values[sweep.base] = own
    return swept


def option_of(manifest: Manifest, sweep: Sweep) -> float | None:
    """Return the value that a sweep's base has in the first environment, if it is a number."""
    own = manifest.option(sweep.base, manifest.envs[0], sweep.option)
    return float(own) if isinstance(own, (int, float)) else None


def panels(manifest: Manifest) -> dict[str, Group]:
    """Return {name for files: group}: one of the named variants and one per sweep, each with the reference."""
    swept = sweeps(manifest)
    named = [name for name, v in manifest.variants.items() if not v.swept]
    groups = named_groups(manifest) if len(named) > 1 or not swept else {}
    for key, sweep in swept.items():
        others = sorted((name for name in sweep.values if name != sweep.base), key=sweep.values.__getitem__)
        groups[key] = Group(sweep.title, [sweep.base, *others])
    return {
        key: Group(title, [manifest.reference, *(name for name in names if name != manifest.reference)])
        for key, (title, names) in _legible(groups).items()
    }


def named_groups(manifest: Manifest) -> dict[str, Group]:
    """Return {name for files: group} of the variants that are not swept: by their groups if colours would repeat."""
    named = [name for name, variant in manifest.variants.items() if not variant.swept]
    headings = dict.fromkeys(manifest.variants[name].group for name in named)
    if len(named) <= len(COLORS) or len(headings) == 1:
        return _legible({"variants": Group("variants", named)})
    of_heading = {one: [name for name in named if manifest.variants[name].group == one] for one in headings}
    return _legible({f"variants {one or 'others'}": Group(one or "others", names) for one, names in of_heading.items()})


def _legible(groups: Mapping[str, Group]) -> dict[str, Group]:
    """Return groups in which those with too many variants are divided into numbered ones."""
    legible = {}
    for key, (title, names) in groups.items():
        parts = in_parts(names, -(-len(names) // MOST_LINES))
        for i, part in enumerate(parts, 1):
            end = f" {i} of {len(parts)}" if len(parts) > 1 else ""
            legible[key + end] = Group(title + end, part)
    return legible
