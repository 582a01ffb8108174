"""One run: everything that its numbers depend on, and the id that is a hash of it.

Not of names, not of the experiment, not of the number of steps: one store serves all experiments.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.errors import InputError
from sac_bench.training.envs import describe


@dataclass(frozen=True)
class Start:
    """The weights that a run begins with: those that the run of this id ended with, at these steps."""

    run: str
    steps: int


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that its numbers depend on."""

    algorithm: str
    config: TrainingConfig
    env: str
    seed: int
    start: Start | None = None

    def as_dict(self) -> dict[str, Any]:
        """All of it, the whole config included, as JSON holds it."""
        return self.identity() | {"config": self.config.model_dump(mode="json")}

    def identity(self) -> dict[str, Any]:
        """What the id is a hash of. Of the config only what differs from the defaults: a new option leaves old
        ids as they were, and a changed default wants new `semantics`."""
        begun = {"start": asdict(self.start)} if self.start else {}
        return {
            "algorithm": self.algorithm,
            "semantics": ALGORITHMS[self.algorithm].semantics,
            "env": self.env,
            "backend": describe(self.env).backend,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json", exclude_defaults=True),
        } | begun

    @cached_property
    def id(self) -> str:
        """Sixteen hexadecimal digits of the SHA-256 of `identity`."""
        return digest(self.identity())

    def structure(self) -> str:
        """Runs with equal structure can train as one program."""
        described = {"algorithm": self.algorithm, "env": self.env, "config": self.config.structure()}
        return json.dumps(described, sort_keys=True)

    @staticmethod
    def from_dict(spec: dict[str, Any]) -> RunSpec:
        """The inverse of `as_dict`, for what a store holds."""
        if spec["algorithm"] not in ALGORITHMS:
            raise InputError(f"algorithm {spec['algorithm']!r} is not known: --import the module that registers it")
        config = ALGORITHMS[spec["algorithm"]].config.model_validate_json(json.dumps(spec["config"]))
        start = Start(**spec["start"]) if "start" in spec else None
        return RunSpec(spec["algorithm"], config, spec["env"], spec["seed"], start)


def digest(value: Any) -> str:
    """Sixteen hexadecimal digits that name a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
