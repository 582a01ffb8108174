"""One run: everything that its numbers depend on, and the id that is a hash of it.

Not of names, not of the experiment, not of the number of steps: one store serves all experiments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.envs import sources
from sac_bench.envs.pool import describe
from sac_bench.errors import InputError


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
        ids as they were, and a changed default wants new `semantics`. What defines a user's own environment or
        algorithm is part of it; InputError where that cannot be read."""
        definitions = self._definitions()
        for what, definition in definitions.items():
            if missing := sources.unreadable(definition):
                raise InputError(
                    f"{what} {getattr(self, what)!r}: its source cannot be read, because {missing[0]!r} is no module "
                    "with a file (a notebook or a console, say); write it to a file and --import that"
                )
        begun = {"start": asdict(self.start)} if self.start else {}
        own = {f"{what}_definition": definition for what, definition in definitions.items() if definition}
        return {
            "algorithm": self.algorithm,
            "semantics": ALGORITHMS[self.algorithm].version,
            "env": self.env,
            "backend": describe(self.env).backend,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json", exclude_defaults=True),
        } | (begun | own)

    def _definitions(self) -> dict[str, sources.Definition]:
        return {"env": describe(self.env).definition, "algorithm": ALGORITHMS[self.algorithm].definition}

    def versions(self) -> str:
        """The backend's version and, in digests, those of a user's own environment and algorithm."""
        own = [f"{what} {digest(definition)[:8]}" for what, definition in self._definitions().items() if definition]
        return ", ".join([describe(self.env).backend, *own])

    def differences_from(self, written: Mapping[str, Any]) -> list[str]:
        """How what trained an equal run (its `as_dict`) differs from what would train it now, in words that follow
        "trained with"."""
        found = []
        for what, definition in self._definitions().items():
            found += sources.differences(written.get(f"{what}_definition", {}), definition)
        now = {"semantics": ALGORITHMS[self.algorithm].version, "backend": describe(self.env).backend}
        for key, name in (("semantics", f"semantics {{}} of {self.algorithm}"), ("backend", "{}")):
            if written.get(key) != now[key]:
                found.append(f"{name.format(written.get(key))} (now {now[key]})")
        return found

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
