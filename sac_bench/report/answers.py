"""Answers in plain words: a sentence per axis, each a pure function of the rows with its verdicts.

No sentence says more than its test: what was not shown is "no difference found", never "no difference".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from sac_bench.analysis.differences import ALL_ENVIRONMENTS
from sac_bench.analysis.format import interval, score_format
from sac_bench.analysis.scores import at_words
from sac_bench.analysis.verdicts import MIN_SEEDS, NO_SPREAD, seeds_text
from sac_bench.envs.known import BACKENDS
from sac_bench.report.labels import axes, marked, steps_note
from sac_bench.report.page import Answer
from sac_bench.results.manifest import Manifest

Row = Mapping[Any, Any]
"""A comparison as in `differences.table_of`, with `seeds`, and `exploded` and `ended_otherwise` if known."""
WOULD_DECIDE = (
    "Seeds that would decide: per variant, at 80% power, if the observed difference and spread were the true ones."
)
LEGEND = (
    "Numbers: difference in score [95% interval] of each comparison by itself; verdicts are corrected for all "
    f"comparisons of the table. {WOULD_DECIDE} There is no verdict below {MIN_SEEDS} seeds per variant."
)
CLAIM_LEGEND = (
    "Numbers: a - b [95% interval] of each comparison by itself, in units of its measure; outcomes are corrected for "
    f"all comparisons of the claim. {WOULD_DECIDE}"
)
GAINS = "In gains: as shares of the reference's gain over a random policy."


def answer(
    final: pd.DataFrame, table: pd.DataFrame, manifest: Manifest, across: Mapping[str, str] | None = None
) -> Answer:
    """Return the answer of an experiment without a claim.

    final: final performance (`tables.final_performance`). table: all differences (`differences.table_of`).
    across: {variant: a sentence on whether its verdict survives a change of backend}.
    """
    rows, tested = by_variant(final, table, manifest), count_tested(table)
    spec = score_format(final["score"].abs().max())
    if len(manifest.envs) > 1:
        over, also = _over(manifest), {name: f" {sentence}" for name, sentence in (across or {}).items()}
        sentences = [
            f"{_named(manifest, variant)}: {finding_over(of, spec, tested, manifest.margin, over)}."
            + also.get(variant, "")
            for variant, of in rows.items()
        ]
        notes: tuple[str, ...] = (LEGEND, GAINS) if len(manifest.tasks) > 1 else (LEGEND,)
    else:
        sentences = [
            _of_axis(variants, {name: rows[name][0] for name in variants}, spec, tested, manifest)
            for variants in axes(manifest)
        ]
        notes = (LEGEND,)
    if not sentences:
        return Answer("There is nothing to compare.")
    return Answer(_lead(final, manifest, spec), tuple(sentences), notes)


def by_variant(final: pd.DataFrame, table: pd.DataFrame, manifest: Manifest) -> dict[str, list[Row]]:
    """Return {variant: its row in each environment, then that over all together, if there is one}."""
    counted = final.set_index(["env", "variant"])[["seeds", "exploded", "ended_otherwise"]]
    rows: dict[str, list[Row]] = {name: [] for name in manifest.variants if name != manifest.reference}
    for row in table.to_dict("records"):
        if row["env"] == ALL_ENVIRONMENTS:
            seeds = [int(counted.loc[(env, row["variant"]), "seeds"]) for env in manifest.envs]
            rows[row["variant"]].append(row | {"seeds": min(seeds)})
        else:
            rows[row["variant"]].append(row | counted.loc[(row["env"], row["variant"])].to_dict())
    return rows


def count_tested(table: pd.DataFrame) -> int:
    """Return how many comparisons of a table share its error: all in which a test was made or will be."""
    return int(((table["verdict"] != "") | (table["state"] == "waiting")).sum())


def finding(row: Row, spec: str, tested: int, margin: float | None = None, unit: str = "") -> str:
    """Return what a comparison shows: "**worse**, -128 [-200, -56] with 5 seeds".

    spec: the format of its numbers. tested: how many comparisons share its error. margin: the share of the
    reference's gain below which differences do not matter. unit: of the numbers, such as "gains".
    """
    numbers = interval(*(row[c] for c in ("difference", "difference_ci_low", "difference_ci_high")), spec=spec)
    if not row["verdict"]:
        return ", ".join(filter(None, (f"**no verdict** ({row['no_verdict']})", _with(numbers, unit), *_ended(row))))
    shown = _with(numbers, unit, f"with {row['seeds'] if (look := _whole(row['look'])) is None else look} seeds")
    return ", ".join(filter(None, (_verdict(row, tested, margin), shown, *_undecided(row), *_ended(row))))


def finding_over(rows: Sequence[Row], spec: str, tested: int, margin: float | None = None, over: str = "") -> str:
    """Return what a variant's comparisons show: over all environments together, and in which ones what.

    Without a verdict on all together: of each environment, with its numbers. over: what is together, "3 environments".
    """
    each, pooled = (
        [row for row in rows if row["env"] != ALL_ENVIRONMENTS],
        [row for row in rows if row["env"] == ALL_ENVIRONMENTS],
    )
    if not pooled or not pooled[0]["verdict"]:
        return "; ".join(f"on {row['env']} {finding(row, spec, tested, margin)}" for row in each)
    groups: dict[str, list[str]] = {}
    for row in each:
        words = _verdict(row, tested, margin) if row["verdict"] else f"**no verdict** ({row['no_verdict']})"
        notes = _ended(row)
        groups.setdefault(words, []).append(row["env"] + (f" ({', '.join(notes)})" if notes else ""))
    found = finding(pooled[0], ".2f", tested, margin, "gains")
    together = over or f"{len(each)} environments"
    return "; ".join([f"over {together} {found}", *(f"{w} on {', '.join(e)}" for w, e in groups.items())])


def _lead(final: pd.DataFrame, manifest: Manifest, spec: str) -> str:
    """Return what the variants are compared with: "Against `sac` (1243 [936, 1549] with 24 seeds) on Hopper-v5:"."""
    own = final[final["variant"] == manifest.reference].to_dict("records")
    env = manifest.envs[0]
    where = _over(manifest) if len(manifest.envs) > 1 else env + at_words(manifest, env)
    scores = [interval(row["score"], row["ci_low"], row["ci_high"], spec=spec) for row in own]
    own_score = f" ({_with(scores[0], '', _of_seeds(own[0]['seeds']))})" if len(own) == 1 and scores[0] else ""
    return f"Against {_named(manifest, manifest.reference)}{own_score} on {where}:"


def _over(manifest: Manifest) -> str:
    """Return what verdicts are over: "3 environments", "3 tasks with 2 backends each"."""
    if not manifest.backends:
        return f"{len(manifest.envs)} environments"
    tasks = list(manifest.tasks)
    backends = " and ".join(BACKENDS[backend] for backend in manifest.backends)
    return f"{tasks[0] if len(tasks) == 1 else f'{len(tasks)} tasks'} with {backends}"


def _of_axis(variants: Sequence[str], rows: Mapping[str, Row], spec: str, tested: int, manifest: Manifest) -> str:
    """Return the sentence of an axis in one environment: of one variant, or of the values of a sweep."""
    findings = {name: finding(rows[name], spec, tested, manifest.margin) for name in variants}
    swept = [manifest.variants[name].swept for name in variants]
    if not all(swept):
        return f"{_named(manifest, variants[0])}: {findings[variants[0]]}."
    option = swept[0][0] if swept[0] else ""
    base = manifest.variants[variants[0]].sweep_of or manifest.reference
    own = manifest.option(base, manifest.envs[0], option)
    is_number = isinstance(own, int | float) and not isinstance(own, bool)
    where = f" in {marked(manifest, base)}"
    of_base = "" if base == manifest.reference else where
    beside = f" ({own:g}{' there' if of_base else where})" if is_number else ""
    values = [f"at {of[1]:g} {findings[name]}" for name, of in zip(variants, swept, strict=True) if of]
    label = manifest.variants[variants[0]].sweep_label
    named = label[:1].upper() + label[1:] if label else f"`{option}`"
    return f"{named}{of_base}{beside}: {'; '.join(values)}."


def _named(manifest: Manifest, variant: str) -> str:
    """Return a variant's name in a sentence, with its steps if its score is of fewer."""
    name, note = marked(manifest, variant), steps_note(manifest, variant)
    return (name[:1].upper() + name[1:] if name == manifest.label(variant) else name) + note


