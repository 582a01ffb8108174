"""The options of Soft Q-learning, and the metrics that it reports. The mathematics is in algorithms/sql.py."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import model_validator

from sac_bench.options.config import Activation, Layers, PerMember, QLearningConfig, option
from sac_bench.options.metric import ACTOR_LOSS, CRITIC_LOSS, Q_TARGET, SATURATION, Metric, Q

VERSION = 2
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""

CODE = "softqlearning 6f51eac, mujoco_all_sql.py"


class SQLConfig(QLearningConfig):
    """Defaults are those of the authors' code, except reward scales, which experiments set for each environment."""

    algorithm: ClassVar[str] = "sql"

    batch_size: int = option(128, "transitions per update", CODE, ge=1, le=65536)
    learning_starts: int = option(
        1000,
        "steps before the first update; see random_steps and min_replay",
        CODE + ": as many of the untrained sampler's",
        ge=0,
    )
    layers: Layers = option((128, 128), "units of each hidden layer, sampler and critics", CODE)
    activation: Activation = option("relu", "nonlinearity of the hidden layers", "softqlearning 6f51eac, nn.py")
    critics: int = option(1, "number of Q networks", CODE, ge=1, le=64)
    value_particles: int = option(16, "uniform actions over which V averages exp(Q)", CODE, ge=1, le=4096)
    kernel_particles: int = option(16, "actions per state for the sampler's updates", CODE, ge=3, le=4096)
    kernel_update_ratio: float = option(
        0.5, "share of kernel_particles that are moved; the others determine the direction", CODE, gt=0, lt=1
    )

    actor_lr: PerMember[float] = option(3e-4, "learning rate for the sampler", CODE, gt=0, le=1)
    critic_lr: PerMember[float] = option(3e-4, "learning rate for the Q networks", CODE, gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", CODE, ge=0, le=1)
    tau: PerMember[float] = option(1.0, "step of the target average; 1 copies", CODE, gt=0, le=1)
    target_period: PerMember[int] = option(1000, "updates between target steps", CODE, ge=1, le=10**7)
    reward_scale: PerMember[float] = option(
        1.0, "factor on every reward, 1 / alpha", "1702.08165, eq. 2; the authors': 10 to 300", gt=0, le=1e6
    )
    pessimism: PerMember[float] = option(
        1.0, "critics pooled as (1 - p) mean + p min", "this project: the authors have one", ge=0, le=1
    )
    bandwidth_min: PerMember[float] = option(
        1e-3, "smallest bandwidth of the kernel", "softqlearning 6f51eac, kernel.py", gt=0, le=1e6
    )
    particles_in: PerMember[Literal["actions", "presquash"]] = option(
        "actions",
        "space in which particles move: actions a (the sampler tends to exp(Q) prod(1 - a^2)) or atanh a (to exp(Q))",
        "softqlearning 6f51eac, sql.py",
    )

    @property
    def updated_particles(self) -> int:
        """Particles that are moved, rounded down as in the authors' code."""
        return int(self.kernel_particles * self.kernel_update_ratio)

    @property
    def fixed_particles(self) -> int:
        """Particles that determine the direction."""
        return self.kernel_particles - self.updated_particles

    @property
    def networks(self) -> int:
        """The critics, and the sampler twice: with fixed and with updated particles."""
        return 2 + self.critics

    @property
    def passes(self) -> int:
        """Half the sum of the critic's and the sampler's passes.

        Critic: V's particles, 3 for its loss, fixed particles forward and backward. Sampler: all, updated backward.
        """
        return (self.value_particles + 3 + 3 * self.kernel_particles) // 2

    @property
    def rows(self) -> int:
        """Pairs of a batch's states and particles: V's, or the kernel's if there are more."""
        return self.batch_size * max(self.value_particles, self.kernel_particles)

    @model_validator(mode="after")
    def _two_kinds_of_particles(self) -> SQLConfig:
        if self.updated_particles < 1 or self.fixed_particles < 2:
            raise ValueError(
                f"kernel_particles = {self.kernel_particles} and kernel_update_ratio = {self.kernel_update_ratio:g} "
                f"make {self.updated_particles} updated and {self.fixed_particles} fixed particles; at least 1 and "
                "2 are required"
            )
        return self


SOFT_VALUE = Metric("soft_value", "soft V, next states\n(units of return)", "symlog", 1, topic="V")
BANDWIDTH = Metric("bandwidth", "kernel's bandwidth", "log")
METRICS = (CRITIC_LOSS, ACTOR_LOSS, Q, Q_TARGET, SOFT_VALUE, BANDWIDTH, SATURATION)
