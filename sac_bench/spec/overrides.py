"""What an experiment file says of a variant, layer upon layer, and the config that comes of it on each environment.

Later wins: [base], [base.ALGORITHM], the command line's --set, [on.ENV], [variants.NAME], [variants.NAME.on.ENV],
and, of a variant that is a point of a sweep, its value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.config import TrainingConfig
from sac_bench.errors import InputError, nearest
from sac_bench.spec.toml import setting, validate

MAX_STEPS = 10**12


@dataclass(frozen=True)
class Resolved:
    """A variant's algorithm, its config and steps on each environment, and what it changes itself."""

    algorithm: str
    configs: dict[str, TrainingConfig]
    steps: dict[str, int]
    changes: dict[str, Any]


class Overrides:
    """The tables of one file that are of every variant.

    envs: the environments to resolve for; own_envs: those that [on.ENV] may name, None where any may.
    """

    def __init__(
        self,
        where: str,
        algorithm: str,
        steps: int,
        base: Mapping[str, Any],
        on: Mapping[str, Any],
        settings: Sequence[str],
        variants: Mapping[str, Mapping[str, Any]],
        envs: Sequence[str],
        own_envs: Sequence[str] | None,
    ) -> None:
        self._where, self._algorithm, self._steps, self._envs, self._own_envs = where, algorithm, steps, envs, own_envs
        named = {key for key, value in base.items() if key in ALGORITHMS or isinstance(value, dict)}
        self._common = {key: value for key, value in base.items() if key not in named}
        self._of_algorithm = {key: base[key] for key in named}
        used = {self.algorithm(overrides, f"[variants.{name}]") for name, overrides in variants.items()}
        used = used or {self.algorithm({}, "")}
        options = dict.fromkeys(key for name in used for key in ALGORITHMS[name].config.model_fields)
        self._given = dict(setting(text, options) for text in settings)
        self._check_on(on, "[on.")
        self._on = on
        for name, table in self._of_algorithm.items():
            if name not in ALGORITHMS:
                raise InputError(f"{where}: [base.{name}]: unknown algorithm {name!r}{nearest(name, ALGORITHMS)}")
            if not isinstance(table, dict):
                raise InputError(f"{where}: [base] {name}: wants a table [base.{name}] of {name}'s options")
            self.check(table, name, f"[base.{name}]")
            if name not in used:  # no variant's config tells of its values
                config = ALGORITHMS[name].config
                merged = {key: value for key, value in self._common.items() if key in config.model_fields} | table
                self._whole(merged.pop("steps", steps), f"{where}: [base.{name}]")
                validate(config, merged, f"{where}: [base.{name}]")

    def algorithm(self, overrides: Mapping[str, Any], table: str) -> str:
        """The name of a variant's algorithm."""
        name = overrides.get("algorithm", self._algorithm)
        if not isinstance(name, str) or name not in ALGORITHMS:
            place = f"{table} algorithm" if "algorithm" in overrides else "algorithm"
            near = nearest(name, ALGORITHMS) if isinstance(name, str) else ""
            hint = near or "; there are " + ", ".join(ALGORITHMS)
            raise InputError(
                f"{self._where}: {place}: unknown algorithm {name!r}{hint} (one's own needs --import MODULE)"
            )
        return name

    def check(self, options: Collection[str], algorithm: str, table: str) -> None:
        """Refuse, by name, what the algorithm does not have; any table may have `steps`."""
        known = ALGORITHMS[algorithm].config.model_fields
        for key in options:
            if key == "start":
                raise InputError(f"{self._where}: {table} start: has its place in [variants.NAME]")
            if key == "algorithm":
                raise InputError(
                    f"{self._where}: {table} algorithm: has its place at the top of the file or in [variants.NAME]"
                )
            if key != "steps" and key not in known:
                others = [name for name, other in ALGORITHMS.items() if key in other.config.model_fields]
                hint = nearest(key, known) or f"; it has {', '.join(known)}"
                elsewhere = f", an option of {', '.join(others)}" if others else ""
                raise InputError(f"{self._where}: {table} {key}: {algorithm} has no such option{elsewhere}{hint}")

    def resolve(
        self, table: str, overrides: Mapping[str, Any], swept: Mapping[str, Any] | None = None, by: str = "[sweep]"
    ) -> Resolved:
        """What becomes of a variant that its table says `overrides` of, and the table `by` says `swept`, last."""
        own = {key: value for key, value in overrides.items() if key not in ("algorithm", "on", "start")}
        start = {"start": overrides["start"]} if "start" in overrides else {}
        algorithm, on, point = self.algorithm(overrides, table), overrides.get("on", {}), dict(swept or {})
        inner = table.removesuffix("]")
        self._check_on(on, f"{inner}.on.")
        configs, steps = {}, {}
        for env in self._envs:
            layers = [
                ("[base]", self._common),
                (f"[base.{algorithm}]", self._of_algorithm.get(algorithm, {})),
                ("--set", {k: v for k, v in self._given.items() if k in ALGORITHMS[algorithm].config.model_fields}),
                (f"[on.{env}]", self._on.get(env, {})),
                (table, own),
                (f"{inner}.on.{env}]", on.get(env, {})),
                (by, point),
            ]
            merged: dict[str, Any] = {"steps": self._steps}
            places: dict[str, str] = {}
            for place, options in layers:
                self.check(options, algorithm, place)
                merged |= options
                places |= dict.fromkeys(options, f"{self._where}: {place}")
            steps[env] = self._whole(merged.pop("steps"), places.get("steps", self._where))
            configs[env] = validate(ALGORITHMS[algorithm].config, merged, f"{self._where}: {table}", places)
        return Resolved(algorithm, configs, steps, start | own | ({"on": on} if on else {}) | point)

    def unused_settings(self, algorithms: Collection[str]) -> list[str]:
        """The command line's settings that none of these algorithms has."""
        has = {key for name in algorithms for key in ALGORITHMS[name].config.model_fields}
        return [key for key in self._given if key not in has]

    def _check_on(self, on: Any, table: str) -> None:
        if not isinstance(on, dict) or not all(isinstance(part, dict) for part in on.values()):
            raise InputError(f"{self._where}: {table}ENV]: wants tables of options, one an environment")
        for env in on:
            if self._own_envs is not None and env not in self._own_envs:
                raise InputError(f"{self._where}: {table}{env}]: not one of envs{nearest(env, self._own_envs)}")

    def _whole(self, steps: Any, place: str) -> int:
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
            raise InputError(f"{place} steps: wants a whole number from 1 to {MAX_STEPS:,}, not {steps!r}")
        return steps
