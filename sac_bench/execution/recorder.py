"""Writes a cohort's progress to its runs' directories: rows of tables, statuses, policies and weights."""

from __future__ import annotations

import datetime
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from safetensors.torch import save

from sac_bench.algorithms.pytree import named_tensors
from sac_bench.execution.checkpoint import CohortDirectory, Record
from sac_bench.spec.run import RunSpec
from sac_bench.store.run import RunDirectory
from sac_bench.store.status import ENDED, Conditions, StatusChanges, has_raised
from sac_bench.training.flops import arithmetic
from sac_bench.training.trainer import Segment, Trainer

ACTING = {"mean": "mean action", "sample": "sampled"}


class Recorder:
    """Writes what a trainer's members did.

    runs: the cohort's runs, in member order; own_runs: those of them that this cohort still trains. A run that was
    trained again in another cohort keeps its slot here, and nothing of it is written. directory: the cohort's.
    """

    def __init__(
        self,
        trainer: Trainer,
        runs: Sequence[RunDirectory],
        own_runs: Sequence[RunDirectory],
        directory: CohortDirectory,
    ) -> None:
        self._trainer, self._runs, self._own_runs, self._directory = trainer, runs, own_runs, directory
        self._segment: Segment  # recorded last

    def active_runs(self) -> dict[int, RunDirectory]:
        """Return {member: run} of the runs that have not stopped."""
        return {m: run for m, run in enumerate(self._runs) if not self._trainer.progress.stopped[m]}

    def start(self, conditions: Conditions, resumed: bool, about: Mapping[str, Any]) -> None:
        """Mark the active runs as started, and note the conditions if they differ from those recorded last.

        Raises TakenOver if another process has taken the cohort over.
        """
        for member, run in self.active_runs().items():
            stages = run.status().get("conditions", []) if resumed else []
            if not stages or stages[-1] | {"since": 0} != {**conditions, "since": 0}:
                stages = [*stages, {"since": self._trainer.steps, **conditions}]
            started: StatusChanges = {"status": "started", "conditions": stages, "reason": None, "raised_at": None}
            changes = {**about, **started, **_arithmetic(run.spec()), **self._state_of(member)}
            run.update(**changes)

    def record(self, segment: Segment) -> dict[str, Record]:
        """Return what a segment adds to the active runs, by id, and stop the members that stopped in it.

        Nothing is written.
        """
        self._segment, records = segment, {}
        for member, run in self.active_runs().items():
            records[run.id] = self._record(member, segment)
            if member in segment.stops:
                self._trainer.progress.stopped[member] = True
        return records

    def publish(self, records: Mapping[str, Record]) -> None:
        """Write to the runs' directories what a segment added, but tables. Call it once these are written.

        Runs that stopped in it are ended.
        """
        stops = {self._runs[member].id: stop for member, stop in self._segment.stops.items()}
        for run in self._runs:
            if run.id not in records:
                continue
            if stop := stops.get(run.id):
                run.log(f"{_now()} {stop.status}: {stop.reason}\n{stop.log}".rstrip())
                if stop.status == "failed":
                    print(f"run {run.id} failed: {stop.reason}\n{stop.log}", file=sys.stderr, flush=True)
            else:
                run.log(_progress(self._segment.steps, records[run.id]["rows"]["evaluations"]))
            self._update(run, records[run.id]["status"])
        self.write_policies()

    def publish_again(self, statuses: Mapping[str, StatusChanges]) -> None:
        """Write what a restored checkpoint adds to statuses and policies, in case its process did not."""
        for run in self._own_runs:
            status = run.status()  # "failed" if its worker was killed too often
            if "status" in statuses.get(run.id, {}) and status["status"] not in ENDED and not has_raised(status):
                self._update(run, statuses[run.id])
        self.write_policies()

    def write_policies(self) -> None:
        """Write the policies of the active runs. Raises TakenOver if another process has taken the cohort over."""
        policy = self._trainer.cohort.learner.policy(self._trainer.cohort.state)
        leaves, steps = named_tensors(policy), str(self._trainer.steps)
        for member, run in self.active_runs().items():
            tensors = {name: leaf[member].cpu().contiguous() for name, leaf in leaves.items()}
            run.replace(run.policy, save(tensors, metadata={"steps": steps}))

    def write_weights(self) -> None:
        """Write the weights that other runs can start from. Raises TakenOver as `write_policies` does."""
        for member, run in self.active_runs().items():
            tensors, steps = self._trainer.cohort.weights(member), str(self._trainer.steps)
            run.replace(run.weights, save(tensors, metadata={"steps": steps}))

    def finish(self) -> None:
        """Mark the active runs as finished."""
        for run in self.active_runs().values():
            run.end("finished", self._directory.tables().get(run.id))

    def log(self, line: str) -> None:
        """Write a line to the log of every own run, and to standard error."""
        print(line, file=sys.stderr, flush=True)
        for run in self._own_runs:
            run.log(f"{_now()} {line}")

    def _update(self, run: RunDirectory, status: StatusChanges) -> None:
        """Write entries of a run's status, and end the run if it has diverged."""
        if status.get("status") == "diverged":
            last = run.table("training").drop(columns=["step", "episodes"]).ffill().iloc[-1].dropna().to_dict()
            ended: dict[str, Any] = {**status, "last_finite": last}
            run.end(**ended, tables=self._directory.tables().get(run.id))
        else:
            run.update(**status)

    def _state_of(self, member: int) -> StatusChanges:
        """Return the steps, the seconds, and the step at which the run exploded, as entries of its status."""
        progress = self._trainer.progress
        return {
            "steps": self._trainer.steps,
            "exploded": self._trainer.explosions.at(member),
            "wall_seconds": round(progress.wall_seconds, 3),
            "share_seconds": round(progress.share_seconds, 3),
            "evaluation_seconds": round(progress.evaluation_seconds, 3),
            "saving_seconds": round(progress.saving_seconds, 3),
        }

    def _record(self, member: int, segment: Segment) -> Record:
        """Return the rows of a segment and the status after it. A failed run stays at its last segment."""
        metrics = {name: float(values[member]) for name, values in segment.metrics.items()}
        cells = {name: value if math.isfinite(value) else "" for name, value in metrics.items()}
        wall = round(self._trainer.progress.wall_seconds, 3)
        if stop := segment.stops.get(member):
            if stop.status == "failed":
                return {"rows": {}, "status": {"status": "failed", "reason": stop.reason, "raised_at": stop.step}}
            row = {"step": stop.step, "episodes": "", "return_mean": "", **cells}
            ended: StatusChanges = {"status": "diverged", "steps": stop.step, "reason": stop.reason}
            return {"rows": {"training": [row]}, "status": self._state_of(member) | ended}
        evaluations: list[dict[str, Any]] = []
        episodes: list[dict[str, Any]] = []
        for p, policy in enumerate(segment.episodes.policies):
            returns, lengths = segment.episodes.returns[member, p], segment.episodes.lengths[member, p]
            evaluations.append(
                {
                    "step": segment.steps,
                    "policy": policy,
                    "return_mean": float(returns.mean()),
                    "return_std": float(returns.std()),
                    "length_mean": float(lengths.mean()),
                    "episodes": len(returns),
                    "wall_seconds": wall,
                }
            )
            episodes += [
                {"step": segment.steps, "policy": policy, "episode": e, "return": float(returns[e]), "length": int(n)}
                for e, n in enumerate(lengths)
            ]
        finished = segment.training_returns[member]
        training: dict[str, Any] = {"step": segment.steps, "episodes": len(finished)}
        training["return_mean"] = float(np.mean(finished)) if finished else ""
        rows = {"evaluations": evaluations, "episodes": episodes, "training": [training | cells]}
        return {"rows": rows, "status": self._state_of(member)}


def _arithmetic(spec: RunSpec) -> StatusChanges:
    """Return a run's FLOPs as entries of its status; none for a learner that torch cannot count without values."""
    try:
        counted = arithmetic(spec.algorithm, spec.config, spec.env)
    except Exception as error:  # a user's learner may raise anything; its training does not depend on this
        print(f"FLOPs of {spec.algorithm} cannot be counted: {error}".splitlines()[0], file=sys.stderr, flush=True)
        return {}
    return {"flops_per_step": counted.act, "flops_per_update": counted.update}


def _progress(steps: int, evaluations: Sequence[Mapping[str, Any]]) -> str:
    """Return a line of a run's log."""
    returns = ", ".join(f"{row['return_mean']:.1f} ({ACTING[row['policy']]})" for row in evaluations)
    return f"{_now()} step {steps}: return {returns}; {evaluations[0]['wall_seconds']:.0f} s"


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
