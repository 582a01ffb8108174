"""A claim's comparisons as sentences and tables, and the rules behind them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from sac_bench.analysis.claims import AS_CLAIMED, Comparison, Mean, Outcome, verdict
from sac_bench.analysis.differences import looks_in_words
from sac_bench.analysis.format import interval, number
from sac_bench.analysis.hypotheses import equivalent
from sac_bench.analysis.sequential import ALPHA
from sac_bench.analysis.statistics import Estimate
from sac_bench.analysis.verdicts import MIN_SEEDS, RUNS_MISSING, in_words
from sac_bench.results.manifest import Manifest

RULES = (
    "`a > b` is as claimed if a is shown to be higher, and otherwise against the claim if a is shown to be lower or "
    "equivalent within the margin. `a >= b` is as claimed if a is shown to be at most the margin lower, and against "
    "the claim if a is shown to be lower by more. `a ~ b` is as claimed if the sides are shown to be equivalent "
    "within the margin, and against the claim if the difference is shown to be larger. All tests are at 5%. "
    "Permutations and Student's t must agree; for two measures of one variant, the signs of the differences are "
    "permuted. Shares of seeds and differences between environments are compared by Student's t alone. For shares, a "
    "side's variance is that with one seed of each kind added. Holm's correction is over all comparisons, separately "
    f"for the tests for and against the claim. There is no verdict below {MIN_SEEDS} seeds per variant. Undecided (n "
    "seeds): n seeds per variant would decide at 80% power if the observed difference and spread were the true ones. "
    "Gain: the reference's mean score minus a random policy's. `relative_spread` and `largest_fall` are in gains of "
    "each variant itself: its mean score minus a random policy's return, or minus its own mean return before the first "
    "step if that is higher. Tests treat gains as exact. Margin: for returns, the claim's share of the gain; other "
    "measures have their own. Worst: the lowest score of a side's runs. Exploded: runs whose |Q| exceeded what their "
    "rewards allow; they keep their scores. r: Pearson's correlation of the sides over "
    "shared seeds. By pairs: the paired interval, which takes this correlation into account but has fewer degrees of "
    "freedom."
)


CORRECTED = (
    "Thick: 95%. Thin, with marked ends: the interval of the test that decided, at the level at which Holm's "
    "correction tested this comparison; if no test decided, the smallest interval that shows nothing at these levels. "
    "If it is as claimed, the thin interval is above 0 (a > b), above minus the margin (a >= b), or within the margin "
    "(a ~ b). For the last two, the test is one-sided, and the thin interval may be narrower than the thick one. The "
    "thin intervals do not hold for all comparisons at once."
)


def rules(manifest: Manifest) -> str:
    """Return how the outcomes come about."""
    return f"{RULES} {looks_in_words(manifest)}".strip()


def outcome_name(outcome: Outcome) -> str:
    """Return an outcome as shown."""
    return "no verdict" if outcome == "no word" else outcome


def outcome_text(one: Comparison) -> str:
    """Return the outcome in a sentence, with the seeds that would decide."""
    return _with_notes(one, short=False)


def short_outcome(one: Comparison) -> str:
    """Return the outcome for a table or figure: "undecided (needs 23 seeds)"."""
    return _with_notes(one, short=True)


def _with_notes(one: Comparison, short: bool) -> str:
    name = outcome_name(one.outcome)
    if one.outcome == "no word":
        reason = one.reason or RUNS_MISSING * one.lacks_runs
        return f"{name} ({reason})" if reason else name
    if one.outcome == AS_CLAIMED and one.relation == ">" and one.margin and one.verdict.look is None:
        is_small = equivalent(one.margin).p_value(one.evidence) <= ALPHA
        name += ", within the margin" * is_small
    return in_words(name, one.verdict.state, one.verdict.look, one.seeds_needed, short, one.verdict.is_constant)


def headline(decided: Sequence[Comparison]) -> str:
    """Return a claim's verdict, between two asterisks on each side, and how many comparisons it is based on."""
    words, reason = verdict(decided).partition(":")[0::2]
    count = f"{len(decided)} comparison{'s' * (len(decided) > 1)}"
    return f"The claim: **{words}**{' (' + reason.strip() + ')' if reason else ''}. {count}:"


