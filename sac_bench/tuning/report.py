"""Writes a study's tables, figures and report from its record (tuning/record.py) alone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from sac_bench.analysis.statistics import Estimate
from sac_bench.report.labels import is_small, setting_in_words
from sac_bench.report.page import (
    Answer,
    Block,
    Grid,
    Link,
    Page,
    Picture,
    Points,
    as_text,
    markdown,
    sections,
    text,
    written,
)
from sac_bench.results.load import lock_of
from sac_bench.results.versions import superseded_versions
from sac_bench.store import locks
from sac_bench.store.atomic import write_text
from sac_bench.tuning.figures import write_figures
from sac_bench.tuning.held_out import Verdict, signed
from sac_bench.tuning.record import SearchedOption, StudyRecord, load_record

RULES = (
    "A run's score: {objective} of {acting}. A trial's value: {aggregate} over {runs} runs (seeds and "
    "environments together{scaled}). A run that diverged counts as the worst score of any run of the study on that "
    "environment so far, or as a random policy's return if that is lower. A run that exploded (|Q| exceeded what its "
    "rewards allow) keeps its score. "
    "Intervals: 95%, Student's t over held-out seeds; differences from the default by Welch's t, "
    "unpaired. On the search's seeds the winner's difference is biased upward, because it was chosen by them. The "
    "winner was chosen by the search alone, before it was trained on held-out seeds."
)

CAPTIONS = {
    "history": "Every trial's value in order, and the best so far.",
    "importances": "How important each option is for good trials.",
    "slices": "Value against each searched option.",
    "parallel": "One line per trial through its settings, coloured by its value.",
    "rungs": "Values of trials at the rungs they reached.",
    "cost": "The best value by the transitions used.",
}
"""Captions of the figures, by file name."""


def write_report(folder: Path) -> Page:
    """Write tables, figures, report.md and report.html of results/<study>/ from study.json, and return the page.

    Raises InputError if study.json is damaged.
    """
    with locks.locked(lock_of(folder, "report")):
        study = load_record(folder)
        table = trials_table(study)
        (folder / "tables").mkdir(exist_ok=True)
        write_text(folder / "tables" / "trials.csv", table.to_csv(index=False))
        shown = presented(table, study)
        write_text(folder / "tables" / "trials.md", markdown(shown) + "\n")
        figures = write_figures(study, folder / "figures")
        return written(page(study, shown, figures), folder / "report")


def trials_table(study: StudyRecord) -> pd.DataFrame:
    """Return one row per trial: state, value at every stage, settings and cost."""
    rows = []
    for trial in study.trials:
        row = {"number": trial.number, "state": trial.state, "value": trial.value}
        row |= {f"value_at_{steps}": trial.values.get(steps) for steps in study.stages}
        row |= {name: _cell(trial.params.get(name)) for name in study.space}
        row |= {"bracket": trial.bracket, "diverged": trial.diverged, "exploded": trial.exploded}
        rows.append(row | {"steps": trial.steps, "seconds": trial.seconds})
    return pd.DataFrame(rows)


def presented(table: pd.DataFrame, study: StudyRecord) -> pd.DataFrame:
    """Return the table for readers: best trials first, values rounded."""
    if not len(table):
        return table
    order = pd.DataFrame({"reached": [t.reached for t in study.trials], "value": [t.last for t in study.trials]})
    shown = table.loc[order.sort_values(["reached", "value"], ascending=False).index]
    shown = shown.drop(columns=["value"])
    for column in shown.select_dtypes("number").columns:
        if column not in ("number", "bracket", "diverged", "exploded", "steps") and shown[column].dtype != "int64":
            shown[column] = shown[column].map(lambda x: "" if pd.isna(x) else f"{x:.4g}")
    return as_text(shown).rename(columns={"steps": "transitions", "seconds": "training s"})


def page(study: StudyRecord, trials: pd.DataFrame, figures: list[Path]) -> Page:
    """Return the report's page."""
    states = Counter(map(str.lower, study.states))
    is_quick = is_small(study.name, study.algorithm, study.layers, study.stages[-1:])
    return Page(
        title=study.name,
        question=study.question,
        superseded=superseded_versions({study.algorithm: study.version}),
        setting=setting_in_words(study.layers, study.stages[-1:], study.envs, is_quick),
        is_quick=is_quick,
        answer=Answer(study.verdict.answer() if study.verdict else unchecked(study)),
        summary=f"{len(study.trials)} of {study.wanted} trials of {study.algorithm} on "
        f"{', '.join(study.envs)}, {len(study.seeds)} seed{'s' * (len(study.seeds) > 1)} each: "
        f"{', '.join(f'{n} {s}' for s, n in states.items()) or 'none yet'}.",
        sections=sections(
            ("The best trials on held-out seeds", _checked(study, study.verdict) if study.verdict else []),
            ("Runs that failed", [Points(tuple(study.failures))] * bool(study.failures)),
            ("How trials are evaluated", [text(_rules(study))]),
            ("Figures", [Picture(path, CAPTIONS[path.stem]) for path in figures]),
            ("Trials", [Grid(trials), text("Complete table: ", Link("tables/trials.csv", "tables/trials.csv"))]),
            ("Settings", _settings(study)),
            folded=("Settings",),
        ),
    )


