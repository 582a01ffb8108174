"""Trials in Optuna's storage: who asks for them, who has them, who takes them over, and what is known of them.

A trial that runs has an owner: a tuner that lives, known by a lock in the results folder (`Store.planner`), which the
kernel ends with it. A trial whose owner is dead is taken over by who finds it first. Of an owner in another folder (on
another machine, by a database that both share) no lock tells; there Optuna's heartbeats in the database do.

Numbers of trials are the storage's own, so none is given twice. Processes in one folder ask one after another; where
several folders ask at once, trials beyond the study's number are closed unused as soon as they are seen.
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

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from sac_bench.errors import InputError
from sac_bench.store import locks
from sac_bench.store.store import Store
from sac_bench.tuning.score import RunScore, Scores
from sac_bench.tuning.space import Params
from sac_bench.tuning.storage import DEAD_AFTER_SECONDS, HEARTBEAT_SECONDS, open_storage, place, telling_of
from sac_bench.tuning.study import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")  # we beat ourselves: Trials.heartbeats
warnings.filterwarnings("ignore", message="The distribution is specified by")  # a step that does not meet `high`
warnings.filterwarnings("ignore", message="Target and region quantiles select")  # of few trials

UNUSED = "unused"
"""What marks trials that do not count: beyond the study's number, or refused by the config."""
NOBODY = "nobody"
"""The owner of a trial whose runs failed."""


@dataclass(frozen=True)
class Trial:
    """What is known of a trial: pure values."""

    number: int
    id: int
    state: str
    """RUNNING, PRUNED or COMPLETE."""
    params: Params
    value: float | None
    values: dict[int, float]
    """{steps: its value there} at the rungs it reached, and the end."""
    scores: Mapping[int, Scores]
    owner: dict[str, str] | None
    costs: dict[int, dict[str, float]]
    """{steps: {"seconds": its runs' training time by then, "steps": their transitions}}."""
    passed: frozenset[int] = frozenset()
    """Rungs at which it was judged and let go on."""

    @property
    def name(self) -> str:
        """Its variant's."""
        return f"trial-{self.number:04d}"


