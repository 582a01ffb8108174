"""Implements `sac-bench tune`: the search, the check on held-out seeds, the report."""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from pathlib import Path

from rich.console import Console

from sac_bench.execution.worker_options import Workers
from sac_bench.report.experiment import write_report as write_experiment_report
from sac_bench.results.collect import collect
from sac_bench.results.load import load_results
from sac_bench.store.atomic import write_text
from sac_bench.store.store import Store
from sac_bench.tuning import record, report
from sac_bench.tuning.held_out import Verdict, best, best_file, verdict
from sac_bench.tuning.score import worst_seen
from sac_bench.tuning.search import Search
from sac_bench.tuning.storage import database_errors
from sac_bench.tuning.study import Study
from sac_bench.tuning.training import Training, random_returns
from sac_bench.tuning.trials import Trial, Trials

BEST_FILE = "best.toml"


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
    """Search until the study has its trials, then check the best ones. Return whether everything succeeded."""
    start = time.monotonic()
    folder = store.experiment(study.name)
    with store.planner() as planner:
        training = Training(store, planner, workers, retrain, console)
        training.check_fit(study.probes())
        trials = Trials(study, store, planner, storage)

        def save(result: Verdict | None = None, failures: Sequence[str] = ()) -> None:
            described = record.describe(
                study,
                trials.all(),
                trials.importances(),
                storage=trials.at,
                command=command,
                training_seconds=training.seconds,
                own_seconds=time.monotonic() - start - training.seconds,
                failed=sorted(search.failed),
                failures=failures,
                verdict=result,
            )
            record.write_record(folder, described)

        search = Search(study, trials, training, command, on_wave=save)
        with trials.heartbeats(), database_errors(storage):
            save()
            search.run()
            best_trials = best(trials.all(), study.top)
            checked = bool(best_trials) and not search.failed
            result = _check(study, trials.all(), best_trials, training, command) if checked else None
            failures = report.failures(collect(store, search.listed(), command).runs)
            if checked:
                failures += report.failures(load_results(held_out_name(study), store.root).runs)
            save(result, failures)
    if result:
        write_text(folder / BEST_FILE, best_file(study, result.winner))
    report.write_report(folder)
    _print_result(console, folder, result, search.failed, failures)
    return result is not None or not (best_trials or search.failed)


def held_out_name(study: Study) -> str:
    """Return the name of the experiment that checks the best trials."""
    return f"{study.name}-held-out"


def _check(
    study: Study, trials: Sequence[Trial], best_trials: Sequence[Trial], training: Training, command: str
) -> Verdict | None:
    """Train the best trials and the default on held-out seeds, and return the verdict; None if runs failed."""
    store = training.store
    variants = [study.default, *(study.variant(trial.name, trial.params, study.steps) for trial in best_trials)]
    experiment = study.experiment(variants, held_out_name(study), study.held_out_seeds)
    collect(store, experiment, command)
    training.train(experiment, study.steps, splits=False)
    collect(store, experiment, command)
    write_experiment_report(store.experiment(experiment.name))
    ended = training.has_ended(study.default, study.seeds)
    if not ended or not all(training.has_ended(variant, study.held_out_seeds) for variant in variants):
        return None
    floor = random_returns(store, study.envs)
    default_scores = training.scores(study.default, study.seeds, study.objective)
    trial_scores = [trial.scores[study.steps] for trial in trials if study.steps in trial.scores]
    scores = {v.name: training.scores(v, study.held_out_seeds, study.objective) for v in variants}
    searched = {study.default.name: default_scores} | {trial.name: trial.scores[study.steps] for trial in best_trials}
    worst = (
        worst_seen([*trial_scores, default_scores], floor),
        worst_seen([*trial_scores, default_scores, *scores.values()], floor),
    )
    return verdict(study, best_trials, searched, scores, *worst)


def _print_result(
    console: Console, folder: Path, result: Verdict | None, failed: Collection[int], failures: Sequence[str]
) -> None:
    if result:
        console.print(result.answer(), highlight=False, soft_wrap=True)
        console.print(f"winner: {folder / BEST_FILE}", highlight=False, soft_wrap=True)
    for failure in failures:
        console.print(f"failed: {failure}", highlight=False, soft_wrap=True)
    if failed:
        console.print(
            f"failed runs in trials {', '.join(map(str, sorted(failed)))}; run the same command to try again, "
            "with --retrain also for runs whose environment raised an exception",
            highlight=False,
            soft_wrap=True,
        )
    console.print(f"report: {folder / 'report.html'}   figures: {folder / 'figures'}", highlight=False, soft_wrap=True)
