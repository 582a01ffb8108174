"""The whole of `sac-bench tune`: the search, the check on held-out seeds, the report."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.analysis.report import write_report as write_experiment_report
from sac_bench.files import write_atomically
from sac_bench.results import collect
from sac_bench.store import Store
from sac_bench.tuning import report
from sac_bench.tuning.held_out import Verdict, best, best_file, verdict
from sac_bench.tuning.score import objective_value, worst_seen
from sac_bench.tuning.search import Search
from sac_bench.tuning.study import Study
from sac_bench.tuning.training import Training, random_returns
from sac_bench.tuning.trials import Trials

BEST = "best.toml"


def tune(
    study: Study,
    store: Store,
    *,
    storage: str | None,
    device: str,
    workers: int,
    imports: Sequence[str],
    retrain: bool,
    console: Console,
    command: str,
) -> bool:
    """Search until the study has its trials, then check its best; whether all of it succeeded."""
    began = time.monotonic()
    folder = store.experiment(study.name)
    with store.planner() as planner:
        trials = Trials(study, store, planner, storage)
        training = Training(store, planner, device, workers, imports, retrain, console)
        found: dict[str, float | Verdict] = {}

        def keep() -> None:
            about = report.describe(
                study, trials.all(), trials.importances(), storage=trials.at, command=command,
                training_seconds=training.seconds, own_seconds=time.monotonic() - began - training.seconds,
                failed=sorted(search.failed), **found,  # type: ignore[arg-type]
            )  # fmt: skip
            report.write_study(folder, about)

        search = Search(study, trials, training, command, waved=keep)
        with trials.heartbeats():
            search.run()
            chosen = best(trials.all(), study.top)
            succeeded = not search.failed
            if chosen and succeeded:
                succeeded = _check(study, trials, training, command, found, folder)
            collect(store, search.listed(), command)
            keep()
    report.write_report(folder)
    _say(study, console, folder, found, search.failed)
    return succeeded


def _check(
    study: Study, trials: Trials, training: Training, command: str, found: dict[str, float | Verdict], folder: Path
) -> bool:
    """Train the default on the search's seeds, and it and the best trials on held-out ones; into `found`."""
    store, chosen = training.store, best(trials.all(), study.top)
    training.train(study.experiment([study.default]), study.steps, splits=False)
    variants = [study.default, *(study.variant(trial.name, trial.params, study.steps) for trial in chosen)]
    name = f"{study.name}-held-out"
    experiment = study.experiment(variants, name, study.held_out_seeds)
    collect(store, experiment, command)
    training.train(experiment, study.steps, splits=False)
    ended = training.has_ended(study.default, study.seeds)
    ended = ended and all(training.has_ended(variant, study.held_out_seeds) for variant in variants)
    floor = random_returns(store, study.envs)
    if ended:
        own = training.scores(study.default, study.seeds, study.objective)
        others = [trial.scores[study.steps] for trial in trials.all() if study.steps in trial.scores]
        worst = worst_seen([*others, own], floor)
        searched = objective_value(own, worst, study.scale, study.aggregate, study.quantile)
        scores = {v.name: training.scores(v, study.held_out_seeds, study.objective) for v in variants}
        judged = verdict(study, chosen, searched, scores, floor)
        found |= {"default_searched": searched, "verdict": judged}
        write_atomically(folder / BEST, best_file(study, judged.winner).encode())
    collect(store, experiment, command)
    write_experiment_report(store.experiment(name))
    return ended


def _say(study: Study, console: Console, folder: Path, found: dict[str, float | Verdict], failed: set[int]) -> None:
    judged = found.get("verdict")
    if isinstance(judged, Verdict):
        console.print(judged.answer(), highlight=False, soft_wrap=True)
        console.print(f"winner: {folder / BEST}", highlight=False, soft_wrap=True)
    if failed:
        console.print(f"failed runs in trials {', '.join(map(str, sorted(failed)))}; the same command tries again",
                      highlight=False, soft_wrap=True)  # fmt: skip
    console.print(f"report: {folder / 'report.md'}   figures: {folder / 'figures'}", highlight=False, soft_wrap=True)
