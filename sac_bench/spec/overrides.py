"""Merges the overrides of an experiment file and resolves each variant's config on each environment.

Later ones take precedence: [base], [base.ALGORITHM], the command line's --set, [on.ENV], [variants.NAME],
[variants.NAME.on.ENV] and, for a point of a sweep, its value.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError, Problems, nearest, several
from sac_bench.options.config import TrainingConfig
from sac_bench.spec.backends import Backends
from sac_bench.spec.toml import setting, validate
from sac_bench.spec.variant import Shown

MAX_STEPS = 10**12


@dataclass(frozen=True)
class Resolved:
    """A variant's algorithm, its config and steps on each environment, and the options that it sets itself.

    places: {environment: {option that is set: the file and its table}}.
    """

    algorithm: str
    configs: dict[str, TrainingConfig]
    steps: dict[str, int]
    changes: dict[str, Any]
    places: dict[str, dict[str, str]]


class Overrides:
    """The tables of one file that apply to all variants.

    envs: the environments to resolve for; own_envs: those that [on.ENV] may name, None if it may name any; problems:
        where the errors of these tables are noted; backends: which environments the names of [on.ENV] stand for.
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
        problems: Problems,
        backends: Backends | None = None,
    ) -> None:
        self._where, self._algorithm, self._steps, self._envs, self._own_envs = where, algorithm, steps, envs, own_envs
        self._backends = backends or Backends()
        names = {key for key, value in base.items() if key in ALGORITHMS or isinstance(value, dict)}
        self._base = {key: value for key, value in base.items() if key not in names}
        self._base_of_algorithm = {key: base[key] for key in names}
        used = set()
        for name, changes in variants.items():
            with problems.noted():
                used.add(self.algorithm(changes, f"[variants.{name}]"))
        if not variants:
            with problems.noted():
                used.add(self.algorithm({}, ""))
        options = dict.fromkeys(key for name in used for key in ALGORITHMS[name].config.model_fields)
        self._settings: dict[str, Any] = {}
        for text in settings:
            with problems.noted():
                self._settings |= [setting(text, options)]
        with problems.noted():
            self._check_on(on, "[on.")
        self._on = on
        for name, table in self._base_of_algorithm.items():
            with problems.noted():
                self._check_base_of(name, table, name in used)

    def _check_base_of(self, name: str, table: Any, is_used: bool) -> None:
        """Raise InputError unless a table has options of an algorithm. Variants check the values that are used."""
        where = self._where
        if name not in ALGORITHMS:
            raise InputError(f"{where}: [base.{name}]: unknown algorithm {name!r}{nearest(name, ALGORITHMS)}")
        if not isinstance(table, dict):
            raise InputError(f"{where}: [base] {name}: must be a table [base.{name}] with options of {name}")
        self.check(table, name, f"[base.{name}]")
        if not is_used:
            config = ALGORITHMS[name].config
            merged = {key: value for key, value in self._base.items() if key in config.model_fields} | table
            self._checked_steps(merged.pop("steps", self._steps), f"{where}: [base.{name}]")
            validate(config, merged, f"{where}: [base.{name}]")

    def algorithm(self, changes: Mapping[str, Any], table: str) -> str:
        """Return the name of a variant's algorithm; InputError if it is unknown."""
        name = changes.get("algorithm", self._algorithm)
        if not isinstance(name, str) or name not in ALGORITHMS:
            place = f"{table} algorithm" if "algorithm" in changes else "algorithm"
            near = nearest(name, ALGORITHMS) if isinstance(name, str) else ""
            hint = near or "; available: " + ", ".join(ALGORITHMS)
            raise InputError(
                f"{self._where}: {place}: unknown algorithm {name!r}{hint} (a custom one requires --import MODULE)"
            )
        return name

    def check(self, options: Collection[str], algorithm: str, table: str) -> None:
        """Raise InputError for options that the algorithm does not have. Any table may have `steps`."""
        known = {*ALGORITHMS[algorithm].config.model_fields, "steps"}
        if unknown := [InputError(self._unknown(key, algorithm, table)) for key in options if key not in known]:
            raise several(unknown)

    def _unknown(self, key: str, algorithm: str, table: str) -> str:
        """Return the message about an option that an algorithm does not have."""
        place = f"{self._where}: {table} {key}:"
        if key == "start" or key in Shown.model_fields:
            return f"{place} belongs in [variants.NAME]"
        if key == "algorithm":
            return f"{place} belongs at the top of the file or in [variants.NAME]"
        known = ALGORITHMS[algorithm].config.model_fields
        others = [name for name, other in ALGORITHMS.items() if key in other.config.model_fields]
        hint = nearest(key, known) or f"; available: {', '.join(known)}"
        elsewhere = f", an option of {', '.join(others)}" if others else ""
        return f"{place} {algorithm} has no such option{elsewhere}{hint}"

    def resolve(
        self, table: str, changes: Mapping[str, Any], swept: Mapping[str, Any] | None = None, by: str = "[sweep]"
    ) -> Resolved:
        """Resolve a variant with the content `changes` of its table, and `swept` of the table `by` applied last."""
        own = {key: value for key, value in changes.items() if key not in ("algorithm", "on", "start")}
        start = {"start": changes["start"]} if "start" in changes else {}
        algorithm, on, point = self.algorithm(changes, table), changes.get("on", {}), dict(swept or {})
        inner = table.removesuffix("]")
        self._check_on(on, f"{inner}.on.")
        config, problems = ALGORITHMS[algorithm].config, Problems()
        configs, steps, set_in = {}, {}, {}
        for env in self._envs:
            overrides = [
                ("[base]", self._base),
                (f"[base.{algorithm}]", self._base_of_algorithm.get(algorithm, {})),
                ("--set", {k: v for k, v in self._settings.items() if k in ALGORITHMS[algorithm].config.model_fields}),
                *((f"[on.{name}]", self._on.get(name, {})) for name in self._backends.names_of(env)),
                (table, own),
                *((f"{inner}.on.{name}]", on.get(name, {})) for name in self._backends.names_of(env)),
                (by, point),
            ]
            merged: dict[str, Any] = {"steps": self._steps}
            places = set_in[env] = dict[str, str]()
            for place, options in overrides:
                with problems.noted():
                    self.check(options, algorithm, place)
                merged |= options
                places |= dict.fromkeys(options, f"{self._where}: {place}")
            with problems.noted():
                steps[env] = self._checked_steps(merged.pop("steps"), places.get("steps", self._where))
            valid = {key: value for key, value in merged.items() if key in config.model_fields}
            with problems.noted():
                configs[env] = validate(config, valid, f"{self._where}: {table}", places)
        problems.raise_all()
        by_env = self._by_env(on)
        return Resolved(algorithm, configs, steps, start | own | ({"on": by_env} if by_env else {}) | point, set_in)

    def _by_env(self, on: Mapping[str, Mapping[str, Any]]) -> Mapping[str, Mapping[str, Any]]:
        """Return tables [on.NAME] with the environments' ids as names: what the manifest records."""
        if not self._backends.names:
            return on
        named = {env: [on[name] for name in self._backends.names_of(env) if name in on] for env in self._envs}
        return {env: {key: of[key] for of in tables for key in of} for env, tables in named.items() if tables}

    def unused_settings(self, algorithms: Collection[str]) -> list[str]:
        """Return the options of --set that none of these algorithms has."""
        options = {key for name in algorithms for key in ALGORITHMS[name].config.model_fields}
        return [key for key in self._settings if key not in options]

    def _check_on(self, on: Any, table: str) -> None:
        if not isinstance(on, dict) or not all(isinstance(part, dict) for part in on.values()):
            raise InputError(f"{self._where}: {table}ENV]: must be a table of options for each environment")
        for env in on:
            if self._own_envs is not None and env not in self._own_envs:
                raise InputError(f"{self._where}: {table}{env}]: must be one of envs{nearest(env, self._own_envs)}")

    def _checked_steps(self, steps: Any, place: str) -> int:
        if not isinstance(steps, int) or isinstance(steps, bool) or not 1 <= steps <= MAX_STEPS:
            raise InputError(f"{place} steps: must be an integer between 1 and {MAX_STEPS:,}, not {steps!r}")
        return steps
