"""What to train next in an experiment with a range of seeds: a function of its results alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sac_bench.analysis.claims import comparisons
from sac_bench.analysis.differences import TOGETHER, Cell, judged
from sac_bench.analysis.scores import scores
from sac_bench.analysis.verdicts import Verdict
from sac_bench.results.load import Results
from sac_bench.spec.claim import Claim
from sac_bench.spec.experiment import Need


@dataclass(frozen=True)
class Compared:
    """A comparison of an experiment's table and where it stands."""

    label: str
    verdict: Verdict
    cells: Mapping[Cell, int]
    """The runs that it compares: how many seeds each (environment, variant) has per seed of a look."""

    def seeds_at(self, look: int) -> dict[Cell, int]:
        """Return the seeds of its cells at a look."""
        return {cell: look * factor for cell, factor in self.cells.items()}

    def in_words(self) -> str:
        """Return where it stands: "better at 8 seeds", "waits for 12 seeds (undecided at 8)", "no verdict"."""
        verdict = self.verdict
        if verdict.awaits is None:
            return verdict.in_words(short=True) or "no verdict"
        before = f" (undecided at {verdict.look})" if verdict.look else ""
        return f"waits for {verdict.awaits} seeds{before}"


def compared(results: Results) -> list[Compared]:
    """Return the comparisons of an experiment in the order of its table."""
    manifest = results.manifest
    if manifest.claim:
        claim = Claim.from_plain(manifest.claim.model_dump(), manifest.variants)
        return [
            Compared(_label(one.expected, one.env, manifest.envs), one.verdict, dict.fromkeys(one.cells, 1))
            for one in comparisons(claim, results)
        ]
    return [
        Compared(_label(one.variant, one.env, manifest.envs), one.verdict, one.cells(manifest.reference, 1))
        for one in judged(scores(results), manifest)
    ]


def needs(results: Results) -> list[Need]:
    """Return what comparisons need for their next look: those that are neither decided nor stopped, and lack runs.

    Empty if seeds are fixed.
    """
    manifest = results.manifest
    if manifest.seed_range is None:
        return []
    found = []
    for one in compared(results):
        if (look := one.verdict.awaits) is not None:
            seeds = one.seeds_at(look)
            if any(count > len(manifest.seeds_of(*cell)) for cell, count in seeds.items()):
                found.append(Need(manifest.name, one.label, one.verdict.look, look, seeds))
    return found


def _label(what: str, env: str, envs: tuple[str, ...]) -> str:
    if len(envs) == 1:
        return what
    return f"{what} in {env}" if env == TOGETHER else f"{what} on {env}"