def _verdict(row: Row, tested: int, margin: float | None) -> str:
    """Return a row's verdict in words."""
    if row["verdict"] == "equivalent":
        within = f" (within {margin:.0%} of the reference's gain)" if margin else ""
        return f"**equivalent**{within}"
    if row["verdict"] != "undecided":
        return f"**{row['verdict']}**"
    if row["difference_ci_low"] > 0 or row["difference_ci_high"] < 0:
        return "**no difference shown**" + (f" among {tested} comparisons" if tested > 1 else "")
    return "**no difference found**"


def _undecided(row: Row) -> list[str]:
    """Return what an undecided comparison lacks."""
    if row["verdict"] != "undecided":
        return []
    look, needed = _whole(row["look"]), _whole(row["seeds_needed"])
    stopped = {"futile": ["stopped there"], "waiting": ["not all runs of the next look have ended"]}
    if needed is None and row["difference_ci_low"] == row["difference_ci_high"]:
        return [*stopped.get(row["state"], []), NO_SPREAD]
    return [*stopped.get(row["state"], []), f"{seeds_text(needed, look)} would decide"]


def _ended(row: Row) -> list[str]:
    """Return how runs of the variant ended that did not finish, and how many exploded."""
    exploded = row.get("exploded")
    return [*filter(None, (row.get("ended_otherwise"), f"{exploded} exploded" if exploded else ""))]


def _whole(value: Any) -> int | None:
    return None if pd.isna(value) else int(value)


def _with(numbers: str, *words: str) -> str:
    return " ".join(filter(None, (numbers, *words))) if numbers else ""


def _of_seeds(seeds: int) -> str:
    return f"with {seeds} seed{'s' * (seeds != 1)}"
