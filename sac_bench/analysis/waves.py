"""What to train next in an experiment with a range of seeds: a function of its results alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sac_bench.analysis.claims import comparisons
from sac_bench.analysis.differences import MIXED, TOGETHER, Cell, table_differences
from sac_bench.analysis.scores import scores
from sac_bench.analysis.verdicts import UNTESTED, Verdict
from sac_bench.results.devices import are_comparable
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
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
    """Return the comparisons of an experiment in the order of its table; without verdicts if devices are mixed."""
    manifest, comparable = results.manifest, are_comparable(results)
    if manifest.claim:
        claim = Claim.from_plain(manifest.claim.model_dump(), manifest.variants)
        return [
            Compared(
                _label(one.expected, one.env, manifest.envs),
                one.verdict if comparable else UNTESTED,
                dict.fromkeys(one.cells, 1),
            )
            for one in comparisons(claim, results)
        ]
    return [
        Compared(_label(one.variant, one.env, manifest.envs), one.verdict, one.cells(manifest, 1))
        for one in table_differences(scores(results), manifest, "" if comparable else MIXED)
    ]


def needs(results: Results) -> list[Need]:
    """Return what comparisons need for their next look: those that are neither decided nor stopped, and lack runs.

    Empty if seeds are fixed.
    """
    manifest = results.manifest
    if manifest.seed_range is None:
        return []
    waiting = [_need(one, one.verdict.awaits, manifest) for one in compared(results) if one.verdict.awaits]
    return [need for need in waiting if any(n > len(manifest.seeds_of(*cell)) for cell, n in need.seeds.items())]


def needs_to_decide(results: Results) -> list[Need]:
    """Return what would decide, at 80% power, the comparisons that are undecided at the most seeds or stopped.

    Those that more seeds than are ever suggested would decide are left out.
    """
    undecided = [one for one in compared(results) if one.verdict.word == "undecided" and not one.verdict.awaits]
    return [_need(one, one.verdict.seeds_needed, results.manifest) for one in undecided if one.verdict.seeds_needed]


def _need(one: Compared, look: int, manifest: Manifest) -> Need:
    return Need(manifest.name, one.label, one.verdict.look, look, one.seeds_at(look))


def _label(what: str, env: str, envs: tuple[str, ...]) -> str:
    if len(envs) == 1:
        return what
    return f"{what} in {env}" if env == TOGETHER else f"{what} on {env}"
