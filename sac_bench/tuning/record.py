"""The record of a study, results/<name>/study.json, as a frozen type: everything that its report needs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, InstanceOf, PlainSerializer, ValidationError

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.results.load import lock_of
from sac_bench.store import locks
from sac_bench.store.atomic import read_json, write_json
from sac_bench.tuning.held_out import Verdict
from sac_bench.tuning.pruning import bracket
from sac_bench.tuning.space import Dimension, Params
from sac_bench.tuning.study import Study
from sac_bench.tuning.trials import Trial

FILE = "study.json"


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class SearchedOption(_Record):
    """A searched option: a range from `low` to `high`, or choices."""

    low: int | float = 0
    high: int | float = 0
    log: bool = False
    step: int | float | None = None
    choices: tuple[Any, ...] = ()

    @staticmethod
    def of(dimension: Dimension) -> SearchedOption:
        """Return the record of a dimension of a search space."""
        return SearchedOption.model_validate({k: v for k, v in asdict(dimension).items() if k != "name"})

    def as_dict(self) -> dict[str, Any]:
        """Return what a range, or a choice, is defined by."""
        return self.model_dump(mode="json", exclude_unset=True, exclude_none=True)


class TrialRecord(_Record):
    """A trial: its settings, its value at every stage that it reached, and the cost of its runs."""

    number: int
    name: str
    state: Annotated[str, Field(pattern="^(RUNNING|PRUNED|COMPLETE|FAILED)$")]
    params: Params
    value: float | None
    values: dict[int, float]
    """{steps of each run: value}."""
    diverged: int
    exploded: int = 0
    bracket: int
    seconds: float
    steps: int
    """Transitions of all its runs."""

    @property
    def reached(self) -> int:
        """The last stage at which it has a value; 0 if there is none."""
        return max(self.values, default=0)

    @property
    def last(self) -> float:
        """Its value there; -infinity if there is none."""
        return self.values.get(self.reached, float("-inf"))


class StudyRecord(_Record):
    """A study: what it searched, its trials, and its check on held-out seeds."""

    name: str
    question: str
    algorithm: str
    version: int
    scored_by: str = "mean"
    envs: list[str]
    seeds: list[int]
    held_out_seeds: list[int]
    stages: Annotated[list[int], Field(min_length=1)]
    """Numbers of steps of each run, ascending: the rungs and the end."""
    layers: list[list[int]] = []
    wanted: int
    """The number of trials that the study asks for."""
    runs_per_trial: int
    value_means: str
    """The meaning of a trial's value, as a label of an axis."""
    settings: dict[str, Any]
    space: dict[str, Annotated[SearchedOption, PlainSerializer(SearchedOption.as_dict)]]
    default: Params
    trials: list[TrialRecord]
    importances: dict[str, float]
    verdict: Annotated[
        InstanceOf[Verdict] | None,
        BeforeValidator(lambda known: Verdict.from_dict(known) if isinstance(known, Mapping) else known),
        PlainSerializer(lambda verdict: verdict and verdict.as_dict()),
    ] = None
    failures: list[str] = []
    """One line per reason why runs failed."""
    storage: str
    command: str
    training_seconds: float
    own_seconds: float

    @property
    def states(self) -> list[str]:
        """The states of its trials, in order."""
        return [trial.state for trial in self.trials]


def describe(
    study: Study,
    trials: Sequence[Trial],
    importances: Mapping[str, float],
    *,
    storage: str,
    command: str,
    training_seconds: float,
    own_seconds: float,
    failed: Sequence[int],
    failures: Sequence[str] = (),
    verdict: Verdict | None = None,
) -> StudyRecord:
    """Return the record of a study. failed: the numbers of trials with failed runs."""
    configs = [study.default.configs[env].model_dump(mode="json") for env in study.envs]
    return StudyRecord(
        name=study.name,
        question=study.question,
        algorithm=study.algorithm,
        version=ALGORITHMS[study.algorithm].version,
        scored_by=ALGORITHMS[study.algorithm].scored_by,
        envs=list(study.envs),
        seeds=list(study.seeds),
        held_out_seeds=list(study.held_out_seeds),
        stages=list(study.stages),
        layers=[of["layers"] for of in configs if "layers" in of],
        wanted=study.trials,
        runs_per_trial=len(study.seeds) * len(study.envs),
        value_means=value_means(study),
        settings={
            "sampler": f"{study.sampler} (seed {study.sampler_seed})",
            "batch": study.batch,
            "pruner": study.pruner,
            "reduction": study.reduction,
            "objective": study.objective,
            "aggregate": study.aggregate,
            "quantile": study.quantile,
            "scale": {env: list(ends) for env, ends in study.scale.items()},
        },
        space={dimension.name: SearchedOption.of(dimension) for dimension in study.space},
        default={dimension.name: configs[0][dimension.name] for dimension in study.space},
        trials=[_trial(trial, study, trial.number in failed) for trial in trials],
        importances=dict(importances),
        verdict=verdict,
        failures=list(failures),
        storage=storage,
        command=command,
        training_seconds=round(training_seconds, 2),
        own_seconds=round(own_seconds, 2),
    )


def value_means(study: Study) -> str:
    """Return the meaning of a trial's value, as a label of an axis."""
    what = {"final": "final score", "area": "mean of the curve"}[study.objective]
    aggregate = "IQM" if study.aggregate == "iqm" else f"{study.quantile:g} quantile"
    return f"{what} ({aggregate}{', scaled' if study.scale else ''})"


def _trial(trial: Trial, study: Study, failed: bool) -> TrialRecord:
    last = max(trial.scores, default=None)
    runs = [run for of_env in trial.scores[last].values() for run in of_env] if last is not None else []
    cost = trial.costs.get(last, {}) if last is not None else {}
    return TrialRecord(
        number=trial.number,
        name=trial.name,
        state="FAILED" if failed else trial.state,
        params=trial.params,
        value=trial.value,
        values=trial.values,
        diverged=sum(run.diverged for run in runs),
        exploded=sum(run.exploded for run in runs),
        bracket=bracket(trial.number, study.pruner, len(study.rungs), study.reduction),
        seconds=cost.get("seconds", 0.0),
        steps=int(cost.get("steps", 0)),
    )


def is_study(folder: Path) -> bool:
    """Return whether results/<name>/ is a study's."""
    return (folder / FILE).exists()


def write_record(folder: Path, record: StudyRecord) -> None:
    """Write results/<name>/study.json."""
    with locks.locked(lock_of(folder, "tables")):
        write_json(folder / FILE, record.model_dump(mode="json"))


def load_record(folder: Path) -> StudyRecord:
    """Read results/<name>/study.json. Raises InputError if it is not what sac-bench writes."""
    try:
        return StudyRecord.model_validate(read_json(folder / FILE))
    except ValidationError as error:
        first = error.errors()[0]
        where, what = ".".join(map(str, first["loc"])), first["msg"]
    except (KeyError, TypeError, AttributeError) as error:
        where, what = "verdict", f"{type(error).__name__}: {error}"
    raise InputError(f"{folder / FILE}: {where}: {what}; run sac-bench tune again to rewrite it")
