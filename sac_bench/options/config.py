"""The options that algorithms share.

A field of type `PerMember[T]` is a hyperparameter: it may differ between the members of a cohort and becomes a tensor
with one entry for each. Every other field is structure: runs that differ in one train in different programs. For a
field of type `Switched[T]`, only whether it is 0 is structure: at 0, the program omits it.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction
from typing import Annotated, Any, Literal, NamedTuple, TypeVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import override

from sac_bench.evaluations import is_evaluated

T = TypeVar("T")
_PER_MEMBER = "per member"
PerMember = Annotated[T, _PER_MEMBER]
_SWITCHED = "off at 0"
Switched = Annotated[T, _PER_MEMBER, _SWITCHED]


def _positive_layers(layers: tuple[int, ...]) -> tuple[int, ...]:
    if not 1 <= len(layers) <= 64 or min(layers) < 1 or max(layers) > 65536:
        raise ValueError("must be 1 to 64 layers, each of 1 to 65536 units")
    return layers


Layers = Annotated[tuple[int, ...], Field(strict=False), AfterValidator(_positive_layers)]
Initialisation = Literal["torch", "orthogonal", "glorot"]
Activation = Literal["relu", "tanh", "elu", "silu", "gelu"]
Precision = Literal["float32", "tf32", "bfloat16", "float64"]


def option(default: Any, description: str, source: str, **bounds: Any) -> Any:
    """Declare a config field: its default, meaning, the default's source, and bounds (`ge`, `gt`, `le`, `lt`)."""
    return Field(default, description=description, json_schema_extra={"source": source}, **bounds)


class Temperature(NamedTuple):
    """The temperature alpha of the entropy: the fixed value, or the initial one if it is learned."""

    value: float
    learned: bool


MIN_LEARNED_TEMPERATURE = 1e-6
"""Smallest value at which a learned temperature may start, since log alpha is learned."""


