"""The whole of `sac-bench tune`: the search, the check on held-out seeds, the report."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.execution.train import Workers
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.results.collect import collect
from sac_bench.results.load import load_results
from sac_bench.store.atomic import write_text
from sac_bench.store.store import Store
from sac_bench.tuning import report
from sac_bench.tuning.held_out import Verdict, best, best_file, verdict
from sac_bench.tuning.score import worst_seen
from sac_bench.tuning.search import Search
from sac_bench.tuning.storage import telling_of
from sac_bench.tuning.study import Study
from sac_bench.tuning.training import Training, random_returns
from sac_bench.tuning.trials import Trial, Trials

BEST = "best.toml"


def tune(
    study: Study,
    store: Store,
    workers: Workers,
    *,
    storage: str | None,
    retrain: bool,
    console: Console,
    command: str,
) -> bool:
    """Search until the study has its trials, then check its best; whether all of it succeeded."""
    began = time.monotonic()
    folder = store.experiment(study.name)
    with store.planner() as planner:
        training = Training(store, planner, workers, retrain, console)
        training.check_fit(study.probes())
        trials = Trials(study, store, planner, storage)

        def keep(judged: Verdict | None = None, failures: Sequence[str] = ()) -> None:
            about = report.describe(
                study,
                trials.all(),
                trials.importances(),
                storage=trials.at,
                command=command,
                training_seconds=training.seconds,
                own_seconds=time.monotonic() - began - training.seconds,
                failed=sorted(search.failed),
                failures=failures,
                verdict=judged,
            )
            report.write_study(folder, about)

        search = Search(study, trials, training, command, waved=keep)
        with trials.heartbeats(), telling_of(storage):
            keep()
            search.run()
            chosen = best(trials.all(), study.top)
            judged = _check(study, trials.all(), chosen, training, command) if chosen and not search.failed else None
            failures = report.failures(collect(store, search.listed(), command).runs)
            if chosen and not search.failed:
                failures += report.failures(load_results(held_out_name(study), store.root).runs)
            keep(judged, failures)
    if judged:
        write_text(folder / BEST, best_file(study, judged.winner))
    report.write_report(folder)
    _say(console, folder, judged, search.failed, failures)
    return judged is not None or not (chosen or search.failed)


def held_out_name(study: Study) -> str:
    """Of the experiment that checks the best trials."""
    return f"{study.name}-held-out"


def _check(
    study: Study, trials: Sequence[Trial], chosen: Sequence[Trial], training: Training, command: str
) -> Verdict | None:
    """Train the best trials and the default on held-out seeds; None where runs failed."""
    store = training.store
    variants = [study.default, *(study.variant(trial.name, trial.params, study.steps) for trial in chosen)]
    experiment = study.experiment(variants, held_out_name(study), study.held_out_seeds)
    collect(store, experiment, command)
    training.train(experiment, study.steps, splits=False)
    collect(store, experiment, command)
    write_experiment_report(store.experiment(experiment.name))
    ended = training.has_ended(study.default, study.seeds)
    if not ended or not all(training.has_ended(variant, study.held_out_seeds) for variant in variants):
        return None
    floor = random_returns(store, study.envs)
    own = training.scores(study.default, study.seeds, study.objective)
    others = [trial.scores[study.steps] for trial in trials if study.steps in trial.scores]
    scores = {v.name: training.scores(v, study.held_out_seeds, study.objective) for v in variants}
    searched = {study.default.name: own} | {trial.name: trial.scores[study.steps] for trial in chosen}
    worst = worst_seen([*others, own], floor), worst_seen([*others, own, *scores.values()], floor)
    return verdict(study, chosen, searched, scores, *worst)


def _say(
    console: Console, folder: Path, judged: Verdict | None, failed: Collection[int], failures: Sequence[str]
) -> None:
    if judged:
        console.print(judged.answer(), highlight=False, soft_wrap=True)
        console.print(f"winner: {folder / BEST}", highlight=False, soft_wrap=True)
    for failure in failures:
        console.print(f"failed: {failure}", highlight=False, soft_wrap=True)
    if failed:
        console.print(
            f"failed runs in trials {', '.join(map(str, sorted(failed)))}; the same command tries again, "
            "with --retrain also runs whose environment raised an exception",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"report: {folder / 'report.html'}   figures: {folder / 'figures'}", highlight=False, soft_wrap=True)
