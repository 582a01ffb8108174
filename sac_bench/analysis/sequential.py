"""Which comparisons need more seeds. Provisional: by the verdicts of a fixed number of seeds."""

from __future__ import annotations

from sac_bench.analysis import claims
from sac_bench.analysis.differences import differences
from sac_bench.analysis.scores import scores
from sac_bench.results.load import Results
from sac_bench.spec.claim import Claim
from sac_bench.spec.seeds import REFERENCE_FACTOR


def next_seeds(results: Results) -> dict[tuple[str, str], int]:
    """Return {(environment, variant): the seeds it must have next} of all that must get more; empty if none must."""
    manifest = results.manifest
    factor = {manifest.reference: 1 if manifest.claim else REFERENCE_FACTOR}
    cells = {(env, name): len(manifest.seeds_of(env, name)) for env in manifest.envs for name in manifest.variants}
    look = max(seeds // factor.get(name, 1) for (_, name), seeds in cells.items())
    later = [n for n in manifest.looks if n > look]
    return {
        (env, name): later[0] * factor.get(name, 1)
        for env, name in _undecided(results)
        if later and cells[env, name] == look * factor.get(name, 1)
    }


def _undecided(results: Results) -> dict[tuple[str, str], None]:
    """Return what undecided comparisons compare."""
    manifest = results.manifest
    if manifest.claim is None:
        rows = differences(scores(results), manifest).query("verdict == 'undecided'")
        pairs = zip(rows["env"], rows["variant"], strict=True)
        return dict.fromkeys(cell for env, name in pairs for cell in ((env, manifest.reference), (env, name)))
    claim = Claim.from_plain(manifest.claim.model_dump(), manifest.variants)
    compared = [one for one in claims.comparisons(claim, results) if one.outcome == "undecided"]
    return dict.fromkeys(
        (env, side.variant)
        for one in compared
        for expected in claim.expect
        for env in manifest.envs
        for side in (expected.a, expected.b)
        if one.env == env and one.expected.startswith(f"{expected.a} {expected.relation} {expected.b}")
    )