def unchecked(study: StudyRecord) -> str:
    """Return why no trial was checked on held-out seeds."""
    states = Counter(study.states)
    failed = states["FAILED"]
    if failed and failed == len(study.trials):
        reason = f"Every trial failed ({failed} of {failed})"
    elif failed:
        reason = f"{failed} of {len(study.trials)} trials failed"
    elif study.failures:
        reason = "Runs of the default, or of the best trials on held-out seeds, failed"
    else:
        return "No trial was checked on held-out seeds yet. Run the same command to continue."
    return f"{reason}, so nothing was checked on held-out seeds. Run the same command to try again."


def failures(runs: pd.DataFrame) -> list[str]:
    """Return one line per reason why runs failed, from rows as in Results.runs."""
    failed = runs[runs["status"] == "failed"].fillna({"reason": "no reason recorded"})
    return [
        f"{', '.join(dict.fromkeys(of['variant']))} ({len(of)} run{'s' * (len(of) > 1)}): {reason}"
        for reason, of in failed.groupby("reason", sort=False)
    ]


def _checked(study: StudyRecord, verdict: Verdict) -> list[Block]:
    held_out = f"{study.name}-held-out"
    return [
        Grid(contenders(verdict)),
        text(
            "The winner as an experiment file: ",
            Link("best.toml", "best.toml"),
            " (`sac-bench run` does not train its runs again). The held-out runs: ",
            Link(held_out, f"../{held_out}/report", to_page=True),
            ".",
        ),
    ]


def _rules(study: StudyRecord) -> str:
    settings, runs = study.settings, study.runs_per_trial
    return RULES.format(
        acting="sampled actions" if study.scored_by == "sample" else "the mean action",
        objective={
            "final": "the mean over the evaluations in the last 10% of the steps",
            "area": "the mean over all steps of the curve of evaluations",
        }[settings["objective"]],
        aggregate="the interquartile mean (of fewer than four, the mean)"
        if settings["aggregate"] == "iqm"
        else f"the {settings['quantile']:g} quantile",
        runs=runs,
        scaled=", each environment's returns on the scale below" if settings["scale"] else "",
    )


def _settings(study: StudyRecord) -> list[Block]:
    """Return tables of the search space, the settings, the command and the cost."""
    space = {
        "option": list(study.space),
        "searched": [_range(option) for option in study.space.values()],
        "default": [_shown(study.default[name]) for name in study.space],
    }
    settings = {name: json.dumps(value) for name, value in study.settings.items()}
    settings |= {
        "command": study.command,
        "storage": study.storage,
        "training time of the last command": f"{study.training_seconds:.0f} s",
        "other time of the last command": f"{study.own_seconds:.1f} s",
    }
    return [
        Grid(pd.DataFrame(space)),
        Grid(pd.DataFrame({"setting": list(settings), "value": list(settings.values())})),
    ]


def contenders(verdict: Verdict) -> pd.DataFrame:
    """Return a table of the default and the best trials: values in the search, and on held-out seeds with intervals."""
    default, *trials = verdict.contenders
    return pd.DataFrame(
        [
            {
                "trial": one.name + (" (the winner)" if one is verdict.winner else ""),
                "settings": ", ".join(f"{key} = {_shown(value)}" for key, value in one.params.items()),
                "in the search": _number(one.searched),
                "difference there [95% CI]": _interval(one.searched_difference, signed),
                "held out": _number(one.held_out),
                "mean [95% CI]": _interval(one.mean, _number),
                "difference from the default [95% CI]": _interval(one.difference, signed),
                "diverged": one.diverged or "",
                "exploded": one.exploded or "",
            }
            for one in (default, *trials)
        ]
    )


def _interval(estimate: Estimate, number: Callable[[float], str]) -> str:
    """Return a value with its interval, "" if it is unknown, as the default's difference from itself is."""
    value, low, high = estimate
    if math.isnan(value):
        return ""
    return number(value) + ("" if math.isnan(low) else f" [{number(low)}, {number(high)}]")


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _range(option: SearchedOption) -> str:
    if option.choices:
        return ", ".join(map(_shown, option.choices))
    return f"{_shown(option.low)} to {_shown(option.high)}" + (", logarithmic" if option.log else "")


def _cell(value: Any) -> Any:
    """Return a value for a cell of the CSV file, not rounded."""
    return json.dumps(value) if isinstance(value, list | bool) else value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else json.dumps(value)
