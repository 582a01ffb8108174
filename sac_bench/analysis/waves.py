"""What to train next in an experiment with a range of seeds: a function of its results alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from sac_bench.analysis.claims import Comparison, comparisons
from sac_bench.analysis.differences import ALL_ENVIRONMENTS, Cell, TableDifference, table_differences, why_no_verdict
from sac_bench.analysis.scores import scores
from sac_bench.analysis.verdicts import NO_SPREAD, UNTESTED_VERDICT, Verdict, seeds_text
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
    """The runs that it depends on: how many seeds each (environment, variant) has per seed of a look."""

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
    manifest, no_verdict = results.manifest, why_no_verdict(results)
    if not manifest.claim:
        return of_differences(table_differences(scores(results), manifest, no_verdict), manifest)
    claim = Claim.from_plain(manifest.claim.model_dump(), manifest.variants)
    of_claim = of_comparisons(comparisons(claim, results), manifest)
    return of_claim if not no_verdict else [replace(one, verdict=UNTESTED_VERDICT) for one in of_claim]


def of_differences(differences: Sequence[TableDifference], manifest: Manifest) -> list[Compared]:
    """Return differences from the reference with the runs that they depend on."""
    return [
        Compared(_label(manifest.label(one.variant), one.env, manifest.envs), one.verdict, one.cells(manifest, 1))
        for one in differences
    ]


def of_comparisons(comparisons: Sequence[Comparison], manifest: Manifest) -> list[Compared]:
    """Return a claim's comparisons with the runs that they depend on."""
    return [
        Compared(
            _label(one.expected, one.env, manifest.envs),
            one.verdict,
            dict.fromkeys((*one.cells, *one.scaled_by), 1),
        )
        for one in comparisons
    ]


@dataclass(frozen=True)
class Lack:
    """What an undecided comparison lacks to be decided at 80% power, as far as results tell."""

    label: str
    stands: str
    """Where it stands: "undecided, stopped at 8 seeds (needs 80)"."""
    runs: int | None
    """Of all its cells, beyond those that the experiment lists; None if no number that is suggested would decide."""
    seconds: float
    """Of one worker, at the mean time of this experiment's runs of the same cell; NaN if that is not known."""
    is_constant: bool = False
    """Whether its runs have no spread, so that more of them say nothing new."""

    def runs_in_words(self) -> str:
        """Return how many runs would decide it: "30", or why no number is given."""
        if self.runs is not None:
            return str(self.runs)
        return f"none would: {NO_SPREAD}" if self.is_constant else "more than are suggested"


def lacks(comparisons: Sequence[Compared], results: Results) -> list[Lack]:
    """Return what the undecided ones among some comparisons lack. Each counts by itself: they may share runs."""
    seconds, manifest = seconds_per_run(results.runs), results.manifest
    lacking = []
    for one in comparisons:
        if one.verdict.word != "undecided":
            continue
        if (needed := one.verdict.seeds_needed) is None:
            lacking.append(Lack(one.label, one.in_words(), None, math.nan, one.verdict.is_constant))
            continue
        more = {cell: seeds - len(manifest.seeds_of(*cell)) for cell, seeds in one.seeds_at(needed).items()}
        more = {cell: count for cell, count in more.items() if count > 0}
        time = sum(count * seconds.get(cell, math.nan) for cell, count in more.items())
        lacking.append(Lack(one.label, one.in_words(), sum(more.values()), time))
    return lacking


def seconds_per_run(runs: pd.DataFrame) -> dict[Cell, float]:
    """Return {(environment, variant): the mean seconds of a worker that a finished run took}.

    A row has the seconds of its whole cohort, so these are divided by the cohort's size.
    """
    own = runs[runs["status"] == "finished"] if len(runs) else runs
    if not len(own):
        return {}
    each = own["wall_seconds"] / own["cohort_size"]
    means = each.groupby([own["env"], own["variant"]]).mean()
    return {(str(env), str(variant)): float(mean) for (env, variant), mean in zip(means.index, means, strict=True)}


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

    Those that more seeds than are ever suggested would decide are left out (`beyond_reach`).
    """
    undecided = _stopped(results)
    return [_need(one, one.verdict.seeds_needed, results.manifest) for one in undecided if one.verdict.seeds_needed]


def beyond_reach(results: Results) -> dict[str, str]:
    """Return {undecided comparison: why no number of seeds is suggested that would decide it}."""
    return {
        one.label: NO_SPREAD if one.verdict.is_constant else f"needs {seeds_text(None, one.verdict.look)}"
        for one in _stopped(results)
        if one.verdict.seeds_needed is None
    }


def _stopped(results: Results) -> list[Compared]:
    """Return the comparisons that are undecided at the most seeds or stopped."""
    return [one for one in compared(results) if one.verdict.word == "undecided" and not one.verdict.awaits]


def _need(one: Compared, look: int, manifest: Manifest) -> Need:
    return Need(manifest.name, one.label, one.verdict.look, look, one.seeds_at(look))


def _label(what: str, env: str, envs: tuple[str, ...]) -> str:
    if len(envs) == 1:
        return what
    return f"{what} in {env}" if env == ALL_ENVIRONMENTS else f"{what} on {env}"
