"""The search: a batch of trials, each brought to its next rung, scored, pruned or let go on; new ones take the place.

Everything that decides is in the storage and in the runs' own tables. So a search that is killed at any moment goes on
from what it finds there, and two searches at once share the trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from sac_bench.errors import InputError
from sac_bench.results.collect import collect
from sac_bench.spec.experiment import Experiment, Variant
from sac_bench.tuning.pruning import bracket, goes_on
from sac_bench.tuning.score import objective_value, worst_seen
from sac_bench.tuning.study import Study
from sac_bench.tuning.training import Training, random_returns, runs_of, to
from sac_bench.tuning.trials import Trial, Trials, as_json

MOST_REFUSED = 100
"""Trials of one study that may be refused in the search, before it is given up."""
WAIT_SECONDS = 2.0
"""Between two looks at what other tuners do, where nothing is left to ask."""


@dataclass
class Search:
    """One tuner's part in a study: `run`, once."""

    study: Study
    trials: Trials
    training: Training
    command: str = ""
    waved: Callable[[], None] = lambda: None
    """Called after every wave."""
    failed: set[int] = field(default_factory=set)
    """Trials with runs that failed here: they are left to other tuners and the next command."""
    _mine: set[int] = field(default_factory=set)
    _floor: Mapping[str, float] = field(default_factory=dict)

    def run(self) -> None:
        """Until all trials have ended, here or elsewhere, but for failed ones."""
        self._floor = random_returns(self.training.store, self.study.envs)
        # First, because a trial of the very same settings may be pruned, and its runs are then the default's.
        self.training.train(self.study.experiment([self.study.default]), self.study.steps, splits=False)
        told = False
        while True:
            self._mine.update(self.trials.take_over(but=[*self._mine, *self.failed]))
            self._ask()
            everybody = self.trials.all()
            if mine := [trial for trial in everybody if trial.number in self._mine]:
                self._wave(mine)
                self.waved()
                if self.failed.issuperset(trial.number for trial in mine):
                    return  # what fails all of them will fail the next
            elif any(trial.state == "RUNNING" and trial.number not in self.failed for trial in everybody):
                if not told:
                    self.training.console.print("waiting for trials of another process", highlight=False)
                told = True
                time.sleep(WAIT_SECONDS)
            else:
                self._free()  # of trials that a killed tuner ended, too
                return

    def listed(self) -> Experiment:
        """The study's runs as an experiment: what `status`, `report` and `gc` know of it."""
        variants = [self.study.default]
        for trial in self.trials.all():
            steps = max([*trial.values, self._goal(trial) if trial.state == "RUNNING" else 0])
            variants.append(self._variant(trial, steps))
        return self.study.experiment(variants)

    def _wave(self, mine: Sequence[Trial]) -> None:
        """Bring every trial to its next stage, then judge all of them there."""
        goals = {trial.number: self._goal(trial) for trial in mine}
        variants = {trial.number: self._variant(trial, goals[trial.number]) for trial in mine}
        self._say(mine, goals)
        if any(not trial.values for trial in mine):  # from now on the folder knows which runs it refers to
            collect(self.training.store, self.listed(), self.command)
        self.training.train(
            self.study.experiment(list(variants.values())), self.study.steps, splits=self.study.pruner != "none"
        )
        lost = {trial.number for trial in mine} - set(self.trials.own())
        self._mine -= lost
        for trial in [trial for trial in mine if trial.number not in lost]:
            variant, steps = variants[trial.number], goals[trial.number]
            if not self.training.has_ended(variant, self.study.seeds):
                self.failed.add(trial.number)
                self._mine.discard(trial.number)
                self.trials.give_up(trial)
            elif steps not in trial.values:
                scores = self.training.scores(variant, self.study.seeds, self.study.objective)
                self.trials.score(trial, steps, scores, self.training.cost(variant, self.study.seeds))
        everybody = {trial.number: trial for trial in self.trials.all()}
        ready = [everybody[trial.number] for trial in mine if trial.number in self._mine]
        for trial in ready:
            steps = goals[trial.number]
            if steps not in trial.values:
                self.trials.report(trial, steps, self._value(trial, steps, list(everybody.values())))
        self._judge([trial.number for trial in ready], goals)
        self._free()

    def _judge(self, numbers: Sequence[int], goals: Mapping[int, int]) -> None:
        everybody = self.trials.all()
        for trial in [trial for trial in everybody if trial.number in numbers]:
            steps = goals[trial.number]
            over = steps == self.study.steps
            if not over and self._goes_on(trial, steps, everybody):
                self.trials.let_go_on(trial, steps)
            else:
                self.trials.end(trial, pruned=not over)
                self._mine.discard(trial.number)

    def _value(self, trial: Trial, steps: int, everybody: Sequence[Trial]) -> float:
        worst = worst_seen([other.scores[steps] for other in everybody if steps in other.scores], self._floor)
        study = self.study
        return objective_value(trial.scores[steps], worst, study.scale, study.aggregate, study.quantile)

    def _goes_on(self, trial: Trial, steps: int, everybody: Sequence[Trial]) -> bool:
        """By the pruner's rule; and one of the very settings of a trial that was pruned there goes no further."""
        rung = self.study.rungs.index(steps)
        alike = [other for other in everybody if as_json(other.params) == as_json(trial.params)]
        if any(other.state == "PRUNED" and max(other.values, default=0) == steps for other in alike):
            return False
        mine = self._bracket(trial)
        if rung < mine:
            return True
        values = [other.values[steps] for other in everybody if steps in other.values and self._bracket(other) == mine]
        return goes_on(trial.values[steps], values, self.study.reduction)

    def _bracket(self, trial: Trial) -> int:
        return bracket(trial.number, self.study.pruner, len(self.study.rungs), self.study.reduction)

    def _goal(self, trial: Trial) -> int:
        """Where it is judged next: again where it was killed between being scored and being judged."""
        last = max(trial.values, default=0)
        if trial.values and last not in trial.passed:
            return last
        return next(steps for steps in self.study.stages if steps > last)

    def _variant(self, trial: Trial, steps: int) -> Variant:
        return to(self.study.variant(trial.name, trial.params, self.study.steps), steps)

    def _ask(self) -> None:
        """Fill the batch. Trials whose settings the config refuses, which no probe met, are closed, others asked."""
        while asked := self.trials.ask(self.study.batch - len(self._mine)):
            self._mine.update(asked)
            for trial in [trial for trial in self.trials.all() if trial.number in asked]:
                try:
                    self._variant(trial, self.study.steps)
                except InputError as refused:
                    self._mine.discard(trial.number)
                    if self.trials.refuse(trial) > MOST_REFUSED:
                        raise
                    self.training.console.print(
                        f"{trial.name} is not trained: {refused}", highlight=False, soft_wrap=True
                    )

    def _free(self) -> None:
        """Give back what only going on with ended trials would need."""
        ids = lambda trials: [
            spec.id for t in trials for spec in runs_of(self._variant(t, self.study.steps), self.study.seeds)
        ]
        everybody = self.trials.all()
        still = [trial for trial in everybody if trial.state == "RUNNING"]
        self.training.free(ids([trial for trial in everybody if trial.state != "RUNNING"]), ids(still))

    def _say(self, mine: Sequence[Trial], goals: Mapping[int, int]) -> None:
        ended = [trial for trial in self.trials.all() if trial.state != "RUNNING"]
        best = max((trial.value for trial in ended if trial.value is not None), default=None)
        goal = ", ".join(
            f"{sum(g == steps for g in goals.values())} to {steps:,}" for steps in sorted(set(goals.values()))
        )
        self.training.console.print(
            f"{self.study.name}: {len(ended)} of {self.study.trials} trials ended"
            f"{'' if best is None else f', best {best:,.1f}'}; now {goal} steps",
            highlight=False,
        )
