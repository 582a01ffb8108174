"""The options that PPO, A2C and TRPO share: networks of a Gaussian policy and of V, which learn from rollouts."""

from __future__ import annotations

from sac_bench.options.config import Activation, ActorCriticConfig, Layers, RolloutConfig, option


class OnPolicyConfig(RolloutConfig, ActorCriticConfig):
    """Networks of a policy and of V, and what an update of both costs."""

    layers: Layers = option((64, 64), "units of each hidden layer, actor and critic", "Stable-Baselines3")
    activation: Activation = option("tanh", "nonlinearity of the hidden layers", "Stable-Baselines3")

    @property
    def passes(self) -> int:
        """One pass forward and a backward one, which costs as much as two: a batch has no targets to compute."""
        return 3
