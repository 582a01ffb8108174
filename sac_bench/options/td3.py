"""The options of TD3 and DDPG, and the metrics that they report. The mathematics is in algorithms/td3.py."""

from __future__ import annotations

from typing import ClassVar

from sac_bench.options.config import Activation, Layers, PerMember, QLearningConfig, option
from sac_bench.options.metric import ACTOR_LOSS, CRITIC_LOSS, Q_TARGET, SATURATION, Q

VERSION = 2
"""Part of every run's id: raise it whenever the results of a config change, with a default or the mathematics."""


class TD3Config(QLearningConfig):
    """Defaults are those of the authors' code, sfujim/TD3 34770cc (the paper: batches of 100, rates of 1e-3)."""

    algorithm: ClassVar[str] = "td3"

    learning_starts: int = option(
        25000,
        "steps before the first update; see random_steps and min_replay",
        "sfujim/TD3 main.py: start_timesteps",
        ge=0,
    )
    layers: Layers = option((256, 256), "units of each hidden layer, actor and critics", "sfujim/TD3 TD3.py")
    activation: Activation = option("relu", "nonlinearity of the hidden layers", "1802.09477, appendix C")
    critics: int = option(2, "number of Q networks", "1802.09477, section 4.2", ge=1, le=64)
    policy_delay: int = option(
        2, "critic updates per update of policy and targets", "1802.09477, section 5.2", ge=1, le=1000
    )

    actor_lr: PerMember[float] = option(3e-4, "learning rate for the policy", "sfujim/TD3 TD3.py", gt=0, le=1)
    critic_lr: PerMember[float] = option(3e-4, "learning rate for the Q networks", "sfujim/TD3 TD3.py", gt=0, le=1)
    gamma: PerMember[float] = option(0.99, "discount", "1802.09477, section 6.1", ge=0, le=1)
    tau: PerMember[float] = option(
        0.005, "step of the target averages; 1 copies", "1802.09477, section 6.1", gt=0, le=1
    )
    reward_scale: PerMember[float] = option(1.0, "factor on every reward", "1802.09477: none", gt=0, le=1e6)
    pessimism: PerMember[float] = option(
        1.0, "critics pooled in the target as (1 - p) mean + p min", "1802.09477, eq. 10: min", ge=0, le=1
    )
    target_noise: PerMember[float] = option(
        0.2, "standard deviation of the noise on the target policy's actions", "1802.09477, section 5.3", ge=0, le=2
    )
    target_noise_clip: PerMember[float] = option(
        0.5, "bound of the target policy's noise", "1802.09477, section 5.3: (-0.5, 0.5)", ge=0, le=2
    )
    exploration_noise: PerMember[float] = option(
        0.1, "sigma of the noise on the actions in training", "1802.09477, section 6.1: N(0, 0.1)", ge=0, le=2
    )
    noise_correlation: PerMember[float] = option(
        0.0,
        "rho in noise_t = rho noise_{t-1} + sigma N(0, 1): 0 is Gaussian, 1 - theta Ornstein-Uhlenbeck",
        "1802.09477, section 6.1: uncorrelated (1509.02971: theta 0.15, sigma 0.2)",
        ge=0,
        lt=1,
    )

    @property
    def networks(self) -> int:
        """The critics, the policy and its target."""
        return 2 + self.critics


class DDPGConfig(TD3Config):
    """DDPG with TD3's settings: one critic, no smoothing, no delay ("our DDPG" of 1802.09477, sfujim/TD3 OurDDPG.py).

    A variant in docs/algorithms.md has the settings of the DDPG paper.
    """

    algorithm: ClassVar[str] = "ddpg"

    critics: int = option(1, "number of Q networks", "1509.02971, Algorithm 1", ge=1, le=64)
    policy_delay: int = option(
        1, "critic updates per update of policy and targets", "1509.02971, Algorithm 1", ge=1, le=1000
    )
    target_noise: PerMember[float] = option(
        0.0, "standard deviation of the noise on the target policy's actions", "1509.02971: none", ge=0, le=2
    )


METRICS = (CRITIC_LOSS, ACTOR_LOSS, Q, Q_TARGET, SATURATION)
