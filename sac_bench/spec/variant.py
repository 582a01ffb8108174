"""A variant: a name, an algorithm, its config and steps per environment, and what its runs start from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sac_bench.algorithms.config import TrainingConfig, require_multiple
from sac_bench.errors import InputError
from sac_bench.spec.run import RunSpec, WarmStart


@dataclass(frozen=True)
class Variant:
    """One variant, resolved for every environment.

    overrides: the options that the variant sets itself; swept: option and value if it is a point of a sweep, of
    the variant sweep_of; parent: the runs that its runs start from.
    """

    name: str
    algorithm: str
    configs: dict[str, TrainingConfig]
    steps: dict[str, int]
    overrides: dict[str, Any]
    swept: tuple[str, float] | None = None
    sweep_of: str | None = None
    parent: Parent | None = None

    @property
    def generation(self) -> int:
        """Number of warm starts in the chain that leads to it."""
        return 1 + self.parent.variant.generation if self.parent else 0

    def run(self, env: str, seed: int) -> RunSpec:
        """Return its run on an environment with a seed."""
        start = self.parent.warm_start(self.configs[env], seed) if self.parent else None
        return RunSpec(self.algorithm, self.configs[env], env, seed, start)


def check_steps(variant: Variant, where: str) -> None:
    """Raise InputError for steps that are no multiple of num_envs, or in which nothing is learned."""
    place = f"{where}: variant {variant.name!r}"
    for env, config in variant.configs.items():
        steps = variant.steps[env]
        try:
            require_multiple("steps", steps, config.num_envs)
        except ValueError as error:
            raise InputError(f"{place}: {error}") from None
        if config.updates_due(steps) < 1:
            raise InputError(
                f"{place}: steps = {steps} allows no update; the first update is at "
                f"{config.steps_of_update(1)}: {config.describe_start()}"
            )
        if config.learns_until is not None and steps > config.learns_until:
            raise InputError(
                f"{place}: steps = {steps} is more than anneal_steps = {config.learns_until}, after which nothing is "
                f"learned; set anneal_steps to {steps}, or to 0"
            )


@dataclass(frozen=True)
class Parent:
    """The parent of a variant: another variant on one environment, with the steps to start from.

    temperature: the one that learned temperatures start at: "keep" the parent's, their "own" option's, or a number.
    """

    variant: Variant
    env: str
    temperature: str | float = "keep"

    @property
    def steps(self) -> int:
        return self.variant.steps[self.env]

    def run(self, seed: int) -> RunSpec:
        """Return the parent run with this seed."""
        return self.variant.run(self.env, seed)

    def warm_start(self, config: TrainingConfig, seed: int) -> WarmStart:
        """Return the warm start of a run with this config and seed, for its spec."""
        return WarmStart(self.run(seed).id, self.steps, self._temperature(config))

    def _temperature(self, config: TrainingConfig) -> float | None:
        own, before = config.initial_temperature, self.variant.configs[self.env].initial_temperature
        if own is None or before is None or not own.learned:
            return None
        if self.temperature == "keep":
            return None if before.learned else before.value  # a learned one is in the weights
        return own.value if self.temperature == "own" else float(self.temperature)