class TrainingConfig(BaseModel):
    """Options of every algorithm. Steps are transitions of one run."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    num_envs: int = option(1, "parallel environments of a run", "arXiv 1812.05905, one", ge=1, le=4096)
    eval_every: int = option(
        10000,
        "steps between evaluations, and between checkpoints",
        "this project: within 5% of the time of SAC at full size",
        ge=1,
    )
    eval_episodes: int = option(
        5, "episodes per evaluation, for each kind of action (mean, sampled)", "this project", ge=1, le=1000
    )
    eval_sampled_every: int = option(
        10,
        "sampled actions (sql: mean actions) are also played in every n-th evaluation and the last; 0: never",
        "this project: within a fifth of the time of small networks",
        ge=0,
    )
    pool_episodes: int = option(
        50, "full-length episodes after which a run's environments are recreated", "this project", ge=1, le=100000
    )
    precision: Precision = option(
        "float32",
        "floating-point type; bfloat16: of hidden layers' products in updates; tf32: of all products, only on CUDA",
        "every implementation",
    )

    batch_size: int = option(256, "transitions per update", "arXiv 1812.05905, table 1", ge=1, le=65536)
    bootstrap_truncated: PerMember[bool] = option(
        True,
        "bootstrap where a time limit ends an episode; false: treat it as terminated, a common bug",
        "arXiv 1712.00378, section 3",
    )

    @property
    def option_versions(self) -> dict[str, int]:
        """Versions of the options that this config uses and whose numbers have changed; others have version 1.

        They are part of a run's id, so that a change concerns only the runs that use the option.
        """
        return {}

    @property
    def warmup_steps(self) -> int:
        """Transitions at the start of a run whose actions are uniformly random."""
        return 0

    @property
    def initial_temperature(self) -> Temperature | None:
        """The temperature of a run that starts from nothing; None if the algorithm has none."""
        return None

    @property
    def capacity(self) -> int:
        """Transitions that the replay keeps."""
        raise NotImplementedError

    @property
    def passes(self) -> int:
        """Approximate passes of a batch through every network in an update, backward included: for estimates."""
        return 5

    @property
    def networks(self) -> int:
        """Largest number of networks whose activations an update holds at once: for estimates."""
        return 3

    @property
    def hidden_units(self) -> int:
        """Units of the hidden layers of all `networks`, each with all fields `*layers`: for estimates."""
        layers = [getattr(self, name) for name in type(self).model_fields if name.endswith("layers")]
        return self.networks * sum(map(sum, layers))

    @property
    def rows(self) -> int:
        """Largest number of inputs that an update passes through a network at once: for estimates."""
        return self.batch_size

    @property
    def learns_until(self) -> int | None:
        """Transitions after which learning ends, or None."""
        return None

    @property
    def scratch_bytes(self) -> int:
        """Memory of an update besides its networks, in bytes: for estimates."""
        return 0

    def updates_due(self, steps: int) -> int:
        """Return how many updates must have been made after `steps` transitions."""
        raise NotImplementedError

    def steps_of_update(self, number: int) -> int:
        """Return the transitions after which update `number`, counted from 1, is made: the inverse of `updates_due`."""
        raise NotImplementedError

    def is_evaluated(self, steps: Any, last: int, scores: Any = True) -> Any:
        """Return whether a run that ends at `last` transitions is evaluated at `steps`, an int or an array.

        `scores`: whether by the actions that score the run, or by the others, as `eval_sampled_every` says.
        """
        apart = np.where(scores, 1, self.eval_sampled_every)
        every = self.eval_every * np.maximum(apart, 1)
        return (apart > 0) & is_evaluated(steps, last, every)

    def describe_start(self) -> str:
        """Return the options that determine when the first update is made, and how a user can change that."""
        raise NotImplementedError

    @property
    def bytes_per_number(self) -> int:
        """Size of a number of the state and the losses; bfloat16 is used inside hidden layers only."""
        return 8 if self.precision == "float64" else 4

    @classmethod
    def per_member_fields(cls) -> list[str]:
        """Return the names of the hyperparameters, which may differ between the members of a cohort, in order."""
        return [name for name, field in cls.model_fields.items() if _PER_MEMBER in field.metadata]

    @classmethod
    def switched_fields(cls) -> list[str]:
        """Return the names of the hyperparameters that are not part of the program at 0, in order."""
        return [name for name, field in cls.model_fields.items() if _SWITCHED in field.metadata]

    def structure(self) -> dict[str, Any]:
        """Return what two runs must share to train in one program: fields, and which `Switched` ones are not 0."""
        switches = {f"{name} > 0": getattr(self, name) > 0 for name in self.switched_fields()}
        return self.model_dump(mode="json", exclude=set(self.per_member_fields())) | switches

    def resolved(self) -> dict[str, Any]:
        """Return the per-member fields with the values that unset ones stand for, and that derived ones have."""
        return {name: getattr(self, name) for name in self.per_member_fields()}

    def hyperparameters(self) -> dict[str, float]:
        """Return the per-member fields as numbers: switches as 0 or 1, choices as their index."""
        values = {}
        for name, value in self.resolved().items():
            if isinstance(value, str):
                choices = type(self).model_fields[name].annotation.__args__  # type: ignore[union-attr]
                value = choices.index(value)
            values[name] = float(value)
        return values


class ReplayConfig(TrainingConfig):
    """Options of the algorithms that learn from a replay."""

    learning_starts: int = option(
        10000,
        "steps before the first update; see random_steps and min_replay",
        "softlearning 13cf187: 10 full episodes",
        ge=0,
    )
    random_steps: int | None = option(
        None,
        "steps of uniformly random actions at the start; unset: learning_starts",
        "as learning_starts",
        ge=0,
    )
    min_replay: int | None = option(
        None,
        "transitions in the replay before the first update; unset: batch_size",
        "this project: no batch of copies",
        ge=1,
    )
    replay_capacity: int = option(1_000_000, "transitions that the replay keeps", "arXiv 1812.05905, table 1", ge=1)
    utd: float = option(1.0, "updates per transition", "arXiv 1812.05905, table 1: 1 gradient step", gt=0, le=1000)
    n_step: int = option(1, "rewards that are summed before bootstrapping", "arXiv 1812.05905, eq. 3", ge=1, le=100)

    @property
    def option_versions(self) -> dict[str, int]:
        """min_replay has version 2 if updates wait for a batch; version 1 used copies of fewer transitions."""
        waits_for_a_batch = self.min_replay is None and self.updates_start > self.learning_starts
        return {"min_replay": 2} if waits_for_a_batch else {}

    @property
    def warmup_steps(self) -> int:
        """Transitions at the start with uniformly random actions: `random_steps`, or `learning_starts` if unset."""
        return self.learning_starts if self.random_steps is None else self.random_steps

    @property
    def updates_start(self) -> int:
        """Transitions after which updates become due: `learning_starts`, or more.

        With one update per vector step, the first is made when `min_replay` transitions are stored.
        """
        least = self.batch_size if self.min_replay is None else self.min_replay
        return max(self.learning_starts, _rounded_up(least, self.num_envs) - self.num_envs)

    @property
    @override
    def capacity(self) -> int:
        return self.replay_capacity

    def updates_due(self, steps: int) -> int:
        """Return floor(utd * (steps - updates_start))."""
        return max(0, int(Fraction(str(self.utd)) * (steps - self.updates_start)))

    @override
    def describe_start(self) -> str:
        if self.updates_start == self.learning_starts:
            name, value = "learning_starts", str(self.learning_starts)
        else:
            name, value = "min_replay", str(self.updates_start + self.num_envs)
            value += f" (by default batch_size = {self.batch_size})" * (self.min_replay is None)
        return f"{name} = {value}, utd = {self.utd:g}; increase steps or lower {name} (--set {name}=N)"

    @override
    def steps_of_update(self, number: int) -> int:
        return _rounded_up(self.updates_start + math.ceil(number / Fraction(str(self.utd))), self.num_envs)

    @model_validator(mode="after")
    def _multiples_of_num_envs(self) -> ReplayConfig:
        for name in ("learning_starts", "random_steps", "eval_every", "replay_capacity"):
            require_multiple(name, getattr(self, name) or 0, self.num_envs)
        for name in ("batch_size", "eval_every", "min_replay"):
            if self.replay_capacity < (getattr(self, name) or 0):
                raise ValueError(f"replay_capacity = {self.replay_capacity} is below {name} = {getattr(self, name)}")
        return self


class RolloutConfig(TrainingConfig):
    """Options of the algorithms that learn from rollouts of the current policy and then discard them."""

    rollout: int = option(
        2048,
        "transitions between updates, summed over a run's environments",
        "arXiv 1707.06347, table 3",
        ge=2,
        le=10**7,
    )
    epochs: int = option(10, "passes over the transitions of a rollout", "arXiv 1707.06347, table 3", ge=1, le=1000)
    batch_size: int = option(64, "transitions per update", "arXiv 1707.06347, table 3", ge=2, le=65536)

    @property
    def capacity(self) -> int:
        """Transitions of a rollout, or of a segment if it is longer: a segment's rows are saved together."""
        return max(self.rollout, self.eval_every)

    @property
    def rows(self) -> int:
        """All transitions of a rollout: their values are computed at once."""
        return self.rollout

    @property
    def scratch_bytes(self) -> int:
        """Memory for drawing the order of the minibatches of all epochs, in bytes."""
        return 48 * self.epochs * self.rollout

    @property
    def updates_per_rollout(self) -> int:
        """Minibatches in all epochs of one rollout."""
        return self.epochs * self.rollout // self.batch_size

    def updates_due(self, steps: int) -> int:
        """Return the number of minibatches in all complete rollouts."""
        return steps // self.rollout * self.updates_per_rollout

    @override
    def describe_start(self) -> str:
        return f"rollout = {self.rollout}; increase steps or shorten the rollout (--set rollout=N)"

    @override
    def steps_of_update(self, number: int) -> int:
        return math.ceil(number / self.updates_per_rollout) * self.rollout

    @model_validator(mode="after")
    def _whole_minibatches(self) -> RolloutConfig:
        for name in ("rollout", "eval_every"):
            require_multiple(name, getattr(self, name), self.num_envs)
        require_multiple("rollout", self.rollout, self.batch_size, "batch_size")
        return self


