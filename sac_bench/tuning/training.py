"""Trains a tuner's runs as ordinary experiments, with the ordinary plan and workers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rich.console import Console

from sac_bench.algorithms import ALGORITHMS
from sac_bench.analysis.scores import curve_to, policy_rows
from sac_bench.execution import plan as planning
from sac_bench.execution.plan import Plan
from sac_bench.execution.split import split_cohort, widths_are_equal
from sac_bench.execution.train import carry_out
from sac_bench.execution.train import plan as make_plan
from sac_bench.execution.worker_options import Workers
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.run import RunSpec
from sac_bench.spec.toml import located
from sac_bench.spec.variant import Variant
from sac_bench.store.status import ENDED, exploded_at, standing_at
from sac_bench.store.store import Store
from sac_bench.tuning.score import RunScore, Scores, scored


@dataclass
class Training:
    """Trains experiments in the name of one planner, and reads the results."""

    store: Store
    planner: str
    workers: Workers
    retrain: bool
    console: Console
    seconds: float = 0.0
    """Time that workers have trained."""

    def train(self, experiment: Experiment, last_steps: int, splits: bool) -> None:
        """Train every run to its variant's steps. Replays of runs with fewer than `last_steps` steps are kept.

        splits: some variants may be continued without the others. Where cohorts cannot be split (execution/split.py),
        each variant then gets a cohort of its own.
        """
        run_ids = list(dict.fromkeys(spec.id for _, spec in experiment.runs()))
        with located(experiment.source), self.store.planning():
            planning.check_devices(experiment, self.store, self.workers.device, self.retrain)
            started = [run_id for run_id in run_ids if self._has_started(run_id)]
            split_cohort(self.store, started, self.planner, self.workers.device)
            labels = self._labels(experiment) if splits else {}
            plan = make_plan(experiment, self.store, self.workers, self.retrain, labels=labels)
            for last in (False, True):
                cohorts = tuple(cohort for cohort in plan.cohorts if (cohort.steps >= last_steps) == last)
                planning.write(Plan((), cohorts), self.store, self.planner, keep_replay=not last)
        if plan.cohorts:
            start = time.monotonic()
            try:
                carry_out(replace(plan, names=experiment.names()), self.store, self.workers, self.console)
            finally:
                self.seconds += time.monotonic() - start

    def check_fit(self, variants: Iterable[Variant]) -> None:
        """Raise InputError if a run of one of the variants does not fit into this machine's memory."""
        seen: set[tuple[str, str]] = set()
        for variant in variants:
            for spec in runs_of(variant, [0]):
                if (spec.env, structure := spec.structure()) not in seen:
                    planning.check_fits(
                        1, spec, variant.steps[spec.env], self.workers.memory, self.workers.count, self.workers.device
                    )
                    seen.add((spec.env, structure))

    def free(self, run_ids: Sequence[str], needed: Sequence[str]) -> None:
        """Drop the replays of the cohorts of these runs, except cohorts with `needed` runs."""
        with self.store.planning():
            for cohort in sorted(self._cohorts(run_ids) - self._cohorts(needed)):
                planning.release(self.store, cohort, self.planner)

    def has_ended(self, variant: Variant, seeds: Sequence[int]) -> bool:
        """Return whether all runs of a variant have its steps or diverged."""
        return all(self._standing(spec, variant.steps[spec.env]) in ENDED for spec in runs_of(variant, seeds))

    def scores(self, variant: Variant, seeds: Sequence[int], objective: str) -> Scores:
        """Return the scores of a variant whose runs have ended."""
        scores: dict[str, list[RunScore]] = {}
        for spec in runs_of(variant, seeds):
            steps = variant.steps[spec.env]
            table = self.store.run(spec.id).table("evaluations")
            if len(table):
                table = table[spec.evaluated_by(table["policy"], table["step"], steps)]
            curve = curve_to(policy_rows(table, ALGORITHMS[spec.algorithm].scored_by), steps)
            status = self.store.run(spec.id).status()
            score = scored(*curve, steps, objective, standing_at(status, steps) == "diverged")
            score = replace(score, exploded=exploded_at(status, steps) is not None)
            scores.setdefault(spec.env, []).append(score)
        return scores

    def cost(self, variant: Variant, seeds: Sequence[int]) -> dict[str, float]:
        """Return {"seconds": the runs' shares of their cohorts' training time, "steps": their transitions}."""
        statuses = [(spec, self.store.run(spec.id).status()) for spec in runs_of(variant, seeds)]
        seconds = sum(status.get("share_seconds", 0.0) for _, status in statuses)
        steps = sum(min(status["steps"], variant.steps[spec.env]) for spec, status in statuses)
        return {"seconds": round(seconds, 3), "steps": steps}

    def _cohorts(self, run_ids: Sequence[str]) -> set[str]:
        return {cohort for run_id in run_ids if (cohort := self.store.run(run_id).status().get("cohort"))}

    def _has_started(self, run_id: str) -> bool:
        status = self.store.run(run_id).status()
        return status["status"] in ("started", "finished") and status["steps"] > 0

    def _standing(self, spec: RunSpec, steps: int) -> str:
        return standing_at(self.store.run(spec.id).status(), steps)

    def _labels(self, experiment: Experiment) -> dict[str, str]:
        can_split = widths_are_equal(self.workers.device)
        return {spec.id: "" if can_split else variant.name for variant, spec in experiment.runs()}


def runs_of(variant: Variant, seeds: Sequence[int]) -> list[RunSpec]:
    """Return a variant's runs, ordered by environment."""
    return [RunSpec(variant.algorithm, config, env, seed) for env, config in variant.configs.items() for seed in seeds]


def with_steps(variant: Variant, steps: int) -> Variant:
    """Return the variant with `steps` steps on every environment."""
    return replace(variant, steps=dict.fromkeys(variant.steps, steps))


def random_returns(store: Store, envs: Sequence[str]) -> Mapping[str, float]:
    """Return {env: a random policy's mean return}, measured if unknown, without those that are not finite."""
    from sac_bench.evaluation.random_policy import measure_random_policies
    from sac_bench.store.atomic import read_json

    measure_random_policies(store, envs)
    paths: dict[str, Any] = {env: store.environment(env) for env in envs}
    means = {env: read_json(path)["return_mean"] for env, path in paths.items() if path.exists()}
    return {env: mean for env, mean in means.items() if mean is not None and math.isfinite(mean)}
