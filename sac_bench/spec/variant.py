"""A variant: a name, an algorithm, its config and steps per environment, and what its runs start from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict

from sac_bench.errors import InputError
from sac_bench.options.config import TrainingConfig, require_multiple
from sac_bench.spec.run import RunSpec, WarmStart

MAX_LINE_LENGTH = 60


def _line(text: str) -> str:
    """Return a text that is one line, with formulas that figures can draw. Raises ValueError for others."""
    if not text or len(text) > MAX_LINE_LENGTH or not text.isprintable() or text != text.strip():
        raise ValueError(f"must be one line of 1 to {MAX_LINE_LENGTH} characters without space around it, not {text!r}")
    if "$" in text:
        _check_formulas(text)
    return text


def _check_formulas(text: str) -> None:
    """Raise ValueError unless every $ of a text has a partner, and matplotlib can draw what is between them."""
    from matplotlib.mathtext import MathTextParser  # takes a while

    if text.replace(r"\$", "").count("$") % 2:
        raise ValueError(
            f"has a $ without a second one, in {text!r}; write formulas as $...$, and a dollar sign as \\$"
        )
    try:
        MathTextParser("path").parse(text)
    except ValueError as error:
        reason = str(error).strip().splitlines()[-1].partition(": ")[2]
        raise ValueError(f"has a formula that figures cannot draw, in {text!r}: {reason}") from None


Line = Annotated[str, AfterValidator(_line)]


class Shown(BaseModel):
    """What figures and tables call a variant, or the option of a sweep, and their heading. It changes no run."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    label: Line = ""
    group: Line = ""

    def of_point(self, option: str, value: str, base: str, of_base: Shown) -> Shown:
        """Return the same for a point of a sweep that is shown so: "one Q, target smoothing tau = 0.1".

        base: the name of the variant that the sweep is of; "" if it is the reference, which points do not name.
        """
        is_named = self.label or of_base.label
        parts = [of_base.label or base, f"{self.label or option} = {value}"] if is_named else []
        return Shown.model_construct(label=", ".join(filter(None, parts)), group=self.group or of_base.group)


def shown_of(changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the part of a variant's table that says how it is shown."""
    return {key: changes[key] for key in Shown.model_fields if key in changes}


@dataclass(frozen=True)
class Variant:
    """One variant, resolved for every environment.

    overrides: the options that the variant sets itself; swept: option and value if it is a point of a sweep, of
    the variant sweep_of, called sweep_label; parent: the runs that its runs start from; shown: its label and group;
    places: {environment: {option that is set: the file and its table}}, for messages.
    """

    name: str
    algorithm: str
    configs: dict[str, TrainingConfig]
    steps: dict[str, int]
    overrides: dict[str, Any]
    swept: tuple[str, float] | None = None
    sweep_of: str | None = None
    sweep_label: str = ""
    parent: Parent | None = None
    shown: Shown = field(default_factory=Shown)
    places: Mapping[str, Mapping[str, str]] = field(default_factory=dict, compare=False)

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
        """Transitions that the parent trains before the warm start."""
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
