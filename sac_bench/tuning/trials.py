"""Trials in Optuna's storage: requests, owners, takeovers and results.

A running trial has an owner: a live tuner, which holds a lock in the results folder until it ends (`Store.planner`).
The first tuner to find a trial with a dead owner takes it over. For owners in another folder (another machine, with a
shared database) there is no lock; Optuna's heartbeats in the database show whether they are alive.

The storage numbers the trials, so numbers are unique. Processes in one folder request trials one after another. If
several folders do so at once, trials beyond the study's number are closed unused when they are noticed.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import socket
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from sac_bench.errors import InputError
from sac_bench.store import locks
from sac_bench.store.store import Store
from sac_bench.tuning.score import RunScore, Scores
from sac_bench.tuning.space import Params
from sac_bench.tuning.storage import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS, database_errors, open_storage, place
from sac_bench.tuning.study import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")  # Trials.heartbeats sends them
warnings.filterwarnings("ignore", message="The distribution is specified by")  # a step that does not divide the range
warnings.filterwarnings("ignore", message="Target and region quantiles select")  # few trials

UNUSED_ATTRIBUTE = "unused"
"""Attribute of trials that do not count: beyond the study's number, or with an invalid config."""
NO_OWNER = "nobody"
"""Owner of a trial whose runs failed."""


@dataclass(frozen=True)
class Trial:
    """A trial's data."""

    number: int
    id: int
    state: str
    """RUNNING, PRUNED or COMPLETE."""
    params: Params
    value: float | None
    values: dict[int, float]
    """{steps: value} at the rungs that it reached, and the end."""
    scores: Mapping[int, Scores]
    owner: dict[str, str] | None
    costs: dict[int, dict[str, float]]
    """{steps: {"seconds": its runs' training time until then, "steps": their transitions}}."""
    passed: frozenset[int] = frozenset()
    """Rungs at which it was decided that it continues."""

    @property
    def name(self) -> str:
        """Name of its variant."""
        return f"trial-{self.number:04d}"


