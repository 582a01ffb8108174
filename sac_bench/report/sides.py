"""Two results side by side: differences of scores, identical runs, and what else differs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.analysis.differences import (
    CORRECTED_BOUNDS,
    MIXED_DEVICES,
    TRAINING_NOT_OVER,
    VERDICT_RULES,
    Cell,
    Scores,
)
from sac_bench.analysis.hypotheses import different
from sac_bench.analysis.permutation import permuted
from sac_bench.analysis.same_runs import rows_of_runs, same_runs
from sac_bench.analysis.scores import common, equal_steps, evaluated_at, scores, up_to_common_steps
from sac_bench.analysis.sequential import Contest, Design, Trial
from sac_bench.analysis.statistics import difference_interval, seed_correlation
from sac_bench.analysis.verdicts import MIN_SEEDS, RUNS_MISSING, verdicts
from sac_bench.errors import InputError, nearest
from sac_bench.report.tables import DIFFERENCE_COLUMNS, performance
from sac_bench.results import standings
from sac_bench.results.cards import card_of, has_imported
from sac_bench.results.devices import sentence
from sac_bench.results.load import Results, load_results
from sac_bench.results.manifest import FILE, Manifest
from sac_bench.results.protocol import why_not_the_same
from sac_bench.results.schema import CONDITIONS
from sac_bench.results.versions import superseded

PLACE_COLUMNS = ["env", "variant"]
NO_SUCH_OPTION = "no such option"

LOOKS_RULES = (
    "The number of seeds in a range depended on its results. So tests are made at its looks, each with a share of the "
    '5%: "at 8 seeds" compares the first 8 seeds per variant (more for a reference with a larger multiple), and all '
    "seeds of a side with fixed seeds. Later seeds count only in the scores, not in the verdict and its interval."
)


@dataclass(frozen=True)
class Side:
    """One of the two results."""

    folder: Path
    results: Results

    @property
    def manifest(self) -> Manifest:
        """What the result says of its variants and settings."""
        return self.results.manifest

    @property
    def runs(self) -> pd.DataFrame:
        """The table of runs (results/schema.py)."""
        return self.results.runs

    def contents(self) -> str:
        """Return a sentence that names the variants and environments, for errors."""
        return f"{self.folder} has {', '.join(self.manifest.variants)} on {', '.join(self.manifest.envs)}"

    def in_words(self) -> str:
        """Return the folder and, in brackets, how far its runs are and what limits their use."""
        training = f"{TRAINING_NOT_OVER}: no verdicts yet" if self.manifest.reached else ""
        notes = [note for note in (training, superseded(self.manifest)) if note]
        return f"{self.folder} ({'; '.join([standings.of_runs(self.runs), *notes])})"


def load_side(name: str, results: Path) -> Side:
    """Load a result by its folder, or by its name in a results folder. Raises InputError if there is none."""
    folder = next((f for f in (Path(name), results / name) if (f / FILE).exists()), None)
    if folder is None:
        known = [path.parent.name for path in results.glob(f"*/{FILE}")]
        raise InputError(f"{name}: neither a folder of results nor a name in {results}{nearest(name, known)}")
    return Side(folder, up_to_common_steps(load_results(folder.name, folder.parent)))


def devices(a: Side, b: Side, mix_devices: bool = False) -> str:
    """Return a sentence on the kinds of devices if both results together have several, else "".

    mix_devices: whether the user wants them to be compared.
    """
    return sentence([a.runs, b.runs], mix_devices)


def compare(a: Side, b: Side, mix_devices: bool = False) -> pd.DataFrame:
    """Return a row per common environment and variant: scores, B - A, its verdict, identical runs.

    Variants whose runs are all bitwise identical get no verdict and do not count in Holm's correction. Without
    `mix_devices`, there is no verdict if the runs were trained on different kinds of devices. Raises InputError if the
    results have nothing in common.
    """
    envs, variants = (_common(getattr(a.manifest, of), getattr(b.manifest, of)) for of in ("envs", "variants"))
    if not (envs and variants):
        raise InputError(f"nothing to compare: {a.contents()}; {b.contents()}")
    if a.manifest.score_last != b.manifest.score_last:
        in_a, in_b = (f"{side.manifest.score_last:.0%}" for side in (a, b))
        raise InputError(f"cannot compare: A scores the last {in_a} of the steps, B the last {in_b} (score_last)")
    at = steps_compared(a, b)
    steps = [(side, equal_steps(side.manifest) | at) for side in (a, b)]
    finals = [performance(side.results, n).set_index(PLACE_COLUMNS) for side, n in steps]
    runs = [by_place(side.runs) for side in (a, b)]
    numbers = [rows_of_runs(side.results) for side in (a, b)]
    scored = [Scores(scores(side.results, at=n), side.manifest) for side, n in steps]
    untested = TRAINING_NOT_OVER if a.manifest.reached or b.manifest.reached else ""
    if not mix_devices and devices(a, b):
        untested = MIXED_DEVICES
    rows, tested, contests = [], [], []
    for place in [(env, variant) for env in envs for variant in variants]:
        row: dict[str, Any] = dict(zip(PLACE_COLUMNS, place, strict=True))
        for letter, final in zip("ab", finals, strict=True):
            names = ("score", "ci_low", "ci_high", "seeds", "exploded")
            row |= {f"{name}_{letter}": final.loc[place, name] for name in names}
        row |= {
            f"steps_{letter}": side.manifest.variants[place[1]].steps[place[0]] for letter, side in (("a", a), ("b", b))
        } | {"scored_at": at[place]}
        ended = {letter: final.loc[place, "ended_otherwise"] for letter, final in zip("AB", finals, strict=True)}
        row["ended_otherwise"] = "; ".join(letter + ": " + str(text) for letter, text in ended.items() if text)
        row["exploded"] = row["exploded_a"] + row["exploded_b"]
        of_a, of_b = (side.of(place) for side in scored)
        both = of_a.index.intersection(of_b.index)
        row |= dict(zip(DIFFERENCE_COLUMNS, difference_interval(of_b, of_a), strict=True))
        row |= {"seed_correlation": seed_correlation(of_b[both], of_a[both]), "shared_seeds": len(both)}
        row |= same_runs(runs[0][place], runs[1][place], *numbers)._asdict()
        few = min(len(of_a), len(of_b))
        row |= {"verdict": "", "p_holm": float("nan"), "state": "untested", "look": None, "seeds_needed": None}
        row |= dict.fromkeys(CORRECTED_BOUNDS, float("nan"))
        row["no_verdict"] = untested or _protocols(a, b, place) or (f"{few} seeds" if few < MIN_SEEDS else "")
        rows.append(row)
        if not row["identical"] and not row["no_verdict"]:
            tested.append(row)
            contests.append(_contest(place, *scored))
    for row, verdict in zip(tested, verdicts(contests, Design(looks(a, b) or (None,))), strict=True):
        row["state"] = verdict.state
        if not verdict.word:
            row["no_verdict"] = RUNS_MISSING if verdict.state == "waiting" else f"below {MIN_SEEDS} seeds"
            continue
        row |= {"verdict": verdict.word, "p_holm": verdict.p_values[0], "look": verdict.look}
        row |= {"seeds_needed": verdict.seeds_needed, **dict(zip(DIFFERENCE_COLUMNS, verdict.interval, strict=True))}
        row |= dict(zip(CORRECTED_BOUNDS, verdict.corrected[1:], strict=True))
    return pd.DataFrame(rows).astype({"seeds_needed": "Int64", "look": "Int64"})


def _protocols(a: Side, b: Side, place: Cell) -> str:
    """Return why the protocols of a variant forbid a verdict, else "". Of two results of ours, settings may differ."""
    if not (has_imported(a.manifest) or has_imported(b.manifest)):
        return ""
    return why_not_the_same(*(card_of(side.results, *place) for side in (a, b)))


def looks(a: Side, b: Side) -> tuple[int, ...]:
    """Return the looks that both have, or one with a range and fixed seeds; () if both have fixed seeds.

    Ranges without a common look have one at the end of the lower one.
    """
    ranges = [side.manifest.looks for side in (a, b) if side.manifest.looks]
    common_looks = sorted(set.intersection(*map(set, ranges))) if ranges else []
    return tuple(common_looks) or tuple([min(of[-1] for of in ranges)] if ranges else [])


def _contest(place: Cell, a: Scores, b: Scores) -> Contest:
    """Return what is tested at a look: the seeds that a range has there, and all of fixed seeds."""

    def trial(look: int | None) -> Trial | None:
        of_a, of_b = (side.of(place, look if side.manifest.looks else None) for side in (a, b))
        return Trial((different(),), permuted(of_b, of_a)) if min(len(of_a), len(of_b)) >= MIN_SEEDS else None

    return Contest(lambda look: all(side.have_ended([place], look) for side in (a, b) if side.manifest.looks), trial)


def rules(a: Side, b: Side) -> str:
    """Return how the verdicts come about."""
    return f"{VERDICT_RULES} {LOOKS_RULES}" if looks(a, b) else VERDICT_RULES


def steps_compared(a: Side, b: Side) -> dict[tuple[str, str], int]:
    """Return {(environment, variant) of both: the most steps at which both evaluated it}."""
    envs, variants = (_common(getattr(a.manifest, of), getattr(b.manifest, of)) for of in ("envs", "variants"))
    places = [(env, variant) for env in envs for variant in variants]
    return {place: common(evaluated_at(side.manifest, *place) for side in (a, b)) for place in places}


def _common(a: Iterable[str], b: Iterable[str]) -> list[str]:
    return [name for name in a if name in set(b)]


def by_place(table: pd.DataFrame) -> dict[Any, pd.DataFrame]:
    """Return {(environment, variant): its rows}."""
    return dict(list(table.groupby(PLACE_COLUMNS))) if len(table) else {}


def settings_that_differ(a: Side, b: Side) -> pd.DataFrame:
    """Return a row per difference in algorithm, steps or options, with the common variants that have it."""
    where: dict[tuple[str, str, str], list[str]] = {}
    places = [
        (v, e)
        for v in _common(a.manifest.variants, b.manifest.variants)
        for e in _common(a.manifest.envs, b.manifest.envs)
    ]
    for variant, env in places:
        in_a, in_b = (_settings(side.manifest, variant, env) for side in (a, b))
        if any(side.manifest.variants[variant].imported for side in (a, b)):  # the cards have what is known
            in_a, in_b = ({"steps": of["steps"]} for of in (in_a, in_b))
        for option in dict.fromkeys([*in_a, *in_b]):
            values = in_a.get(option, NO_SUCH_OPTION), in_b.get(option, NO_SUCH_OPTION)
            if values[0] != values[1]:
                where.setdefault((option, *values), []).append(f"{variant} on {env}")
    rows = [(*what, "everywhere" if len(at) == len(places) else ", ".join(at)) for what, at in where.items()]
    return pd.DataFrame(rows, columns=["setting", "A", "B", "of"])


def _settings(manifest: Manifest, variant: str, env: str) -> dict[str, str]:
    of = manifest.variants[variant]
    config = {option: json.dumps(value) for option, value in manifest.variants[variant].configs[env].items()}
    return {"algorithm": of.algorithm, "steps": f"{of.steps[env]:,}"} | config


def conditions_that_differ(a: Side, b: Side) -> pd.DataFrame:
    """Return a row per difference in seeds, backend or conditions (machine, versions, commit, ...)."""
    rows = []
    for what in ("seed", "backend", "cohort_size", *CONDITIONS):
        values = [side.runs.get(what, pd.Series(dtype=object)).dropna().unique() for side in (a, b)]
        shown = ["; ".join(map(str, sorted(distinct))) or "unknown" for distinct in values]
        if shown[0] != shown[1]:
            rows.append((what.replace("_", " "), *shown))
    return pd.DataFrame(rows, columns=["what", "A", "B"])


def only_in_one(a: Side, b: Side) -> list[str]:
    """Return one sentence per side on the variants and environments that only it has."""
    sentences = []
    for letter, side, other in (("A", a, b), ("B", b, a)):
        lone = [
            f"`{name}`"
            for of in ("variants", "envs")
            for name in getattr(side.manifest, of)
            if name not in getattr(other.manifest, of)
        ]
        sentences += [f"Only in {letter}: {', '.join(lone)}."] if lone else []
    return sentences