class Trials:
    """A study's trials in a storage, as one tuner sees them."""

    def __init__(self, study: Study, store: Store, planner: str, url: str | None = None) -> None:
        self.study, self.store, self.planner = study, store, planner
        self.storage = open_storage(url, store.experiment(study.name))
        self.at = place(url)
        self._shared = url is not None
        with store.planning():
            self._folder = store.identity()
        with self.asking(), telling_of(url):
            self._optuna = optuna.create_study(
                study_name=study.name,
                storage=self.storage,
                direction="maximize",
                load_if_exists=True,
                sampler=self._sampler(0),
            )
            known = self._optuna.user_attrs.get("definition")
            foreign = known is None and self._optuna.get_trials(deepcopy=False)
            if foreign or self._optuna.direction != optuna.study.StudyDirection.MAXIMIZE:
                raise InputError(
                    f"{study.source}: name: {self.at} has a study {study.name!r} that sac-bench did not make; "
                    "choose another name"
                )
            if known is None:
                self._optuna.set_user_attr("definition", study.definition())
        if known not in (None, study.definition()):
            raise InputError(
                f"{study.source}: name: {self.at} has a study {study.name!r} of another space, base, seeds, steps, "
                "rungs, objective or version of an environment, whose trials cannot be compared with this one's; "
                "choose another name"
            )
        self._beating: set[int] = set()
        self._asked_to_stop = threading.Event()

    @contextlib.contextmanager
    def asking(self) -> Iterator[None]:
        """The right to ask and to take over, among the processes in this folder."""
        with locks.locked(self.store.locks / "studies" / self.study.name):
            yield

    @contextlib.contextmanager
    def heartbeats(self) -> Iterator[None]:
        """Tell a database now and then that this tuner lives."""
        if not isinstance(self.storage, RDBStorage):
            yield
            return
        thread = threading.Thread(target=self._beat, daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._asked_to_stop.set()
            thread.join()

    def all(self) -> list[Trial]:
        """Every trial that counts, by number."""
        found = self._optuna.get_trials(deepcopy=False)
        return [self._known(trial) for trial in found if self._counts(trial)]

    def own(self) -> list[int]:
        """The numbers of trials that are still this tuner's: one that was silent for long may have lost some."""
        return [
            trial.number
            for trial in self.all()
            if trial.state == "RUNNING" and (trial.owner or {}).get("planner") == self.planner
        ]

    def ask(self, most: int) -> list[int]:
        """The numbers of up to `most` new trials, as far as the study wants more."""
        asked: list[int] = []
        with self.asking():
            while len(asked) < most and len(self.all()) < self.study.trials:
                self._optuna.sampler = self._sampler(len(self._optuna.get_trials(deepcopy=False)))
                trial = self._optuna.ask()
                self._own(trial)
                for dimension in self.study.space:
                    dimension.suggest(trial)
                if not self._closed_as_surplus(trial):
                    asked.append(trial.number)
        return asked

    def take_over(self, but: Sequence[int] = ()) -> list[int]:
        """The numbers of trials whose owners died, which are this tuner's from now on."""
        taken = []
        with self.asking():
            silent = self._silent()
            for trial in self._optuna.get_trials(deepcopy=False):
                if trial.state != TrialState.RUNNING or trial.number in but or not self._counts(trial):
                    continue
                if self._is_stale(trial, silent):
                    ours = optuna.Trial(self._optuna, trial._trial_id)
                    self._own(ours)
                    for dimension in self.study.space:  # its owner may have died while asking
                        dimension.suggest(ours)
                    if not self._closed_as_surplus(ours):
                        taken.append(trial.number)
        return taken

    def score(self, trial: Trial, steps: int, scores: Scores, cost: dict[str, float]) -> None:
        """Keep what its runs got at a stage; the value there is told by `report`."""
        number = lambda value: value if math.isfinite(value) else None
        rows = {env: [[number(run.value), run.diverged] for run in runs] for env, runs in scores.items()}
        with contextlib.suppress(UpdateFinishedTrialError):  # another tuner took it over and ended it
            self.storage.set_trial_user_attr(trial.id, f"scores@{steps}", rows)
            self.storage.set_trial_user_attr(trial.id, f"cost@{steps}", cost)

    def report(self, trial: Trial, steps: int, value: float) -> None:
        """Its value at a stage: from now on that is behind it."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_intermediate_value(trial.id, steps, value)

    def let_go_on(self, trial: Trial, steps: int) -> None:
        """Judged at a rung, and not pruned."""
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial.id, f"passed@{steps}", True)

    def end(self, trial: Trial, pruned: bool) -> None:
        """Pruned or complete; where another tuner ended it before, what that said stays."""
        state, values = (TrialState.PRUNED, None) if pruned else (TrialState.COMPLETE, trial.values[self.study.steps])
        with contextlib.suppress(ValueError, RuntimeError):
            self._optuna.tell(trial.number, values, state=state)
        self._beating.discard(trial.id)

    def give_up(self, trial: Trial) -> None:
        """Leave a trial to whoever takes it over."""
        self._beating.discard(trial.id)
        with contextlib.suppress(UpdateFinishedTrialError):
            self.storage.set_trial_user_attr(trial.id, "owner", {**(trial.owner or {}), "planner": NOBODY})

    def refuse(self, trial: Trial) -> int:
        """Close a trial that no config can be made of; how many of the study are."""
        self.storage.set_trial_user_attr(trial.id, UNUSED, True)
        with contextlib.suppress(ValueError, RuntimeError):
            self._optuna.tell(trial.number, state=TrialState.FAIL)
        self._beating.discard(trial.id)
        return sum(UNUSED in other.user_attrs for other in self._optuna.get_trials(deepcopy=False))

    def importances(self) -> dict[str, float]:
        """{option: its share in what sets the better trials apart}, by PED-ANOVA (arXiv 2304.10255); empty while too
        few have ended."""
        ended = [trial for trial in self._optuna.get_trials(deepcopy=False) if trial.state == TrialState.COMPLETE]
        if len(ended) < 4:
            return {}
        with contextlib.suppress(ValueError, RuntimeError, ZeroDivisionError):
            return dict(optuna.importance.get_param_importances(self._optuna))
        return {}

    # -- inside ---------------------------------------------------------------------------------------------------

    def _sampler(self, asked: int) -> optuna.samplers.BaseSampler:
        """A sampler whose choice is a function of the storage: its seed, of the study's and of the trials there."""
        seed = zlib.crc32(f"{self.study.sampler_seed} {asked}".encode())
        if self.study.sampler == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if self.study.sampler == "cma-es":
            pruned = self.study.pruner != "none"
            return optuna.samplers.CmaEsSampler(
                seed=seed, warn_independent_sampling=False, consider_pruned_trials=pruned
            )
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)

    def _own(self, trial: optuna.Trial) -> None:
        owner = {"host": socket.gethostname(), "pid": str(os.getpid()), "folder": self._folder, "planner": self.planner}
        self._beating.add(trial._trial_id)
        if isinstance(self.storage, RDBStorage):
            self.storage.record_heartbeat(trial._trial_id)
        trial.set_user_attr("owner", owner)

    def _is_stale(self, trial: FrozenTrial, silent: set[int]) -> bool:
        owner = trial.user_attrs.get("owner")
        if owner is None:  # died between two writes, if it is not another folder's that is asking just now
            age = time.time() - (trial.datetime_start.timestamp() if trial.datetime_start else 0.0)
            return not self._shared or age > DEAD_AFTER_SECONDS
        if owner["planner"] == NOBODY:
            return True
        if owner["folder"] == self._folder or not self._shared:
            return not self.store.is_alive(owner["planner"])
        return trial._trial_id in silent

    def _silent(self) -> set[int]:
        """Trials whose owners have not told a database for long that they live."""
        if not isinstance(self.storage, RDBStorage):
            return set()
        return set(self.storage._get_stale_trial_ids(self._optuna._study_id))

    def _beat(self) -> None:
        assert isinstance(self.storage, RDBStorage)
        while not self._asked_to_stop.wait(HEARTBEAT_SECONDS):
            for trial_id in list(self._beating):
                with contextlib.suppress(Exception):  # the next beat may come through
                    self.storage.record_heartbeat(trial_id)

    def _counts(self, trial: FrozenTrial) -> bool:
        return UNUSED not in trial.user_attrs and trial.state in (
            TrialState.RUNNING,
            TrialState.PRUNED,
            TrialState.COMPLETE,
        )

    def _closed_as_surplus(self, trial: optuna.Trial) -> bool:
        """Close a trial where others asked for the last ones at the same time: the lower numbers count."""
        if sum(other.number < trial.number for other in self.all()) < self.study.trials:
            return False
        trial.set_user_attr(UNUSED, True)
        self._optuna.tell(trial.number, state=TrialState.FAIL)
        self._beating.discard(trial._trial_id)
        return True

    def _known(self, trial: FrozenTrial) -> Trial:
        by_name = {dimension.name: dimension for dimension in self.study.space}
        attributes = trial.user_attrs
        at = lambda kind: {
            int(key.partition("@")[2]): value for key, value in attributes.items() if key.startswith(f"{kind}@")
        }
        scores = {
            steps: {env: [RunScore(math.nan if v is None else v, d) for v, d in runs] for env, runs in rows.items()}
            for steps, rows in at("scores").items()
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
            costs=at("cost"),
            passed=frozenset(at("passed")),
        )


def as_json(params: Params) -> str:
    """Params as one line, equal for equal ones."""
    return json.dumps(params, sort_keys=True)
