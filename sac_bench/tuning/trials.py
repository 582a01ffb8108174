"""Trials in Optuna's storage: who asks for them, who has them, who takes them over, and what is known of them.

A trial that runs has an owner: a tuner that lives, known by a lock in the results folder (`Store.planner`), which the
kernel ends with it. A trial whose owner is dead is taken over by who finds it first. Of an owner in another folder (on
another machine, by a database that both share) no lock tells; there Optuna's heartbeats in the database do.

Numbers of trials are the storage's own, so none is given twice. Processes in one folder ask one after another; where
several folders ask at once, trials beyond the study's number are closed unused as soon as they are seen.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import os
import shlex
import socket
import threading
import time
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.storages.journal._file import BaseJournalFileLock
from optuna.trial import FrozenTrial, TrialState

from sac_bench import locks
from sac_bench.errors import InputError, one_line
from sac_bench.store import Store
from sac_bench.tuning.score import RunScore, Scores
from sac_bench.tuning.space import Params
from sac_bench.tuning.study import Study

optuna.logging.set_verbosity(optuna.logging.ERROR)
warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)
warnings.filterwarnings("ignore", message="Heartbeat of storage is supposed")  # we beat ourselves: Trials.heartbeats
warnings.filterwarnings("ignore", message="The distribution is specified by")  # a step that does not meet `high`
warnings.filterwarnings("ignore", message="Target and region quantiles select")  # of few trials

JOURNAL = "journal.log"
HEARTBEAT_SECONDS = 30
DEAD_AFTER_SECONDS = 180
"""Without a heartbeat in a database, for an owner in another folder."""
CONNECT_SECONDS = 10
DRIVERS = {"postgresql": ("psycopg2", "psycopg"), "mysql": ("MySQLdb", "pymysql")}
"""Modules that speak to a database, the one that its plain URL means first."""
UNUSED = "unused"
"""What marks trials that do not count: beyond the study's number, or refused by the config."""
NOBODY = "nobody"
"""The owner of a trial whose runs failed."""
ATTEMPTS = 4
_MAKING_TABLES = (sqlalchemy.exc.IntegrityError, sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.InternalError)
"""What a new database tells of several processes that make its tables at once: all but one try again."""


class KernelLock(BaseJournalFileLock):
    """The journal's lock, which ends with its process; a line that one killed while writing left half is cut off."""

    def __init__(self, journal: Path) -> None:
        self._journal, self._path = journal, journal.with_name(f".{journal.name}.lock")
        self._held = contextlib.ExitStack()

    def acquire(self) -> bool:
        """Wait for it."""
        self._held.enter_context(locks.locked(self._path))
        with open(self._journal, "rb+") as file:
            whole = file.read().rfind(b"\n") + 1 if not _ends_a_line(file) else None
            if whole is not None:
                file.truncate(whole)
        return True

    def release(self) -> None:
        """Give it back."""
        self._held.close()


def _ends_a_line(file: Any) -> bool:
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    ended = size == 0 or file.read(1) == b"\n"
    file.seek(0)
    return bool(ended)


