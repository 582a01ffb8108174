"""The key `backends`: which environments a name stands for in a file that has it.

"Hopper-v5" stands for the task on every backend of the file, "envpool:Hopper-v5" and "gymnasium:Hopper-v5" for one
environment. Runs have the environments' own ids, so their ids do not depend on how a file names them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from sac_bench.envs.known import BACKENDS, backend_of, check, on_backend, task_of
from sac_bench.errors import InputError, Problems, nearest
from sac_bench.spec.toml import located


@dataclass(frozen=True)
class Backends:
    """The backends of a file; () without the key: then every name stands for itself."""

    names: tuple[str, ...] = ()

    @staticmethod
    def checked(names: Sequence[str] | None, where: str, problems: Problems) -> Backends:
        """Return the backends of a file's key, None if it has none; note unknown and repeated ones."""
        known = [name for name in names or () if name in BACKENDS]
        for name in names or ():
            if name not in BACKENDS:
                hint = nearest(name, BACKENDS) or f"; available: {', '.join(BACKENDS)}"
                problems.errors.append(InputError(f"{where}: backends: unknown backend {name!r}{hint}"))
            elif known.count(name) > 1:
                problems.errors.append(InputError(f"{where}: backends: {name!r} is duplicated"))
        return Backends(tuple(dict.fromkeys(known)))

    def envs(self, name: str) -> tuple[str, ...]:
        """Return the environments that a name stands for."""
        backend, colon, task = name.partition(":")
        if not self.names or (colon and backend in BACKENDS):
            return (on_backend(task, backend) if self.names else name,)
        return tuple(on_backend(name, one) for one in self.names)

    def all_envs(self, names: Sequence[str]) -> list[str]:
        """Return the environments that some names stand for, with duplicates, task by task."""
        return [env for name in names for env in self.envs(name)]

    def names_of(self, env: str) -> tuple[str, ...]:
        """Return the names that stand for an environment; later ones are more specific."""
        return (task_of(env), f"{backend_of(env)}:{task_of(env)}") if self.names else (env,)

    def check_envs(self, names: Sequence[str], where: str, problems: Problems) -> None:
        """Note the environments that cannot be trained on, duplicates, and those on other backends than the file's."""
        found: list[str] = []
        for name in names:
            for env in self.envs(name):
                place = f"{where}: envs: {name!r} on {backend_of(env)}" if self.names else f"{where}: envs"
                with problems.noted(), located(place):
                    check(env)
                if env in found:
                    problems.errors.append(InputError(f"{where}: envs: {name!r} is duplicated"))
                if self.names and backend_of(env) not in self.names:
                    problems.errors.append(InputError(f"{where}: envs: {name!r} is not on one of backends"))
                found.append(env)

    def expectations(self, texts: Sequence[str], envs: Collection[str]) -> list[str]:
        """Return a claim's expectations with one for each of `envs` that "on NAME" stands for."""
        expanded = []
        for text in texts:
            words, is_on, name = text.rpartition(" on ")
            of = [env for env in self.envs(name) if env in envs] if is_on else []
            expanded += [f"{words} on {env}" for env in of] or [text]
        return expanded

    def pair(self, names: tuple[str, str] | None, envs: Collection[str], where: str) -> tuple[str, str] | None:
        """Return the environments of the key `grows`. Raises InputError for a name that stands for several."""
        if names is None or not self.names:
            return names
        found = [[env for env in self.envs(name) if env in envs] or [name] for name in names]
        for name, of in zip(names, found, strict=True):
            if len(of) > 1:
                one = self.names_of(of[0])[-1]
                raise InputError(f"{where}: grows: {name!r} has several backends; name one environment, such as {one}")
        return found[0][0], found[1][0]


def shown(backends: Sequence[str], envs: Sequence[str]) -> str:
    """Return which environments are on which backend: "EnvPool (Hopper-v5), Gymnasium (gymnasium:Hopper-v5)"."""
    of = {one: [env for env in envs if backend_of(env) == one] for one in backends}
    return ", ".join(f"{BACKENDS[one]} ({', '.join(own)})" for one, own in of.items() if own)
