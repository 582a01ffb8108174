"""Writes a study's tables, figures and report from study.json alone, which the tuner writes (`describe`)."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
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
from sac_bench.store.atomic import read_json, write_json, write_text
from sac_bench.tuning.figures import write_figures
from sac_bench.tuning.held_out import Verdict, signed
from sac_bench.tuning.pruning import bracket
from sac_bench.tuning.study import Study
from sac_bench.tuning.trials import Trial

FILE = "study.json"
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


def describe(
    study: Study,
    trials: Sequence[Trial],
    importances: Mapping[str, float],
    *,
    storage: str,
    command: str,
    training_seconds: float,
    own_seconds: float,
    failed: Sequence[int],
    failures: Sequence[str] = (),
    verdict: Verdict | None = None,
) -> dict[str, Any]:
    """Return the content of study.json, as plain values: everything that the report needs."""
    configs = [study.default.configs[env].model_dump(mode="json") for env in study.envs]
    default = configs[0]
    return {
        "name": study.name,
        "question": study.question,
        "algorithm": study.algorithm,
        "version": ALGORITHMS[study.algorithm].version,
        "scored_by": ALGORITHMS[study.algorithm].scored_by,
        "envs": list(study.envs),
        "seeds": list(study.seeds),
        "held_out_seeds": list(study.held_out_seeds),
        "stages": list(study.stages),
        "layers": [list(of["layers"]) for of in configs if "layers" in of],
        "wanted": study.trials,
        "runs_per_trial": len(study.seeds) * len(study.envs),
        "value_means": value_means(study),
        "settings": {
            "sampler": f"{study.sampler} (seed {study.sampler_seed})",
            "batch": study.batch,
            "pruner": study.pruner,
            "reduction": study.reduction,
            "objective": study.objective,
            "aggregate": study.aggregate,
            "quantile": study.quantile,
            "scale": {env: list(ends) for env, ends in study.scale.items()},
        },
        "space": {d.name: {k: v for k, v in asdict(d).items() if k != "name" and v is not None} for d in study.space},
        "default": {d.name: default[d.name] for d in study.space},
        "trials": [_trial(trial, study, trial.number in failed) for trial in trials],
        "importances": dict(importances),
        "verdict": verdict.as_dict() if verdict else None,
        "failures": list(failures),
        "storage": storage,
        "command": command,
        "training_seconds": round(training_seconds, 2),
        "own_seconds": round(own_seconds, 2),
    }


def value_means(study: Study) -> str:
    """Return the meaning of a trial's value, as a label of an axis."""
    what = {"final": "final score", "area": "mean of the curve"}[study.objective]
    aggregate = "IQM" if study.aggregate == "iqm" else f"{study.quantile:g} quantile"
    return f"{what} ({aggregate}{', scaled' if study.scale else ''})"


def _trial(trial: Trial, study: Study, failed: bool) -> dict[str, Any]:
    last = max(trial.scores, default=None)
    runs = [run for of_env in trial.scores[last].values() for run in of_env] if last is not None else []
    cost = trial.costs.get(last, {}) if last is not None else {}
    return {
        "number": trial.number,
        "name": trial.name,
        "state": "FAILED" if failed else trial.state,
        "params": trial.params,
        "value": trial.value,
        "values": {str(steps): value for steps, value in trial.values.items()},
        "diverged": sum(run.diverged for run in runs),
        "exploded": sum(run.exploded for run in runs),
        "bracket": bracket(trial.number, study.pruner, len(study.rungs), study.reduction),
        "seconds": cost.get("seconds", 0.0),
        "steps": cost.get("steps", 0),
    }


def write_study(folder: Path, about: dict[str, Any]) -> None:
    """Write study.json."""
    with locks.locked(lock_of(folder, "tables")):
        write_json(folder / FILE, about)


def write_report(folder: Path) -> Page:
    """Write tables, figures, report.md and report.html of results/<study>/ from study.json, and return the page.

    Raises InputError if study.json is damaged.
    """
    with locks.locked(lock_of(folder, "report")):
        about = read_json(folder / FILE)
        try:
            table = trials_table(about)
            (folder / "tables").mkdir(exist_ok=True)
            write_text(folder / "tables" / "trials.csv", table.to_csv(index=False))
            shown = presented(table, about)
            write_text(folder / "tables" / "trials.md", markdown(shown) + "\n")
            figures = write_figures(about, folder / "figures")
            return written(page(about, shown, figures), folder / "report")
        except (KeyError, TypeError, AttributeError, ValueError, jinja2.TemplateError) as error:
            raise InputError(
                f"{folder}: its files are not in sac-bench's format: {type(error).__name__}: {error}; "
                "run sac-bench tune again to rewrite them"
            ) from None


def trials_table(about: dict[str, Any]) -> pd.DataFrame:
    """Return one row per trial: state, value at every stage, settings and cost."""
    rows = []
    for trial in about["trials"]:
        row = {key: trial[key] for key in ("number", "state", "value")}
        row |= {f"value_at_{steps}": trial["values"].get(str(steps)) for steps in about["stages"]}
        row |= {name: _cell(trial["params"].get(name)) for name in about["space"]}
        row |= {key: trial[key] for key in ("bracket", "diverged")} | {"exploded": trial.get("exploded", 0)}
        rows.append(row | {key: trial[key] for key in ("steps", "seconds")})
    return pd.DataFrame(rows)