def open_storage(url: str | None, folder: Path) -> JournalStorage | RDBStorage:
    """A journal in the study's folder, or a database; InputError that names a host that cannot be reached, and never
    its password."""
    if url is None:
        path = folder / JOURNAL
        folder.mkdir(parents=True, exist_ok=True)
        try:
            return JournalStorage(JournalFileBackend(str(path), lock_obj=KernelLock(path)))
        except (ValueError, KeyError, TypeError, AssertionError) as error:
            raise InputError(f"{path}: damaged: {type(error).__name__}: {error}") from None
    try:
        parsed = sqlalchemy.make_url(url)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise InputError("--storage: wants a URL as sqlite:///FILE, postgresql://USER:PASSWORD@HOST:PORT/DATABASE or "
                         "mysql://...; a journal in the study's folder is the default") from None  # fmt: skip
    parsed = _with_driver(parsed)
    if parsed.get_backend_name() == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise InputError("--storage sqlite://: is in memory, where nothing is left to go on from; sqlite:///FILE")
    waits = {"connect_timeout": CONNECT_SECONDS} if parsed.get_backend_name() in DRIVERS else {"timeout": 60}
    for left in reversed(range(ATTEMPTS)):
        try:
            return RDBStorage(
                parsed.render_as_string(hide_password=False),
                engine_kwargs={"connect_args": waits, "pool_pre_ping": True},
                heartbeat_interval=HEARTBEAT_SECONDS,
                grace_period=DEAD_AFTER_SECONDS,
            )
        except Exception as error:  # drivers raise what they like
            at_once = isinstance(error, _MAKING_TABLES) or "already exists" in str(error)  # the last: MySQL, SQLite
            if left and at_once:
                time.sleep(1.0)
                continue
            raise InputError(f"--storage {shown(parsed)}: cannot be used: {said(error, parsed)}") from None
    raise AssertionError


def shown(url: sqlalchemy.URL) -> str:
    """A URL without its password, wherever in it that stands."""
    hidden = {key: "***" if "pass" in key.lower() else value for key, value in url.query.items()}
    return url.set(query=hidden).render_as_string(hide_password=True).replace("%2A%2A%2A", "***")


def hidden_in(text: str, url: str | None) -> str:
    """A command line that names a storage, without its password."""
    if url is None:
        return text
    try:
        plain = shown(sqlalchemy.make_url(url))
    except (sqlalchemy.exc.ArgumentError, ValueError):
        plain = "URL"
    return text.replace(shlex.quote(url), plain).replace(url, plain)


@contextlib.contextmanager
def telling_of(url: str | None) -> Iterator[None]:
    """Tell what a database refuses in the midst of a study as InputError, in a line and without its password."""
    try:
        yield
    except (sqlalchemy.exc.SQLAlchemyError, StorageInternalError) as error:
        if url is None:
            raise
        parsed = sqlalchemy.make_url(url)
        raise InputError(f"--storage {shown(parsed)}: {said(error, parsed)}; the same command continues") from None


def said(error: BaseException, url: sqlalchemy.URL) -> str:
    """What a driver says is amiss, in a line, without the password."""
    if isinstance(error, ImportError) and error.name:
        return f"the package {error.name} is not installed"
    cause = getattr(error, "orig", None) or error.__cause__ or error
    cause = getattr(cause, "orig", None) or cause
    text = " ".join(str(cause).split())
    secrets = [str(value) for key, value in url.query.items() if "pass" in key.lower()]
    for secret in [str(url.password or ""), *secrets]:
        for form in {secret, quote(secret, safe=""), unquote(secret)} - {""}:
            text = text.replace(form, "***")
    return one_line(text, 400)


def _with_driver(url: sqlalchemy.URL) -> sqlalchemy.URL:
    """With the driver that is installed, where the URL names none."""
    if url.drivername not in DRIVERS:
        return url
    for module in DRIVERS[url.drivername]:
        with contextlib.suppress(ImportError):
            importlib.import_module(module)
            return url.set(drivername=f"{url.drivername}+{module.lower()}")
    raise InputError(f"--storage {shown(url)}: no driver for {url.drivername}; "
                     f"pip install {DRIVERS[url.drivername][-1]}")  # fmt: skip


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
        self.at = "journal" if url is None else shown(_with_driver(sqlalchemy.make_url(url)))
        self._shared = url is not None
        with store.planning():
            self._folder = store.identity()
        with self.asking(), telling_of(url):
            self._optuna = optuna.create_study(
                study_name=study.name, storage=self.storage, direction="maximize", load_if_exists=True,
                sampler=self._sampler(0),
            )  # fmt: skip
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
            TrialState.RUNNING, TrialState.PRUNED, TrialState.COMPLETE
        )  # fmt: skip

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
