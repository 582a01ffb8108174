"""The spec of a run: everything that its results depend on, and the id, which is a hash of it.

The id does not depend on names, the experiment or the number of steps, so one store serves all experiments.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs import sources
from sac_bench.envs.known import properties
from sac_bench.errors import InputError
from sac_bench.options.config import TrainingConfig

EVALUATION_VERSION = 3
"""Part of every run's id; raised when the rows of evaluations change.

Version 1 played sampled actions in every evaluation. Version 2 compiled their draws, which changed last digits.
"""


@dataclass(frozen=True)
class WarmStart:
    """Initial weights of a run: those at the end of the run with this id, at these steps.

    temperature: the initial temperature; None if it is that of these weights, or if there is none or a fixed one.
    """

    run: str
    steps: int
    temperature: float | None = None

    def as_plain(self) -> dict[str, Any]:
        """Return it as JSON values, without a temperature of None."""
        return {key: value for key, value in asdict(self).items() if value is not None}


@dataclass(frozen=True)
class RunSpec:
    """One run: everything that its results depend on."""

    algorithm: str
    config: TrainingConfig
    env: str
    seed: int
    start: WarmStart | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the spec as JSON values, with the complete config."""
        return self.identity() | {"config": self.config.model_dump(mode="json")}

    def identity(self) -> dict[str, Any]:
        """Return the values that the id is a hash of.

        Of the config it contains only what differs from the defaults. So a new option does not change existing ids,
        and a changed default requires a new `semantics`. Where only the numbers of one option change, the config has a
        new version of that option (`TrainingConfig.option_versions`). It contains the definition of a custom
        environment or algorithm; InputError if the source cannot be read.
        """
        definitions = self._definitions()
        for what, definition in definitions.items():
            if missing := sources.unreadable(definition):
                raise InputError(
                    f"{what} {getattr(self, what)!r}: its source cannot be read: {missing[0]!r} is not a module "
                    "with a file (for example a notebook or a console); write it to a file and --import that"
                )
        start = {"start": self.start.as_plain()} if self.start else {}
        versions = {"option_versions": self.config.option_versions} if self.config.option_versions else {}
        own = {f"{what}_definition": definition for what, definition in definitions.items() if definition}
        return {
            "algorithm": self.algorithm,
            "semantics": ALGORITHMS[self.algorithm].version,
            "env": self.env,
            "backend": properties(self.env).backend,
            "evaluation": EVALUATION_VERSION,
            "seed": self.seed,
            "config": self.config.model_dump(mode="json", exclude_defaults=True),
        } | (start | versions | own)

    def _definitions(self) -> dict[str, sources.Definition]:
        return {"env": properties(self.env).definition, "algorithm": ALGORITHMS[self.algorithm].definition}

    def evaluated_by(self, policy: Any, steps: Any, last: int) -> Any:
        """Return whether a run that ends at `last` transitions is evaluated at `steps` by a policy of POLICIES.

        Policy and steps are single or arrays.
        """
        return self.config.is_evaluated(steps, last, policy == ALGORITHMS[self.algorithm].scored_by)

    def versions(self) -> str:
        """Return the backend's version and digests of the definitions of a custom environment and algorithm."""
        own = [f"{what} {digest(definition)[:8]}" for what, definition in self._definitions().items() if definition]
        return ", ".join([properties(self.env).backend, *own])

    def differences_from(self, written: Mapping[str, Any]) -> list[str]:
        """Return how the versions that trained a run, given by its `as_dict`, differ from the current ones.

        Each item completes "trained with ...".
        """
        differences = []
        for what, definition in self._definitions().items():
            differences += sources.differences(written.get(f"{what}_definition", {}), definition)
        current = {"semantics": ALGORITHMS[self.algorithm].version, "backend": properties(self.env).backend}
        for key, name in (("semantics", f"version {{}} of {self.algorithm}"), ("backend", "{}")):
            if written.get(key) != current[key]:
                differences.append(f"{name.format(written.get(key))} (now {current[key]})")
        if (version := written.get("evaluation", 1)) != EVALUATION_VERSION:
            differences.append(f"version {version} of evaluations (now {EVALUATION_VERSION})")
        before, now = written.get("option_versions", {}), self.config.option_versions
        for option in sorted({*before, *now}):
            if before.get(option, 1) != now.get(option, 1):
                differences.append(f"version {before.get(option, 1)} of option {option} (now {now.get(option, 1)})")
        return differences

    @cached_property
    def id(self) -> str:
        """The first 16 hexadecimal digits of the SHA-256 of `identity`."""
        return digest(self.identity())

    def structure(self) -> str:
        """Return a key that is equal for runs that can train as one program."""
        described = {"algorithm": self.algorithm, "env": self.env, "config": self.config.structure()}
        return json.dumps(described, sort_keys=True)

    @staticmethod
    def from_dict(spec: dict[str, Any]) -> RunSpec:
        """Return the spec from the result of `as_dict`; InputError if its algorithm is not registered."""
        if spec["algorithm"] not in ALGORITHMS:
            raise InputError(f"algorithm {spec['algorithm']!r} is unknown: --import the module that registers it")
        config = ALGORITHMS[spec["algorithm"]].config.model_validate_json(json.dumps(spec["config"]))
        start = WarmStart(**spec["start"]) if "start" in spec else None
        return RunSpec(spec["algorithm"], config, spec["env"], spec["seed"], start)


def digest(value: Any) -> str:
    """Return 16 hexadecimal digits that identify a JSON value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:16]