def presented(table: pd.DataFrame, about: dict[str, Any]) -> pd.DataFrame:
    """Return the table for readers: best trials first, values rounded."""
    if not len(table):
        return table
    last = pd.Series([max(map(int, trial["values"]), default=0) for trial in about["trials"]], index=table.index)
    order = pd.DataFrame({"last": last, "value": [_last(t) for t in about["trials"]]}, index=table.index)
    shown = table.loc[order.sort_values(["last", "value"], ascending=False).index]
    shown = shown.drop(columns=["value"])
    for column in shown.select_dtypes("number").columns:
        if column not in ("number", "bracket", "diverged", "exploded", "steps") and shown[column].dtype != "int64":
            shown[column] = shown[column].map(lambda x: "" if pd.isna(x) else f"{x:.4g}")
    return as_text(shown).rename(columns={"steps": "transitions", "seconds": "training s"})


def page(about: dict[str, Any], trials: pd.DataFrame, figures: list[Path]) -> Page:
    """Return the report's page."""
    states = Counter(trial["state"].lower() for trial in about["trials"])
    verdict = about["verdict"]
    is_quick = is_small(about["name"], about["algorithm"], about.get("layers", []), about["stages"][-1:])
    return Page(
        title=about["name"],
        question=about["question"],
        superseded=superseded_versions({about["algorithm"]: about["version"]}),
        setting=setting_in_words(about.get("layers", []), about["stages"][-1:], about["envs"], is_quick),
        is_quick=is_quick,
        answer=Answer(Verdict.from_dict(verdict).answer() if verdict else unchecked(about)),
        summary=f"{len(about['trials'])} of {about['wanted']} trials of {about['algorithm']} on "
        f"{', '.join(about['envs'])}, {len(about['seeds'])} seed{'s' * (len(about['seeds']) > 1)} each: "
        f"{', '.join(f'{n} {s}' for s, n in states.items()) or 'none yet'}.",
        sections=sections(
            ("The best trials on held-out seeds", _checked(about) if verdict else []),
            ("Runs that failed", [Points(tuple(about.get("failures", ())))] * bool(about.get("failures"))),
            ("How trials are evaluated", [text(_rules(about))]),
            ("Figures", [Picture(path, CAPTIONS[path.stem]) for path in figures]),
            ("Trials", [Grid(trials), text("Complete table: ", Link("tables/trials.csv", "tables/trials.csv"))]),
            ("Settings", _settings(about)),
            folded=("Settings",),
        ),
    )


def unchecked(about: dict[str, Any]) -> str:
    """Return why no trial was checked on held-out seeds."""
    states = Counter(trial["state"] for trial in about["trials"])
    failed = states["FAILED"]
    if failed and failed == len(about["trials"]):
        reason = f"Every trial failed ({failed} of {failed})"
    elif failed:
        reason = f"{failed} of {len(about['trials'])} trials failed"
    elif about.get("failures"):
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


def _checked(about: dict[str, Any]) -> list[Block]:
    held_out = f"{about['name']}-held-out"
    return [
        Grid(contenders(about)),
        text(
            "The winner as an experiment file: ",
            Link("best.toml", "best.toml"),
            " (`sac-bench run` does not train its runs again). The held-out runs: ",
            Link(held_out, f"../{held_out}/report", to_page=True),
            ".",
        ),
    ]


def _rules(about: dict[str, Any]) -> str:
    settings, runs = about["settings"], about["runs_per_trial"]
    return RULES.format(
        acting="sampled actions" if about.get("scored_by") == "sample" else "the mean action",
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


def _settings(about: dict[str, Any]) -> list[Block]:
    """Return tables of the search space, the settings, the command and the cost."""
    space = {
        "option": list(about["space"]),
        "searched": [_range(dimension) for dimension in about["space"].values()],
        "default": [_shown(about["default"][name]) for name in about["space"]],
    }
    settings = {name: json.dumps(value) for name, value in about["settings"].items()}
    settings |= {
        "command": about["command"],
        "storage": about["storage"],
        "training time of the last command": f"{about['training_seconds']:.0f} s",
        "other time of the last command": f"{about['own_seconds']:.1f} s",
    }
    return [
        Grid(pd.DataFrame(space)),
        Grid(pd.DataFrame({"setting": list(settings), "value": list(settings.values())})),
    ]


def contenders(about: dict[str, Any]) -> pd.DataFrame:
    """Return a table of the default and the best trials: values in the search, and on held-out seeds with intervals."""
    rows = []
    for i, one in enumerate(about["verdict"]["contenders"]):
        mean, gap, searched = one["mean"], one["difference"], one.get("searched_difference")
        rows.append(
            {
                "trial": one["name"] + (" (the winner)" if i == 1 else ""),
                "settings": ", ".join(f"{key} = {_shown(value)}" for key, value in one["params"].items()),
                "in the search": _number(one["searched"]),
                "difference there [95% CI]": _interval(searched, signed)
                if i and searched and searched[0] is not None
                else "",
                "held out": _number(one["held_out"]),
                "mean [95% CI]": _interval(mean, _number),
                "difference from the default [95% CI]": "" if i == 0 else _interval(gap, signed),
                "diverged": one["diverged"] or "",
                "exploded": one.get("exploded") or "",
            }
        )
    return pd.DataFrame(rows)


def _interval(estimate: Sequence[float | None], number: Any) -> str:
    value, low, high = estimate
    return number(value) + ("" if low is None or high is None else f" [{number(low)}, {number(high)}]")


def _number(value: float) -> str:
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.3g}"


def _last(trial: dict[str, Any]) -> float:
    return trial["values"][max(trial["values"], key=int)] if trial["values"] else float("-inf")


def _range(dimension: dict[str, Any]) -> str:
    if "choices" in dimension:
        return ", ".join(map(_shown, dimension["choices"]))
    return f"{_shown(dimension['low'])} to {_shown(dimension['high'])}" + (", logarithmic" if dimension["log"] else "")


def _cell(value: Any) -> Any:
    """Return a value for a cell of the CSV file, not rounded."""
    return json.dumps(value) if isinstance(value, list | bool) else value


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else json.dumps(value)
