"""The protocol card of any variant: the one that was imported with it, or the one that our own settings imply."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sac_bench.results.cells import rows_of
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.results.protocol import UNKNOWN, ProtocolCard, Unknown

OWN_SOURCE = "trained by this package"


def card_of(results: Results, env: str, variant: str) -> ProtocolCard:
    """Return the card of a variant's runs in an environment."""
    record = results.manifest.variants[variant]
    if record.imported is not None:
        card = record.imported.card
        return card if card.environment != UNKNOWN else card.model_copy(update={"environment": env})
    config, runs = record.configs.get(env, {}), rows_of(results.runs, env, variant)
    unfinished = int((runs["status"] != "finished").sum()) if len(runs) else 0
    return ProtocolCard(
        environment=env,
        simulator="; ".join(sorted(map(str, runs["backend"].dropna().unique()))) if len(runs) else UNKNOWN,
        updates_per_transition=updates_per_transition(config),
        metric="evaluation",
        actions="deterministic" if record.scored_by == "mean" else "sampled",
        episodes=config.get("eval_episodes", UNKNOWN),
        seeds=f"{len(results.manifest.seeds_of(env, variant))}, with separate environment seeds",
        unfinished=f"{unfinished} of {len(runs)} runs" if unfinished else "none",
        source=OWN_SOURCE,
    )


def has_imported(manifest: Manifest) -> bool:
    """Return whether any variant was imported."""
    return any(variant.imported for variant in manifest.variants.values())


def updates_per_transition(config: Mapping[str, Any]) -> float | Unknown:
    """Return the updates per transition of a config of this package; unknown for a custom algorithm's without them."""
    if "utd" in config:
        return float(config["utd"])
    if {"epochs", "rollout", "batch_size"} <= config.keys():
        return float(config["epochs"] * (config["rollout"] // config["batch_size"]) / config["rollout"])
    return UNKNOWN