class Trials:
    """A study's trials in a storage, for one tuner."""

    def __init__(self, study: Study, store: Store, planner: str, url: str | None = None) -> None:
        self.study, self.store, self.planner = study, store, planner
        self.storage = open_storage(url, store.experiment(study.name))
        self.at = place(url)
        self._shared = url is not None
        with store.planning():
            self._folder = store.identity()
        with self.requesting(), database_errors(url):
            self._optuna = optuna.create_study(
                study_name=study.name,
                storage=self.storage,
                direction="maximize",
                load_if_exists=True,
                sampler=self._sampler(0),
            )
            definition = self._optuna.user_attrs.get("definition")
            foreign = definition is None and self._optuna.get_trials(deepcopy=False)
            if foreign or self._optuna.direction != optuna.study.StudyDirection.MAXIMIZE:
                raise InputError(
                    f"{study.source}: name: {self.at} has a study {study.name!r} that was not made by sac-bench; "
                    "choose another name"
                )
            if definition is None:
                self._optuna.set_user_attr("definition", study.definition())
        if definition not in (None, study.definition()):
            raise InputError(
                f"{study.source}: name: {self.at} has a study {study.name!r} with another space, base, seeds, steps, "
                "rungs, objective or version of an environment, whose trials cannot be compared with this study's; "
                "choose another name"
            )
        self._own_trial_ids: set[int] = set()
        self._stop_heartbeats = threading.Event()

    @contextlib.contextmanager
    def requesting(self) -> Iterator[None]:
        """Hold this folder's lock for requesting and taking over trials."""
        with locks.locked(self.store.locks / "studies" / self.study.name):
            yield

    @contextlib.contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Send heartbeats to a database while the block runs."""
        if not isinstance(self.storage, RDBStorage):
            yield
            return
        thread = threading.Thread(target=self._send_heartbeats, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._stop_heartbeats.set()
            thread.join()

    def all(self) -> list[Trial]:
        """Return every trial that counts, ordered by number."""
        trials = self._optuna.get_trials(deepcopy=False)
        return [self._converted(trial) for trial in trials if self._counts(trial)]

    def own(self) -> list[int]:
        """Return the numbers of this tuner's running trials. After a long silence, others may have taken some over."""
        return [
            trial.number
            for trial in self.all()
            if trial.state == "RUNNING" and (trial.owner or {}).get("planner") == self.planner
        ]

    def request(self, count: int) -> list[int]:
        """Request up to `count` new trials, within the study's number, and return their numbers."""
        numbers: list[int] = []
        with self.requesting():
            while len(numbers) < count and len(self.all()) < self.study.trials:
                self._optuna.sampler = self._sampler(len(self._optuna.get_trials(deepcopy=False)))
                trial = self._optuna.ask()
                self._set_owner(trial)
                for dimension in self.study.space:
                    dimension.suggest(trial)
                if not self._closed_as_surplus(trial):
                    numbers.append(trial.number)
        return numbers

    def take_over(self, excluding: Sequence[int] = ()) -> list[int]:
        """Take over the trials whose owners are dead, and return their numbers."""
        taken = []
        with self.requesting():
            silent = self._silent()
            for trial in self._optuna.get_trials(deepcopy=False):
                if trial.state != TrialState.RUNNING or trial.number in excluding or not self._counts(trial):
                    continue
                if self._is_stale(trial, silent):
                    own = optuna.Trial(self._optuna, trial._trial_id)
                    self._set_owner(own)
                    for dimension in self.study.space:  # its owner may have died during the request
                        dimension.suggest(own)
                    if not self._closed_as_surplus(own):
                        taken.append(trial.number)
        return taken

    def score(self, trial: Trial, steps: int, scores: Scores, cost: dict[str, float]) -> None:
        """Store the scores and the cost of its runs at a stage."""
        rows = {
            env: [[run.value if math.isfinite(run.value) else None, run.diverged, run.exploded] for run in runs]
            for env, runs in scores.items()
        }
        with contextlib.suppress(UpdateFinishedTrialError):  # another tuner has taken it over and ended it
            self.storage.set_trial_user_attr(trial.id, f"scores@{steps}", rows)
            self.storage.set_trial_user_attr(trial.id, f"cost@{steps}", cost)

    def report(self, trial: Trial, steps: int, value: float) -> None:
        """Store its value at a stage, which it has then passed."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_intermediate_value(trial.id, steps, value)

    def keep(self, trial: Trial, steps: int) -> None:
        """Store that it was not pruned at a rung."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial.id, f"passed@{steps}", True)

    def end(self, trial: Trial, pruned: bool) -> None:
        """End a trial as pruned or complete. If another tuner has ended it, nothing changes."""
        state, values = (TrialState.PRUNED, None) if pruned else (TrialState.COMPLETE, trial.values[self.study.steps])
        with contextlib.suppress(ValueError, RuntimeError):
            self._optuna.tell(trial.number, values, state=state)
        self._own_trial_ids.discard(trial.id)

    def give_up(self, trial: Trial) -> None:
        """Give up a trial, so that another tuner can take it over."""
        self._own_trial_ids.discard(trial.id)
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial.id, "owner", {**(trial.owner or {}), "planner": NO_OWNER})

    def close_invalid(self, trial: Trial) -> int:
        """Close a trial with an invalid config, and return how many trials of the study are closed."""
        self.storage.set_trial_user_attr(trial.id, UNUSED_ATTRIBUTE, True)
        with contextlib.suppress(ValueError, RuntimeError):
            self._optuna.tell(trial.number, state=TrialState.FAIL)
        self._own_trial_ids.discard(trial.id)
        return sum(UNUSED_ATTRIBUTE in other.user_attrs for other in self._optuna.get_trials(deepcopy=False))

    def importances(self) -> dict[str, float]:
        """Return {option: importance} by PED-ANOVA (arXiv 2304.10255); empty if fewer than four trials are complete."""
        complete = [trial for trial in self._optuna.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        if len(complete) < 4:
            return {}
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError):
            return dict(optuna.importance.get_param_importances(self._optuna))
        return {}

    def _sampler(self, trials: int) -> optuna.samplers.BaseSampler:
        """Return a sampler seeded by the study's seed and the number of trials, so its choices are reproducible."""
        seed = zlib.crc32(f"{self.study.sampler_seed} {trials}".encode())
        if self.study.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.study.sampler == "cma-es":
            pruned = self.study.pruner != "none"
            return optuna.samplers.CmaEsSampler(
                seed=seed, warn_independent_sampling=False, consider_pruned_trials=pruned
            )
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _set_owner(self, trial: optuna.Trial) -> None:
        owner = {"host": socket.gethostname(), "pid": str(os.getpid()), "folder": self._folder, "planner": self.planner}
        self._own_trial_ids.add(trial._trial_id)
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("owner", owner)

    def _is_stale(self, trial: FrozenTrial, silent: set[int]) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner is None:  # its tuner died between two writes, or is requesting it in another folder
            age = time.time() - (trial.datetime_start.timestamp() if trial.datetime_start else 0.0)
            return not self._shared or age > DEAD_AFTER_SECONDS
        if owner["planner"] == NO_OWNER:
            return True
        if owner["folder"] == self._folder or not self._shared:
            return not self.store.is_alive(owner["planner"])
        return trial._trial_id in silent

    def _silent(self) -> set[int]:
        """Return the ids of trials in a database whose owners have sent no heartbeat for DEAD_AFTER_SECONDS."""
        if not isinstance(self.storage, RDBStorage):
            return set()
        return set(self.storage._get_stale_trial_ids(self._optuna._study_id))

    def _send_heartbeats(self) -> None:
        assert isinstance(self.storage, RDBStorage)
        while not self._stop_heartbeats.wait(HEARTBEAT_SECONDS):
            for trial_id in list(self._own_trial_ids):
                with contextlib.suppress(Exception):  # the next one may succeed
                    self.storage.record_heartbeat(trial_id)

    def _counts(self, trial: FrozenTrial) -> bool:
        return UNUSED_ATTRIBUTE not in trial.user_attrs and trial.state in (
            TrialState.RUNNING,
            TrialState.PRUNED,
            TrialState.COMPLETE,
        )

    def _closed_as_surplus(self, trial: optuna.Trial) -> bool:
        """Close a trial if other folders requested the last ones at the same time: the lower numbers count."""
        if sum(other.number < trial.number for other in self.all()) < self.study.trials:
            return False
        trial.set_user_attr(UNUSED_ATTRIBUTE, True)
        self._optuna.tell(trial.number, state=TrialState.FAIL)
        self._own_trial_ids.discard(trial._trial_id)
        return True

    def _converted(self, trial: FrozenTrial) -> Trial:
        by_name = {dimension.name: dimension for dimension in self.study.space}
        attributes = trial.user_attrs

        def by_steps(kind: str) -> dict[int, Any]:
            prefix = f"{kind}@"
            return {int(key.removeprefix(prefix)): attributes[key] for key in attributes if key.startswith(prefix)}

        scores = {
            steps: {env: [_score(*run) for run in runs] for env, runs in rows.items()}
            for steps, rows in by_steps("scores").items()
        }
        params = {name: by_name[name].value(stored) for name, stored in trial.params.items() if name in by_name}
        return Trial(
            number=trial.number,
            id=trial._trial_id,
            state=trial.state.name,
            params={
                dimension.name: params[dimension.name] for dimension in self.study.space if dimension.name in params
            },
            value=trial.value if trial.state == TrialState.COMPLETE else None,
            values=dict(sorted(trial.intermediate_values.items())),
            scores=scores,
            owner=attributes.get("owner"),
            costs=by_steps("cost"),
            passed=frozenset(by_steps("passed")),
        )


def _score(value: float | None, *marks: bool) -> RunScore:
    """Return a stored score; those of earlier versions do not say whether a run exploded."""
    return RunScore(math.nan if value is None else value, *marks)


def as_json(params: Params) -> str:
    """Return the params as one line of JSON, equal for equal params."""
    return json.dumps(params, sort_keys=True)
