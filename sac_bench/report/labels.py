"""How variants and settings are named to readers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.analysis.published import in_words
from sac_bench.analysis.scores import equal_steps
from sac_bench.results.manifest import Manifest

QUICK = "-quick"
"""The end of the names of experiments with a quick setting."""
FEW_STEPS = 100_000
"""Fewer steps are a quick setting."""

FORMULA = re.compile(r"(?<!\\)\$.*?(?<!\\)\$")
"""Mathematical text in a label, for matplotlib and LaTeX."""


def marked(manifest: Manifest, variant: str) -> str:
    """Return a variant's label for a sentence; a bare name is marked as code."""
    label = manifest.label(variant)
    return f"`{variant}`" if label == variant else label


def steps_note(manifest: Manifest, variant: str) -> str:
    """Return " (trained to 500k steps)" if a variant was trained beyond the steps of its score, else ""."""
    scored, steps = equal_steps(manifest.model_copy(update={"reached": {}})), manifest.variants[variant].steps
    longer = [steps[env] for env in manifest.envs if steps[env] != scored[env, variant]]
    return f" (trained to {_between(longer)} steps)" if longer else ""


def titled(manifest: Manifest, variant: str) -> str:
    """Return a variant's label for a table: with its steps if its score is of fewer, and the reference marked."""
    own = manifest.label(variant) + steps_note(manifest, variant)
    return own + (" (reference)" if variant == manifest.reference else "")


def axes(manifest: Manifest) -> list[list[str]]:
    """Return the variants without the reference by axis: each alone, and the values of a sweep together."""
    by_axis: dict[tuple[str, ...], list[str]] = {}
    for name, variant in manifest.variants.items():
        if name != manifest.reference:
            axis = (variant.swept[0], variant.sweep_of or manifest.reference) if variant.swept else (name,)
            by_axis.setdefault(axis, []).append(name)
    return list(by_axis.values())


def setting(manifest: Manifest) -> str:
    """Return the size of an experiment's setting: "Quick setting: 2x64 networks, 20k steps, one task (Hopper-v5)."."""
    variants = manifest.variants.values()
    layers = [config["layers"] for variant in variants for config in variant.configs.values() if "layers" in config]
    steps = [steps for variant in variants for steps in variant.steps.values()]
    return setting_in_words(layers, steps, list(manifest.tasks), is_quick(manifest), len(manifest.backends))


def is_quick(manifest: Manifest) -> bool:
    """Return whether a setting is small: by its name, its reference's networks or its steps."""
    reference = manifest.variants[manifest.reference]
    layers = [config["layers"] for config in reference.configs.values() if "layers" in config]
    return is_small(manifest.name, reference.algorithm, layers, list(reference.steps.values()))


def is_small(name: str, algorithm: str, layers: Sequence[Sequence[int]], steps: Sequence[int]) -> bool:
    """Return whether a name ends with "-quick", networks are smaller than the algorithm's, or steps are few."""
    fields = ALGORITHMS[algorithm].config.model_fields if algorithm in ALGORITHMS else {}
    default = sum(fields["layers"].default) if "layers" in fields else 0
    return name.endswith(QUICK) or any(sum(units) < default for units in layers) or min(steps) < FEW_STEPS


def setting_in_words(
    layers: Sequence[Sequence[int]], steps: Sequence[int], envs: Sequence[str], is_quick: bool, backends: int = 0
) -> str:
    """Return a setting in words, given the units of hidden layers, steps and environments that occur in it.

    backends: the number of backends of each environment, if several are compared.
    """
    sizes = sorted({tuple(units) for units in layers}, key=lambda units: (sum(units), units))
    networks = " or ".join(dict.fromkeys(map(_network, sizes)))
    tasks = f"one task ({envs[0]})" if len(envs) == 1 else f"{len(envs)} tasks"
    tasks += f" on {backends} backends" if backends > 1 else ""
    parts = [f"{networks} networks"] * bool(sizes) + [f"{_between(steps)} steps", tasks]
    return f"{'Quick setting' if is_quick else 'Setting'}: {', '.join(parts)}."


def _network(units: Sequence[int]) -> str:
    """Return "2x64", or "64-32" if layers differ."""
    return f"{len(units)}x{units[0]}" if len(set(units)) == 1 else "-".join(map(str, units))


def _between(steps: Iterable[int]) -> str:
    """Return "20k", or "30k to 500k"."""
    ends = sorted(set(steps))
    return " to ".join(map(in_words, dict.fromkeys((ends[0], ends[-1]))))


def labelled(table: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return a table with the labels of its variants."""
    return table.assign(variant=[manifest.label(name) for name in table["variant"]])