def sentences(decided: Sequence[Comparison], across: Mapping[str, str] | None = None) -> list[str]:
    """Return a sentence per expectation with its outcome in each environment, and the numbers.

    across: {expectation: a sentence that follows, on whether its outcome survives a change of backend}.
    """
    by_expectation: dict[str, list[Comparison]] = {}
    for one in decided:
        by_expectation.setdefault(one.expected, []).append(one)
    found = {expected: f"`{expected}` {'; '.join(map(_finding, of))}." for expected, of in by_expectation.items()}
    return [" ".join(filter(None, (words, (across or {}).get(name)))) for name, words in found.items()]


def _finding(one: Comparison) -> str:
    """Return "on Hopper-v5: **as claimed**, 30 [20, 40] with 5 seeds, 1 exploded", in the measure's units."""
    name = outcome_name(one.outcome)
    words = f"**{name}**" + outcome_text(one).removeprefix(name)
    numbers = interval(*one.interval, spec=_format(one.interval))
    seeds = "" if one.verdict.look else f" with {min(one.difference.seeds)} seeds"
    exploded = f", {one.exploded} exploded" if one.exploded else ""
    return f"on {one.env}: {words}" + (f", {numbers}{seeds}" if numbers else "") + exploded


def grid(decided: Sequence[Comparison]) -> pd.DataFrame:
    """Return the comparisons as a table for a reader."""
    rows = []
    for one in decided:
        spec = _format(one.interval)
        rows.append(
            {
                "environment": one.env,
                "expected": one.expected,
                "outcome": short_outcome(one),
                "measure": one.label,
                "a - b [95% CI]": interval(*one.interval, spec=spec),
                "in gains": interval(*one.normalised, spec="+.2f") if one.in_gains else "",
                "margin": number(one.margin, spec),
                "a": _mean(one.a, spec),
                "b": _mean(one.b, spec),
                "p": number(one.p, ".2g"),
                "r": number(one.correlation, "+.2f"),
                "by pairs [95% CI]": "" if one.paired else interval(*one.by_pairs, spec=spec),
            }
        )
    shown = pd.DataFrame(rows)[["expected", "environment", *list(rows[0])[2:]]]
    constant = [name for name in ("environment", "measure") if shown[name].nunique() == 1 and len(shown) > 1]
    return shown.drop(columns=constant)


def table(decided: Sequence[Comparison]) -> pd.DataFrame:
    """Return the comparisons as a table for a program."""
    return pd.DataFrame(
        [
            {
                "env": one.env,
                "expected": one.expected,
                "measure": one.label,
                "seeds_a": one.a.seeds,
                "mean_a": one.a.value,
                "exploded_a": one.a.exploded,
                "seeds_b": one.b.seeds,
                "mean_b": one.b.value,
                "exploded_b": one.b.exploded,
                "difference": one.interval.value,
                "ci_low": one.interval.low,
                "ci_high": one.interval.high,
                "corrected_ci_low": one.verdict.corrected.low,
                "corrected_ci_high": one.verdict.corrected.high,
                "gain": one.gain,
                "margin": one.margin,
                "paired": one.paired,
                "correlation": one.correlation,
                "paired_difference": one.by_pairs.value,
                "paired_ci_low": one.by_pairs.low,
                "paired_ci_high": one.by_pairs.high,
                "p": one.p,
                "outcome": one.outcome,
                "state": one.verdict.state,
                "look": one.verdict.look,
                "seeds_needed": one.seeds_needed,
            }
            for one in decided
        ]
    ).astype({"seeds_needed": "Int64", "look": "Int64"})


def _mean(mean: Mean, spec: str) -> str:
    """Return "1674 (5 seeds, 1 exploded, worst 903)", with the mean in the format `spec`."""
    exploded = f", {mean.exploded} exploded" if mean.exploded else ""
    if not mean.seeds:
        return f"no values{exploded}"
    worst = "" if np.isnan(mean.worst) else f", worst {mean.worst:.0f}"
    return f"{mean.value:{spec}} ({mean.seeds} seeds{exploded}{worst})"


def _format(estimate: Estimate) -> str:
    """Return the format of a comparison's numbers."""
    ends = [abs(x) for x in estimate if np.isfinite(x)]
    return ".0f" if max(ends, default=0) >= 100 else ".2f"
