"""How a tuner has runs trained: ordinary experiments, by the ordinary plan and workers."""

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
from sac_bench.execution.plan import Plan, make_plan
from sac_bench.execution.split import split_cohort, widths_are_equal
from sac_bench.execution.train import Workers, carry_out
from sac_bench.spec.experiment import Experiment, Variant
from sac_bench.spec.run import RunSpec
from sac_bench.spec.toml import located
from sac_bench.store.store import ENDED, Store, standing_at
from sac_bench.tuning.score import RunScore, Scores, scored


@dataclass
class Training:
    """Trains experiments in the name of one living planner, and reads what came of them."""

    store: Store
    planner: str
    workers: Workers
    retrain: bool
    console: Console
    seconds: float = 0.0
    """That workers were at it."""

    def train(self, experiment: Experiment, last_steps: int, splits: bool) -> None:
        """Bring every run to its variant's steps; replays are kept of those that have not `last_steps` yet.

        `splits`: its variants may part on the way. Then a variant is a cohort of its own, but where a cohort can be
        narrowed to the runs that go on.
        """
        wanted = {spec.id: spec for _, spec in experiment.runs()}
        with located(experiment.source), self.store.planning():
            split_cohort(
                self.store,
                [run_id for run_id in wanted if self._is_under_way(run_id)],
                self.planner,
                self.workers.device,
            )
            plan = make_plan(
                experiment,
                self.store,
                self.workers.count,
                self.workers.memory,
                self.workers.device,
                self.retrain,
                self._labels(experiment) if splits else {},
            )
            for last in (False, True):
                cohorts = tuple(cohort for cohort in plan.cohorts if (cohort.steps >= last_steps) == last)
                planning.write(Plan((), cohorts), self.store, self.planner, keep_replay=not last)
        if plan.cohorts:
            began = time.monotonic()
            try:
                carry_out(plan, self.store, self.workers, self.console)
            finally:
                self.seconds += time.monotonic() - began

    def check_fit(self, variants: Iterable[Variant]) -> None:
        """InputError for a structure of which not even one run would fit into this machine's memory."""
        seen: set[tuple[str, str]] = set()
        for variant in variants:
            for spec in runs_of(variant, [0]):
                if (spec.env, structure := spec.structure()) not in seen:
                    planning.check_fits(
                        1, spec, variant.steps[spec.env], self.workers.memory, self.workers.count, self.workers.device
                    )
                    seen.add((spec.env, structure))

    def free(self, run_ids: Sequence[str], needed: Sequence[str]) -> None:
        """Drop the replays of cohorts of these runs that none of the `needed` runs is in."""
        with self.store.planning():
            for cohort in sorted(self._cohorts(run_ids) - self._cohorts(needed)):
                planning.release(self.store, cohort, self.planner)

    def has_ended(self, variant: Variant, seeds: Sequence[int]) -> bool:
        """Whether all runs of a variant have its steps, or diverged."""
        return all(self._standing(spec, variant.steps[spec.env]) in ENDED for spec in runs_of(variant, seeds))

    def scores(self, variant: Variant, seeds: Sequence[int], objective: str) -> Scores:
        """Of a variant whose runs have ended."""
        found: dict[str, list[RunScore]] = {}
        for spec in runs_of(variant, seeds):
            steps = variant.steps[spec.env]
            table = self.store.run(spec.id).table("evaluations")
            if len(table):
                table = table[spec.config.is_evaluated(table["step"], steps)]
            curve = curve_to(policy_rows(table, ALGORITHMS[spec.algorithm].scored_by), steps)
            diverged = self._standing(spec, steps) == "diverged"
            found.setdefault(spec.env, []).append(scored(*curve, steps, objective, diverged))
        return found

    def cost(self, variant: Variant, seeds: Sequence[int]) -> dict[str, float]:
        """Training time of a variant's runs, their shares of their cohorts', and their transitions."""
        statuses = [(spec, self.store.run(spec.id).status()) for spec in runs_of(variant, seeds)]
        seconds = sum(status.get("share_seconds", 0.0) for _, status in statuses)
        steps = sum(min(status["steps"], variant.steps[spec.env]) for spec, status in statuses)
        return {"seconds": round(seconds, 3), "steps": steps}

    def _cohorts(self, run_ids: Sequence[str]) -> set[str]:
        return {cohort for run_id in run_ids if (cohort := self.store.run(run_id).status().get("cohort"))}

    def _is_under_way(self, run_id: str) -> bool:
        status = self.store.run(run_id).status()
        return status["status"] in ("started", "finished") and status["steps"] > 0

    def _standing(self, spec: RunSpec, steps: int) -> str:
        return standing_at(self.store.run(spec.id).status(), steps)

    def _labels(self, experiment: Experiment) -> dict[str, str]:
        together = widths_are_equal(self.workers.device)
        return {spec.id: "" if together else variant.name for variant, spec in experiment.runs()}


def runs_of(variant: Variant, seeds: Sequence[int]) -> list[RunSpec]:
    """A variant's runs, environment by environment."""
    return [RunSpec(variant.algorithm, config, env, seed) for env, config in variant.configs.items() for seed in seeds]


def to(variant: Variant, steps: int) -> Variant:
    """A variant trained to `steps` everywhere."""
    return replace(variant, steps=dict.fromkeys(variant.steps, steps))


def random_returns(store: Store, envs: Sequence[str]) -> Mapping[str, float]:
    """{env: a random policy's mean return}, measured where that was not known; none where it is not finite."""
    from sac_bench.evaluation.random_policy import measure_random_policies
    from sac_bench.store.atomic import read_json

    measure_random_policies(store, envs)
    found: dict[str, Any] = {env: store.environment(env) for env in envs}
    means = {env: read_json(path)["return_mean"] for env, path in found.items() if path.exists()}
    return {env: mean for env, mean in means.items() if mean is not None and math.isfinite(mean)}
