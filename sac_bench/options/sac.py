"""The options of SAC in its published forms, and the metrics that it reports.

[1] arXiv 1801.01290, [2] arXiv 1812.05905. The mathematics is in algorithms/sac.py.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import model_validator

from sac_bench.options.config import (
    MIN_LEARNED_TEMPERATURE,
    Activation,
    Layers,
    PerMember,
    Temperature,
    option,
)
from sac_bench.options.metric import (
    ACTOR_LOSS,
    CRITIC_LOSS,
    ENTROPY,
    GRADIENT_METRICS,
    Q_TARGET,
    SATURATION,
    VALUE_LOSS,
    Metric,
    Q,
)
from sac_bench.options.pieces import PiecesConfig

VERSION = 3
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""

Moved = Literal["actor", "temperature"]
"""What an update may move besides the critics."""

LOWER_BOUNDS = {"clipped": -20.0, "tanh": -5.0}
"""Default lower bounds of log sigma, those of the sources of each form."""


class SACConfig(PiecesConfig):
    """Defaults are those of arXiv 1812.05905 (table 1) and its authors' code, softlearning."""

    algorithm: ClassVar[str] = "sac"

    layers: Layers = option((256, 256), "units of each hidden layer, actor and critics", "1812.05905, table 1")
    activation: Activation = option("relu", "nonlinearity of the hidden layers", "1812.05905, table 1")
    critics: int = option(2, "number of Q networks", "1812.05905, section 6", ge=1, le=64)
    value_network: bool = option(False, "train a V network with its own target", "1812.05905, section 4.2")
    target_critics: int = option(
        0,
        "critics drawn for the Q targets of each update; 0: all",
        "1812.05905 (2101.05982: 2 of 10)",
        ge=0,
        le=64,
    )
    target_policy: bool = option(
        False, "use a target policy, averaged like the critics' targets, in the Q targets", "1812.05905: none"
    )
    actor_delay: int = option(1, "critic updates per update of the policy", "1812.05905, Algorithm 1", ge=1, le=1000)
    temperature_delay: int | None = option(
        None,
        "critic updates per update of the temperature; unset: actor_delay",
        "1812.05905, Algorithm 1",
        ge=1,
        le=1000,
    )
    gradient_estimator: Literal["reparameterised", "score-function"] = option(
        "reparameterised",
        "estimator of the policy's gradient: through the actions, or by the score function",
        "1812.05905, eq. 9",
    )
    score_samples: int = option(
        2,
        "actions per state for the score function without a V network; each one's baseline is the mean of the others",
        "1801.01290: 1, compared with V(s)",
        ge=2,
        le=64,
    )
    mixture: int = option(1, "Gaussians in the policy's mixture", "1812.05905, appendix C", ge=1, le=64)
    state_dependent_std: bool = option(
        True, "log sigma is an output of the network; false: a parameter, initially 0", "1812.05905, appendix C"
    )
    log_std_form: Literal["clipped", "tanh"] = option(
        "clipped", "clip log sigma to its bounds, or map it to them by a tanh", "softlearning gaussian_policy.py"
    )
    layer_norm: Literal["none", "critics", "all"] = option(
        "none",
        "networks with layer normalisation in the hidden layers, with gain and shift",
        "1812.05905 (2110.02034: critics)",
    )
    dropout: bool = option(
        False,
        "dropout in the critics and their targets, drawn separately for each pass",
        "1812.05905 (2110.02034: true)",
    )
    normalize_observations: bool = option(
        False,
        "standardise observations by the mean and standard deviation of all so far, then clip to 10",
        "1812.05905: none",
    )

    actor_lr: PerMember[float] = option(3e-4, "learning rate for the policy", "1812.05905, table 1", gt=0, le=1)
    critic_lr: PerMember[float] = option(3e-4, "learning rate for the Q networks", "1812.05905, table 1", gt=0, le=1)
    value_lr: PerMember[float] = option(3e-4, "learning rate for the V network", "1801.01290, table 1", gt=0, le=1)
    temperature_lr: PerMember[float] = option(3e-4, "learning rate for log alpha", "1812.05905, table 1", gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", "1812.05905, table 1", ge=0, le=1)
    tau: PerMember[float] = option(0.005, "step of the target average; 1 copies", "1812.05905, table 1", gt=0, le=1)
    target_period: PerMember[int] = option(1, "updates between target steps", "1812.05905, table 1", ge=1, le=10**7)
    dropout_rate: PerMember[float] = option(
        0.01, "share of hidden units dropped, if `dropout` is true", "2110.02034, section 4", ge=0, lt=1
    )
    reward_scale: PerMember[float] = option(1.0, "factor on every reward", "1812.05905: none", gt=0, le=1e6)
    learn_temperature: PerMember[bool] = option(True, "learn alpha ([2] eq. 18)", "1812.05905, section 5")
    temperature: PerMember[float] = option(
        1.0,
        "alpha: initial value if learned, else fixed value",
        "softlearning sac.py, log alpha = 0",
        ge=0,
        le=1e6,
    )
    scale_temperature: PerMember[bool] = option(
        False, "multiply the initial or fixed alpha by reward_scale", "1812.05905: none"
    )
    temperature_objective: PerMember[Literal["log-alpha", "alpha"]] = option(
        "log-alpha",
        "temperature loss: [2] eq. 18 with log alpha instead of alpha, or as printed",
        "softlearning sac.py",
    )
    target_entropy_scale: PerMember[float] = option(
        1.0, "the target entropy is -dim(A) times this, for actions in [-1, 1]", "1812.05905, table 1", ge=-100, le=100
    )
    target_entropy: PerMember[float | None] = option(
        None,
        "target entropy in nats, for actions in [-1, 1]; unset: see target_entropy_scale",
        "1812.05905, table 1 (2101.05982, mbpo_target_entropy_dict.py: -1 to -4)",
        ge=-1e6,
        le=1e6,
    )
    entropy_in_backup: PerMember[bool] = option(True, "include the entropy in the value targets", "1812.05905, eq. 3")
    pessimism: PerMember[float] = option(
        1.0, "critics pooled as (1 - p) mean + p min", "1812.05905, section 6: min", ge=0, le=1
    )
    actor_objective: PerMember[Literal["pooled", "first", "mean"]] = option(
        "pooled", "critics that the policy maximises: pooled, the first, or their mean", "1812.05905, section 6"
    )
    stochastic_updates: PerMember[bool] = option(
        True, "use sampled actions in losses; false: mean actions, a deterministic policy", "1812.05905, eq. 5 and 9"
    )
    log_std_min: PerMember[float | None] = option(
        None,
        "lower bound of log sigma; unset: -20 if clipped, -5 if mapped by a tanh",
        "softlearning gaussian_policy.py; tanh: denisyarats/pytorch_sac, CleanRL",
        ge=-80,
    )
    log_std_max: PerMember[float] = option(2.0, "upper bound of log sigma", "softlearning gaussian_policy.py", le=80)

    @property
    def option_versions(self) -> dict[str, int]:
        """The options with version 2.

        Version 1 of the score-function estimate had the mean cost of the batch's other states as baseline.
        """
        own = {
            "gradient_estimator": self.gradient_estimator == "score-function",
            "mixture": self.mixture > 1,
            "normalize_observations": self.normalize_observations,  # version 1 counted the batches of all updates
            "log_std_min": self.log_std_form == "tanh" and self.log_std_min is None,  # version 1: -20
            "reset_steps": bool(self.reset_steps) and self.renorm_after > 0,  # version 1: renormalised at once
        }
        return super().option_versions | {option: 2 for option, used in own.items() if used}

    @property
    def initial_temperature(self) -> Temperature:
        """The temperature at the start, multiplied by `reward_scale` if `scale_temperature`."""
        scale = self.reward_scale if self.scale_temperature else 1.0
        return Temperature(self.temperature * scale, self.learn_temperature)

    @property
    def lower_bound(self) -> float:
        """The lower bound of log sigma."""
        return LOWER_BOUNDS[self.log_std_form] if self.log_std_min is None else self.log_std_min

    def resolved(self) -> dict[str, Any]:
        """Return numbers such that the target entropy is target_entropy - target_entropy_scale dim(A)."""
        nats = {} if self.target_entropy is None else {"target_entropy_scale": 0.0}
        entropy = {"target_entropy": self.target_entropy or 0.0} | nats
        own = {"temperature": self.initial_temperature.value, "log_std_min": self.lower_bound}
        return super().resolved() | entropy | own

    @property
    def delays(self) -> dict[Moved, int]:
        """{what is moved: the number of critic updates per such update}."""
        return {"actor": self.actor_delay, "temperature": self.temperature_delay or self.actor_delay}

    @property
    def networks(self) -> int:
        """The critics, the policy, and V or the policy's target."""
        return 2 + self.critics

    @property
    def actions_per_state(self) -> int:
        """Actions that the policy's loss samples in each state."""
        by_score = self.gradient_estimator == "score-function" or self.mixture > 1
        return self.score_samples if by_score and not self.value_network else 1

    @property
    def rows(self) -> int:
        """Pairs of a batch's states and the actions that the policy's loss samples in them."""
        return self.batch_size * max(self.actions_per_state, 1 + self.joint_pass)

    @property
    def scratch_bytes(self) -> int:
        """Memory of the dropout masks and their random words, in bytes; 0 without dropout."""
        units = (2 + self.actions_per_state) * self.batch_size * sum(self.critic_sizes) if self.dropout else 0
        return self.critics * units * (16 + 2 * self.bytes_per_number)

    @model_validator(mode="before")
    @classmethod
    def _without_default_bound(cls, values: Any) -> Any:
        """Treat -20 of the clipped form as unset: it was the default, which no run's id contains."""
        if not isinstance(values, dict) or values.get("log_std_form", "clipped") != "clipped":
            return values
        return {k: v for k, v in values.items() if (k, v) != ("log_std_min", LOWER_BOUNDS["clipped"])}

    @model_validator(mode="after")
    def _consistent(self) -> SACConfig:
        alpha = self.initial_temperature.value
        if self.learn_temperature and alpha < MIN_LEARNED_TEMPERATURE:
            raise ValueError(
                f"temperature = {alpha:g} is too low an initial value; set learn_temperature = false, or "
                f"temperature to at least {MIN_LEARNED_TEMPERATURE:g}"
            )
        if self.target_entropy is not None and self.target_entropy_scale != 1.0:
            raise ValueError("target_entropy and target_entropy_scale exclude each other; remove one")
        if self.lower_bound > self.log_std_max:
            raise ValueError(f"log_std_min = {self.lower_bound} is above log_std_max = {self.log_std_max}")
        if not self.stochastic_updates and (self.learn_temperature or self.temperature > 0):
            raise ValueError(
                "stochastic_updates = false leaves no entropy: set learn_temperature = false and temperature = 0"
            )
        if not self.stochastic_updates and (self.gradient_estimator == "score-function" or self.mixture > 1):
            raise ValueError("gradient_estimator = score-function and mixture > 1 require stochastic_updates = true")
        if self.mixture > 1 and not self.state_dependent_std:
            raise ValueError(f"mixture = {self.mixture} requires state_dependent_std = true")
        if self.target_critics > self.critics:
            raise ValueError(f"target_critics = {self.target_critics} is above critics = {self.critics}")
        if self.value_network and (self.target_critics or self.target_policy):
            raise ValueError(
                "target_critics and target_policy require value_network = false, since they apply to targets from Q"
            )
        if self.value_network and not self.is_plain:
            raise ValueError(
                "value_network = true requires body = plain, critic_head = scalar, critic_pool = pointwise, "
                "target_network = true and joint_pass = false"
            )
        pooled_by_mean = (
            self.critic_head == "scalar" and self.critic_pool == "pointwise"
        ) or self.critic_pool == "lowest"
        if self.target_critics and (self.joint_pass or not pooled_by_mean):
            raise ValueError(
                "target_critics requires joint_pass = false, and critic_head = scalar with critic_pool = pointwise, or "
                "critic_pool = lowest"
            )
        if self.bodies["critic"] != "plain" and (self.layer_norm != "none" or self.dropout):
            raise ValueError("layer_norm and dropout require body = plain; other bodies have their own norms")
        if self.joint_pass and self.dropout:
            raise ValueError("dropout requires joint_pass = false")
        if self.bodies["actor"] != "plain" and (self.mixture > 1 or not self.state_dependent_std or self.target_policy):
            raise ValueError(
                "mixture > 1, state_dependent_std = false and target_policy = true require a plain policy: set "
                "actor_body = plain"
            )
        if self.bodies["actor"] != "plain" and self.layer_norm == "all":
            raise ValueError("layer_norm = all requires a plain policy: set actor_body = plain")
        return self


TEMPERATURE = Metric("temperature", "temperature", "log", topic="policy")
TEMPERATURE_LOSS = Metric("temperature_loss", "temperature loss", drawn=False, topic="loss")
V = Metric("v", "V of replayed states\n(units of return)", "symlog", 1, topic="V")
METRICS = (CRITIC_LOSS, ACTOR_LOSS, TEMPERATURE_LOSS, Q, Q_TARGET, TEMPERATURE, ENTROPY, SATURATION)
"""Metrics of every update, in the order of training.csv."""
VALUE_METRICS = (VALUE_LOSS, V)
"""Metrics of a V network."""
ALL_METRICS = (*METRICS, *VALUE_METRICS, *GRADIENT_METRICS)