def _rounded_up(value: int, of: int) -> int:
    """Return the smallest multiple of `of` that is at least `value`."""
    return math.ceil(value / of) * of


class ActorCriticConfig(TrainingConfig):
    """Sizes of a policy and of critics: Q or V networks."""

    layers: Layers
    actor_layers: Layers | None = option(
        None, "units of each hidden layer of the policy; unset: as `layers`", "every paper: as the critics'"
    )
    critic_layers: Layers | None = option(
        None, "units of each hidden layer of Q and V networks; unset: as `layers`", "every paper: as the policy's"
    )

    @property
    def actor_sizes(self) -> tuple[int, ...]:
        """Units of each hidden layer of the policy."""
        return self.actor_layers or self.layers

    @property
    def critic_sizes(self) -> tuple[int, ...]:
        """Units of each hidden layer of Q and V networks."""
        return self.critic_layers or self.layers

    @property
    def hidden_units(self) -> int:
        """Units of the hidden layers of all `networks`: Q networks, the policy, and V or another pass of the policy."""
        actor, critic = sum(self.actor_sizes), sum(self.critic_sizes)
        return (self.networks - 2) * critic + actor + max(actor, critic)


class QLearningConfig(ActorCriticConfig, ReplayConfig):
    """Initial weights, critics' loss and optimizers of the algorithms that learn Q networks from a replay.

    Of the optimizers, the betas are structure: 1 - beta in float32 is not the float32 nearest to 1 - beta, so that a
    tensor of betas would change the default's digits. Clipping, annealing and Huber's loss are `Switched`, since they
    cost time. L2 and Adam's epsilon change neither digits nor time at their defaults.
    """

    initialisation: Initialisation = option(
        "torch",
        "initial weights: U(-1, 1) / sqrt(fan_in), biases too; or orthogonal or Glorot uniform, biases 0",
        "Stable-Baselines3, CleanRL (softlearning: glorot; denisyarats/pytorch_sac: orthogonal)",
    )
    huber_delta: Switched[float] = option(
        0.0,
        "error of Q and V, in units of the scaled return, above which their loss is linear (Huber); 0: never",
        "every paper: squared errors",
        ge=0,
        le=1e6,
    )
    actor_weight_decay: PerMember[float] = option(
        0.0, "L2 penalty of the policy, added to its gradient", "every paper: none", ge=0, le=1
    )
    critic_weight_decay: PerMember[float] = option(
        0.0,
        "L2 penalty of Q and V networks, added to their gradient",
        "1802.09477: none (1509.02971: 1e-2)",
        ge=0,
        le=1,
    )
    decoupled_decay: bool = option(
        False,
        "subtract the penalty's gradient, times the learning rate, from the weights instead of passing it to Adam",
        "every paper: none (1711.05101: AdamW)",
    )
    max_grad_norm: Switched[float] = option(
        0.0,
        "largest norm of each network's gradient; larger gradients are scaled down; 0: no limit",
        "every paper: none",
        ge=0,
        le=1e6,
    )
    adam_beta1: float = option(0.9, "decay of Adam's first moment", "1412.6980, section 2", ge=0, lt=1)
    adam_beta2: float = option(0.999, "decay of Adam's second moment", "1412.6980, section 2", ge=0, lt=1)
    adam_epsilon: PerMember[float] = option(
        1e-8, "added to the root of Adam's second moment", "1412.6980, section 2", ge=1e-30, le=1
    )
    anneal_steps: Switched[int] = option(
        0,
        "steps over which all learning rates fall to `anneal_to`, update by update; 0: constant",
        "every paper: constant",
        ge=0,
        le=10**12,
    )
    anneal_to: PerMember[float] = option(
        0.0, "share of the learning rates that is left after `anneal_steps`", "every paper: constant", ge=0, le=1
    )
    lr_schedule: Literal["linear", "cosine"] = option(
        "linear", "decay over `anneal_steps`: linear, or half a cosine", "Stable-Baselines3: linear_schedule"
    )

    @property
    def learns_until(self) -> int | None:
        """Transitions after which all learning rates are 0, or None if they never are."""
        return self.anneal_steps or None if self.anneal_to == 0 else None

    @model_validator(mode="after")
    def _consistent_optimizer(self) -> QLearningConfig:
        if self.lr_schedule != "linear" and not self.anneal_steps:
            raise ValueError(f"lr_schedule = {self.lr_schedule} requires anneal_steps > 0; at 0 rates are constant")
        if 0 < self.anneal_steps <= self.updates_start:
            raise ValueError(
                f"anneal_steps = {self.anneal_steps} must be 0, or above {self.updates_start}, where updates start: "
                "otherwise all rates would be 0"
            )
        return self


def require_multiple(name: str, value: int, of: int, other: str = "num_envs") -> None:
    """Raise ValueError, with the nearest valid values, if `value` is not a multiple of `of`, the value of `other`."""
    if value % of:
        below = value - value % of
        nearest = f"{below} or {below + of}" if below else f"{below + of}"
        raise ValueError(f"{name} = {value} is not a multiple of {other} = {of}; nearest: {nearest}")


def describe_bounds(field: Any) -> str:
    """Return a field's permitted values as text, for `sac-bench list`."""
    words = []
    for part in field.metadata:
        for key, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            if getattr(part, key, None) is not None:
                words.append(f"{sign} {getattr(part, key):g}")
    if getattr(field.annotation, "__origin__", None) is Literal:
        words.append(" | ".join(field.annotation.__args__))
    return re.sub(r"\s+", " ", ", ".join(words))
