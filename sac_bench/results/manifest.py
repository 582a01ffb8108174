"""The record of an experiment, results/<name>/experiment.json, as a frozen type."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sac_bench.envs.known import by_task
from sac_bench.errors import InputError
from sac_bench.results.protocol import ProtocolCard
from sac_bench.spec.choose import Choice
from sac_bench.spec.measures import LAST_SHARE
from sac_bench.spec.seeds import parse_range
from sac_bench.store.atomic import Fingerprint, read_json, write_json

FILE = "experiment.json"

Number = Annotated[float, BeforeValidator(lambda value: math.nan if value is None else value)]
"""A number that may be NaN or infinite, which JSON holds as null."""


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True)


class RandomPolicy(_Record):
    """The undiscounted return of uniformly random actions in one environment."""

    episodes: int
    return_mean: Number
    return_std: Number


class ImportedRecord(_Record):
    """What is known of a variant that others trained (results/importing.py)."""

    format: str
    card: ProtocolCard
    evaluated: dict[str, tuple[int, ...]]
    """{environment: the steps at which its runs were evaluated}."""


class VariantRecord(_Record):
    """A variant: its algorithm, what it overrides, and its config and steps per environment."""

    algorithm: str
    version: int | None = None
    """The version of the algorithm that trained it; None if it was not recorded."""
    option_versions: dict[str, int] = {}
    """Versions of the options that its configs use, above 1 (`TrainingConfig.option_versions`)."""
    scored_by: Literal["mean", "sample", "unknown"] = "mean"
    """The actions of the policy that scores it; "unknown" only if it was imported."""
    overrides: dict[str, Any] = {}
    seeds: dict[str, int] = {}
    """{environment: how many of the experiment's seeds it has}; empty: all."""
    steps: dict[str, int]
    configs: dict[str, dict[str, Any]] = {}
    swept: tuple[str, float] | None = None
    """The option and value, if the variant is a point of a sweep."""
    sweep_of: str | None = None
    """The variant that the sweep is of; None: the reference."""
    sweep_label: str = ""
    """What figures call the option of the sweep; empty: its name."""
    label: str = ""
    """What figures call it; empty: its name."""
    group: str = ""
    """The heading under which figures list it."""
    imported: ImportedRecord | None = None
    """None: trained by this package."""


class ClaimRecord(_Record):
    """A published claim in the words of its file (spec/claim.py parses it)."""

    words: str
    source: str
    refuted_by: str = ""
    """Empty in results that were written before claims had to say it."""
    expect: tuple[str, ...]
    margin: float | None = None
    grows: tuple[str, str] | None = None


class FactorialRecord(_Record):
    """A two-level factorial design (spec/factorial.py)."""

    factors: dict[str, str]
    """{name: label}."""
    cells: dict[str, tuple[str, ...]]
    """{variant: the factors at their high level}."""

    @property
    def is_half(self) -> bool:
        """Whether it has half of all combinations."""
        return len(self.cells) < 1 << len(self.factors)


class Manifest(_Record):
    """An experiment as it was run. `tables`: the fingerprint of every CSV file beside it."""

    name: str
    question: str
    envs: tuple[str, ...]
    seeds: tuple[int, ...]
    """Those that any variant has."""
    seed_range: str | None = None
    """The range that the file gives, "5..30", if it gives one (`looks`)."""
    reference: str
    reference_factor: int = 1
    """How many times the variants' seeds the reference has."""
    variants: dict[str, VariantRecord]
    success_return: float | None = None
    margin: float | None = None
    """The share of the reference's gain below which differences do not matter, in an experiment without a claim."""
    backends: tuple[str, ...] = ()
    """The backends on which `envs` has every task, if the file has this key. It is not written if there are none."""
    score_last: float = LAST_SHARE
    """A run's score is the mean of its evaluations in this last share of its steps."""
    claim: ClaimRecord | None = None
    factorial: FactorialRecord | None = None
    """The design, if the variants are its cells."""
    choices: tuple[Choice, ...] = ()
    command: str = ""
    mix_devices: bool = False
    """Whether runs of different kinds of devices are compared."""
    random: dict[str, RandomPolicy] = {}
    tables: dict[str, Fingerprint] = {}
    reached: dict[str, int] = Field(default={}, exclude=True)
    """{environment: the steps up to which its runs are compared} while training is not over. It is not written."""

    @property
    def algorithms(self) -> list[str]:
        """The algorithms of its variants, without repeats, in order."""
        return list(dict.fromkeys(variant.algorithm for variant in self.variants.values()))

    @property
    def tasks(self) -> dict[str, tuple[str, ...]]:
        """{task: its environments, one on each backend}; without `backends`, every environment is a task."""
        return by_task(self.envs) if self.backends else {env: (env,) for env in self.envs}

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of seeds per variant at which verdicts are computed; () if the seeds are fixed."""
        return parse_range(self.seed_range, self.name).looks if self.seed_range else ()

    def seeds_of(self, env: str, variant: str) -> tuple[int, ...]:
        """Return the seeds that a variant has in an environment."""
        return self.seeds[: self.variants[variant].seeds.get(env)]

    def seeds_each(self) -> str:
        """Return how many seeds a variant has in an environment: "5", or "5 to 20"."""
        counts = [len(self.seeds_of(env, variant)) for env in self.envs for variant in self.variants]
        return f"{min(counts)} to {max(counts)}" if min(counts) < max(counts) else str(counts[0])

    def seeds_in_words(self) -> str:
        """Return which seeds the variants have: "0 to 5; of the reference sac: 0 to 23"."""
        if self.seed_range:
            return f"within {self.seed_range}, from {self.seeds[0]}"
        of = {name: max((self.seeds_of(env, name) for env in self.envs), key=len) for name in self.variants}
        own = of.pop(self.reference)
        others = max(of.values(), key=len, default=own)
        return (
            _listed(others)
            if others == own
            else f"{_listed(others)}; of the reference {self.reference}: {_listed(own)}"
        )

    def label(self, variant: str) -> str:
        """Return what figures call a variant."""
        return self.variants[variant].label or variant

    def random_return(self, env: str) -> float:
        """Return the mean return of a random policy, NaN if it is unknown."""
        return self.random[env].return_mean if env in self.random else math.nan

    def option(self, variant: str, env: str, name: str, default: Any = None) -> Any:
        """Return an option of a variant's config in an environment."""
        return self.variants[variant].configs.get(env, {}).get(name, default)

    def steps_on(self, env: str) -> list[int]:
        """Return the numbers of steps of its variants in an environment, without repeats, ascending."""
        return sorted({variant.steps[env] for variant in self.variants.values()})


def load_manifest(folder: Path) -> Manifest:
    """Read results/<name>/experiment.json. Raises InputError if it is not what sac-bench writes."""
    try:
        return Manifest.model_validate(read_json(folder / FILE))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(f"{folder / FILE}: {where}: {first['msg']}; run the experiment again to rewrite it") from None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write results/<name>/experiment.json."""
    unset = None if manifest.backends else {"backends"}
    write_json(folder / FILE, manifest.model_dump(mode="json", exclude=unset))


def _listed(seeds: tuple[int, ...]) -> str:
    """Return seeds in words: "0 to 5" if they follow each other, else "1, 5, 7"."""
    if len(seeds) > 2 and seeds == tuple(range(seeds[0], seeds[0] + len(seeds))):
        return f"{seeds[0]} to {seeds[-1]}"
    return ", ".join(map(str, seeds))
