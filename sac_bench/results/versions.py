"""Whether results were trained by the versions of the algorithms that this code has."""

from __future__ import annotations

from collections.abc import Mapping

from sac_bench.algorithms import ALGORITHMS
from sac_bench.results.manifest import Manifest


def superseded(manifest: Manifest) -> str:
    """Return a sentence that names the algorithms which other versions trained; empty if there are none."""
    return superseded_versions({variant.algorithm: variant.version for variant in manifest.variants.values()})


def superseded_versions(trained: Mapping[str, int | None]) -> str:
    """Do the same for {algorithm: the version that trained it}. Nothing is known of unregistered algorithms."""
    older = [
        f"{'an unrecorded version' if version is None else f'version {version}'} of {name} "
        f"(this is version {ALGORITHMS[name].version})"
        for name, version in trained.items()
        if name in ALGORITHMS and version != ALGORITHMS[name].version
    ]
    return f"superseded: trained by {', '.join(older)}" if older else ""
