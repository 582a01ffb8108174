"""Whether results were trained by the versions of the algorithms and options that this code has."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from pydantic import ValidationError

from sac_bench.algorithms import ALGORITHMS
from sac_bench.results.manifest import Manifest, VariantRecord


def superseded(manifest: Manifest) -> str:
    """Return a sentence that names the algorithms and options which other versions trained; empty if there are none."""
    variants = [variant for variant in manifest.variants.values() if variant.imported is None]
    algorithms = _older_algorithms({variant.algorithm: variant.version for variant in variants})
    return _sentence([*algorithms, *dict.fromkeys(older for variant in variants for older in _older_options(variant))])


def superseded_versions(trained: Mapping[str, int | None]) -> str:
    """Do the same for {algorithm: the version that trained it}. Nothing is known of unregistered algorithms."""
    return _sentence(_older_algorithms(trained))


def _sentence(older: Iterable[str]) -> str:
    words = ", ".join(older)
    return f"superseded: trained by {words}" if words else ""


def _older_algorithms(trained: Mapping[str, int | None]) -> list[str]:
    return [
        f"{'an unrecorded version' if version is None else f'version {version}'} of {name} "
        f"(this is version {ALGORITHMS[name].version})"
        for name, version in trained.items()
        if name in ALGORITHMS and version != ALGORITHMS[name].version
    ]


def _older_options(variant: VariantRecord) -> list[str]:
    """Return the options of a variant, trained by this version of its algorithm, whose own versions are older."""
    if variant.algorithm not in ALGORITHMS or variant.version != ALGORITHMS[variant.algorithm].version:
        return []
    now: dict[str, int] = {}
    for config in variant.configs.values():
        try:
            now |= ALGORITHMS[variant.algorithm].config.model_validate_json(json.dumps(config)).option_versions
        except ValidationError:  # it has options that are no longer valid
            continue
    trained = variant.option_versions
    return [
        f"version {trained.get(option, 1)} of {variant.algorithm}'s option {option} (this is version {version})"
        for option, version in now.items()
        if version != trained.get(option, 1)
    ]
