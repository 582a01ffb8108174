"""Existing results that a command with different settings would replace."""

from __future__ import annotations

import json
from typing import Any

from sac_bench.errors import InputError
from sac_bench.results.manifest import FILE, Manifest, load_manifest
from sac_bench.spec.experiment import Experiment
from sac_bench.store.store import Store


def check_not_replaced(experiment: Experiment, store: Store) -> None:
    """Raise InputError if the results in the experiment's folder are of other settings, or of a range of seeds.

    Runs stay in the store. But with other settings by --set, the folder's tables, figures and report would be about
    other variants. With fixed seeds after looks at a range, verdicts would have 5% for one more look.
    """
    folder = store.experiment(experiment.name)
    if not (folder / FILE).exists():
        return
    manifest = load_manifest(folder)
    if manifest.seed_range and experiment.seed_range is None:
        raise InputError(
            f"{folder}: has verdicts within the range of seeds {manifest.seed_range}; verdicts at fixed seeds would add"
            f" to their error. Continue with --seeds {manifest.seed_range} or a longer range, or add --name NEW, or "
            f"--name {experiment.name} to replace them"
        )
    keys = [text.partition("=")[0].strip() for text in experiment.overrides]
    if differences := [one for key in dict.fromkeys(keys) if (one := _difference(experiment, manifest, key))]:
        raise InputError(
            f"{folder}: has results with {' and '.join(differences)}, which --set would replace; add --name NEW to "
            f"keep them, or --name {experiment.name} to replace them"
        )


def _difference(experiment: Experiment, manifest: Manifest, key: str) -> str:
    """Return "tau = 0.005 (sac)" for the first recorded variant with another value of an option; "" if none has."""
    if any(key in choice.options for choice in manifest.choices):  # results hold the chosen value
        return ""
    for name, variant in experiment.variants.items():
        for env, config in variant.configs.items():
            before, now = _recorded(manifest, name, env), config.model_dump(mode="json")
            if key in before and key in now and before[key] != now[key]:
                return f"{key} = {json.dumps(before[key])} ({name})"
    return ""


def _recorded(manifest: Manifest, variant: str, env: str) -> dict[str, Any]:
    return manifest.variants[variant].configs.get(env, {}) if variant in manifest.variants else {}
