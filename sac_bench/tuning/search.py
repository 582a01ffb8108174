"""The search: trains a batch of trials to their next rungs, scores them, prunes some, and replaces those that ended.

All state is in the storage and in the runs' tables. So a search that is killed at any time is continued by the next
command, and several searches at once share the trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sac_bench.errors import InputError
from sac_bench.results.collect import collect
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.variant import Variant
from sac_bench.tuning.pruning import bracket, continues
from sac_bench.tuning.score import objective_value, worst_seen
from sac_bench.tuning.study import Study
from sac_bench.tuning.training import Training, random_returns, runs_of, with_steps
from sac_bench.tuning.trials import Trial, Trials, as_json

MAX_INVALID = 100
"""Largest number of invalid trials in one study before the search is aborted."""
WAIT_SECONDS = 2.0
"""Time between two checks of other tuners' trials when no new trial can be requested."""


@dataclass
class Search:
    """One tuner's part in a study. Call `run` once."""

    study: Study
    trials: Trials
    training: Training
    command: str = ""
    on_wave: Callable[[], None] = lambda: None
    """Called after every wave."""
    failed: set[int] = field(default_factory=set)
    """Trials with runs that failed here; other tuners or the next command can retry them."""
    _own: set[int] = field(default_factory=set)
    _floor: Mapping[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Search until all trials have ended, here or in other processes, except failed ones."""
        self._floor = random_returns(self.training.store, self.study.envs)
        # The default is first: a trial with its settings shares its runs and may be pruned.
        self.training.train(self.study.experiment([self.study.default]), self.study.steps, splits=False)
        waiting_reported = False
        while True:
            self._own.update(self.trials.take_over(excluding=[*self._own, *self.failed]))
            self._request()
            all_trials = self.trials.all()
            if own_trials := [trial for trial in all_trials if trial.number in self._own]:
                self._wave(own_trials)
                self.on_wave()
                if self.failed.issuperset(trial.number for trial in own_trials):
                    return  # the cause would fail the next trials too
            elif any(trial.state == "RUNNING" and trial.number not in self.failed for trial in all_trials):
                if not waiting_reported:
                    self.training.console.print("waiting for trials of another process", highlight=False)
                waiting_reported = True
                time.sleep(WAIT_SECONDS)
            else:
                self._free()  # also for trials that a killed tuner ended
                return

    def listed(self) -> Experiment:
        """Return the study's runs as an experiment, for `status`, `report` and `gc`."""
        variants = [self.study.default]
        for trial in self.trials.all():
            steps = max([*trial.values, self._target(trial) if trial.state == "RUNNING" else 0])
            variants.append(self._variant(trial, steps))
        return self.study.experiment(variants)

    def _wave(self, own_trials: Sequence[Trial]) -> None:
        """Train every trial to its next stage, then decide which of them continue."""
        targets = {trial.number: self._target(trial) for trial in own_trials}
        variants = {trial.number: self._variant(trial, targets[trial.number]) for trial in own_trials}
        self._print_progress(own_trials, targets)
        if any(not trial.values for trial in own_trials):  # so that runs.csv lists the new runs
            collect(self.training.store, self.listed(), self.command)
        self.training.train(
            self.study.experiment(list(variants.values())), self.study.steps, splits=self.study.pruner != "none"
        )
        lost = {trial.number for trial in own_trials} - set(self.trials.own())
        self._own -= lost
        for trial in [trial for trial in own_trials if trial.number not in lost]:
            variant, steps = variants[trial.number], targets[trial.number]
            if not self.training.has_ended(variant, self.study.seeds):
                self.failed.add(trial.number)
                self._own.discard(trial.number)
                self.trials.give_up(trial)
            elif steps not in trial.values:
                scores = self.training.scores(variant, self.study.seeds, self.study.objective)
                self.trials.score(trial, steps, scores, self.training.cost(variant, self.study.seeds))
        all_trials = {trial.number: trial for trial in self.trials.all()}
        ready = [all_trials[trial.number] for trial in own_trials if trial.number in self._own]
        for trial in ready:
            steps = targets[trial.number]
            if steps not in trial.values:
                self.trials.report(trial, steps, self._value(trial, steps, list(all_trials.values())))
        self._decide([trial.number for trial in ready], targets)
        self._free()

    def _decide(self, numbers: Sequence[int], targets: Mapping[int, int]) -> None:
        all_trials = self.trials.all()
        for trial in [trial for trial in all_trials if trial.number in numbers]:
            steps = targets[trial.number]
            complete = steps == self.study.steps
            if not complete and self._continues(trial, steps, all_trials):
                self.trials.keep(trial, steps)
            else:
                self.trials.end(trial, pruned=not complete)
                self._own.discard(trial.number)

    def _value(self, trial: Trial, steps: int, all_trials: Sequence[Trial]) -> float:
        worst = worst_seen([other.scores[steps] for other in all_trials if steps in other.scores], self._floor)
        study = self.study
        return objective_value(trial.scores[steps], worst, study.scale, study.aggregate, study.quantile)

    def _continues(self, trial: Trial, steps: int, all_trials: Sequence[Trial]) -> bool:
        """Return whether a trial continues: by the pruner's rule, and unless an equal trial was pruned at this rung."""
        rung = self.study.rungs.index(steps)
        equal_trials = [other for other in all_trials if as_json(other.params) == as_json(trial.params)]
        if any(other.state == "PRUNED" and max(other.values, default=0) == steps for other in equal_trials):
            return False
        own_bracket = self._bracket(trial)
        if rung < own_bracket:
            return True
        values = [
            other.values[steps] for other in all_trials if steps in other.values and self._bracket(other) == own_bracket
        ]
        return continues(trial.values[steps], values, self.study.reduction)

    def _bracket(self, trial: Trial) -> int:
        return bracket(trial.number, self.study.pruner, len(self.study.rungs), self.study.reduction)

    def _target(self, trial: Trial) -> int:
        """Return the stage of the next decision: the last one, if the search was killed before that decision."""
        last = max(trial.values, default=0)
        if trial.values and last not in trial.passed:
            return last
        return next(steps for steps in self.study.stages if steps > last)

    def _variant(self, trial: Trial, steps: int) -> Variant:
        return with_steps(self.study.variant(trial.name, trial.params, self.study.steps), steps)

    def _request(self) -> None:
        """Fill the batch. If the sampler proposes an invalid config, the trial is closed and a new one is requested."""
        while requested := self.trials.request(self.study.batch - len(self._own)):
            self._own.update(requested)
            for trial in [trial for trial in self.trials.all() if trial.number in requested]:
                try:
                    self._variant(trial, self.study.steps)
                except InputError as error:
                    self._own.discard(trial.number)
                    if self.trials.close_invalid(trial) > MAX_INVALID:
                        raise
                    self.training.console.print(
                        f"{trial.name} is invalid and was closed: {error}", highlight=False, soft_wrap=True
                    )

    def _free(self) -> None:
        """Drop the replays of ended trials."""

        def run_ids(trials: Sequence[Trial]) -> list[str]:
            variants = [self._variant(trial, self.study.steps) for trial in trials]
            return [spec.id for variant in variants for spec in runs_of(variant, self.study.seeds)]

        all_trials = self.trials.all()
        running = [trial for trial in all_trials if trial.state == "RUNNING"]
        self.training.free(run_ids([trial for trial in all_trials if trial.state != "RUNNING"]), run_ids(running))

    def _print_progress(self, own_trials: Sequence[Trial], targets: Mapping[int, int]) -> None:
        ended = [trial for trial in self.trials.all() if trial.state != "RUNNING"]
        best = max((trial.value for trial in ended if trial.value is not None), default=None)
        now = ", ".join(
            f"{sum(target == steps for target in targets.values())} to {steps:,}"
            for steps in sorted(set(targets.values()))
        )
        self.training.console.print(
            f"{self.study.name}: {len(ended)} of {self.study.trials} trials ended"
            f"{'' if best is None else f', best {best:,.1f}'}; now {now} steps",
            highlight=False,
        )
