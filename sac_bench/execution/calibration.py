"""Corrects the cost model by the time that cohorts took on this machine.

A worker measures its last segments, without imports and compiling (`Stopwatch`), and writes them to its cohort's folder
(`speed.json`). These files are not part of runs: no id and no result depends on them.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum
from functools import cached_property
from typing import Any

from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.cost import START_SECONDS, training_seconds
from sac_bench.execution.machine import cannot_compile
from sac_bench.execution.plan import CohortPlan
from sac_bench.execution.provenance import device_name
from sac_bench.execution.schedule import makespan
from sac_bench.spec.run import RunSpec
from sac_bench.store.store import Store

SEGMENTS = 10
"""The number of segments that a measurement covers: a change of the machine's load soon shows."""
FIRST_UPDATES = 10
"""Updates that are not measured, because the first ones compile. Some algorithms have two programs."""


@dataclass(frozen=True)
class Machine:
    """What the speed depends on besides a cohort: the model of the CPU or GPU, and whether updates are compiled."""

    device: str
    compiled: bool

    @staticmethod
    def here(device: str) -> Machine:
        """Return this machine, for a device "cpu" or "cuda"."""
        return Machine(device_name(device), cannot_compile() is None)


@dataclass(frozen=True)
class Measurement:
    """Seconds on the clock in which `runs` such runs went from `done` to `steps` steps, evaluations included."""

    spec: RunSpec
    runs: int
    done: int
    steps: int
    seconds: float
    machine: Machine
    device_kind: str = "cpu"

    @cached_property
    def structure(self) -> str:
        """The key of runs that can train as one program."""
        return self.spec.structure()

    @cached_property
    def modelled(self) -> float:
        """The seconds that the model of costs gives for the same."""
        return training_seconds(self.spec, self.runs, self.done, self.steps, self.device_kind)

    @property
    def ratio(self) -> float:
        """Measured seconds per modelled second."""
        return self.seconds / self.modelled

    @property
    def rate(self) -> float:
        """Transitions per second of all runs together."""
        return (self.steps - self.done) * self.runs / self.seconds


class Stopwatch:
    """Measures a worker's last SEGMENTS segments, from its first updates on."""

    def __init__(self, updates: int) -> None:
        self._first = updates + FIRST_UPDATES
        self._marks: deque[tuple[int, float]] = deque(maxlen=SEGMENTS + 1)

    @property
    def runs(self) -> bool:
        """Whether the first updates are made."""
        return bool(self._marks)

    def pass_by(self, steps: int, updates: int) -> None:
        """Start once the first updates are made. Call it now and then within a segment."""
        if not self._marks and updates >= self._first:
            self._marks.append((steps, time.perf_counter()))

    def end_segment(self, steps: int, updates: int) -> dict[str, Any] | None:
        """Return {"done", "steps", "seconds"} of the last segments; None if nothing is measured yet."""
        if not self._marks:
            self.pass_by(steps, updates)
            return None
        self._marks.append((steps, time.perf_counter()))
        (done, began), (_, ended) = self._marks[0], self._marks[-1]
        return {"done": done, "steps": steps, "seconds": round(ended - began, 3)} if steps > done else None


class Basis(Enum):
    """The basis of an estimated time, the best first: equal structure, equal environment, or only the model."""

    MEASURED = "measured here"
    SIMILAR = "from similar runs"
    MODEL = "rough estimate"


@dataclass(frozen=True)
class Estimate:
    """Seconds, and what they rest on."""

    seconds: float
    basis: Basis


class Calibration:
    """Estimates the time of cohorts from the measurements of one machine."""

    def __init__(self, measurements: Iterable[Measurement] = ()) -> None:
        self._of_structure: dict[str, list[Measurement]] = {}
        self._of_env: dict[str, list[Measurement]] = {}
        for one in measurements:
            if one.modelled > 0:
                self._of_structure.setdefault(one.structure, []).append(one)
                self._of_env.setdefault(one.spec.env, []).append(one)

    def estimate(self, cohort: CohortPlan) -> Estimate:
        """Return the time of a cohort: its start and its training.

        The start is not corrected by measurements, because it depends on what is compiled already.
        """
        training = self.training(cohort)
        return replace(training, seconds=START_SECONDS + training.seconds)

    def total(self, cohorts: Sequence[CohortPlan], workers: int) -> Estimate:
        """Return when the last cohort ends if each free worker takes the longest one that waits."""
        estimates = [self.estimate(cohort) for cohort in cohorts]
        seconds = makespan(sorted((one.seconds for one in estimates), reverse=True), workers)
        return Estimate(seconds, weakest([one.basis for one in estimates]))

    def training(self, cohort: CohortPlan) -> Estimate:
        """Return the time to train a cohort by the model, times the measured ratio.

        The ratio is that of the same structure and environment at the nearest width; else that of the same environment;
        else 1.
        """
        spec, runs = cohort.runs[0], len(cohort.runs)
        if same := self._of_structure.get(cohort.structure):
            ratio, basis = _ratio(_nearest(same, runs)), Basis.MEASURED
        elif similar := self._of_env.get(spec.env):
            ratio, basis = _ratio(_nearest(similar, runs)), Basis.SIMILAR
        else:
            ratio, basis = 1.0, Basis.MODEL
        return Estimate(ratio * cohort.training_seconds, basis)


def weakest(bases: Collection[Basis]) -> Basis:
    """Return what a total rests on: the weakest of its parts."""
    return max(bases, key=list(Basis).index, default=Basis.MEASURED)


def _nearest(measurements: Sequence[Measurement], runs: int) -> list[Measurement]:
    """Return the measurements whose width is nearest to `runs` as a ratio, which the model describes worst."""
    distances = [abs(math.log(one.runs / runs)) for one in measurements]
    return [one for one, distance in zip(measurements, distances, strict=True) if distance <= min(distances)]


def _ratio(measurements: Sequence[Measurement]) -> float:
    return sum(one.seconds for one in measurements) / sum(one.modelled for one in measurements)


def measurements(store: Store, envs: Collection[str], machine: Machine) -> dict[str, Measurement]:
    """Return {cohort: what was measured} of a store's cohorts on these environments and this machine.

    What cannot be read is left out, since it only makes an estimate better.
    """
    by_cohort = {}
    for cohort in store.cohort_ids():
        speed = CohortDirectory(store.cohort(cohort)).speed()
        if speed.get("env") in envs and Machine(speed.get("device", ""), speed.get("compiled", False)) == machine:
            with contextlib.suppress(InputError, OSError, KeyError, TypeError, ValueError):
                by_cohort[cohort] = measured(speed, store.run(speed["run"]).spec())
    return by_cohort


def measured(speed: Mapping[str, Any], spec: RunSpec) -> Measurement:
    """Return the measurement in a worker's report or a `speed.json`; ValueError if it has no steps or no seconds."""
    runs, done, steps = (int(speed[name]) for name in ("runs", "done", "steps"))
    seconds, machine = float(speed["seconds"]), Machine(speed["device"], speed["compiled"])
    if not (runs > 0 and 0 <= done < steps and 0 < seconds < math.inf):
        raise ValueError("steps and seconds must be positive")
    return Measurement(spec, runs, done, steps, seconds, machine, speed["device_kind"])
