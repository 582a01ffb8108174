"""What to train next in an experiment with a range of seeds: a function of its results alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from sac_bench.analysis.claims import comparisons
from sac_bench.analysis.differences import Cell, judged
from sac_bench.analysis.scores import scores
from sac_bench.results.load import Results
from sac_bench.spec.claim import Claim


def next_seeds(results: Results) -> dict[Cell, int]:
    """Return the seeds that cells (environment, variant) must have for the next look: only those that have fewer now.

    Only cells of comparisons that are neither decided nor futile get more. Empty if there are none, or if seeds are
    fixed.
    """
    required: dict[Cell, int] = defaultdict(int)
    for cells in _awaited(results):
        for cell, seeds in cells.items():
            required[cell] = max(required[cell], seeds)
    return {cell: seeds for cell, seeds in required.items() if seeds > len(results.manifest.seeds_of(*cell))}


def _awaited(results: Results) -> Iterator[dict[Cell, int]]:
    """Yield the seeds of each comparison whose runs of a look have not ended."""
    manifest = results.manifest
    if manifest.seed_range is None:
        return
    if manifest.claim:
        claim = Claim.from_plain(manifest.claim.model_dump(), manifest.variants)
        for one in comparisons(claim, results):
            if one.verdict.awaits is not None:
                yield dict.fromkeys(one.cells, one.verdict.awaits)
        return
    for difference in judged(scores(results), manifest):
        if difference.verdict.awaits is not None:
            yield difference.cells(manifest.reference, difference.verdict.awaits)
