"""What the algorithms that learn Q functions share: critics, their Bellman targets and target networks.

[1] arXiv 1801.01290, [2] arXiv 1812.05905. One learner: a batch of B transitions, C critics, A action dimensions in
[-1, 1], D observation dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms.metric import Metric
from sac_bench.algorithms.networks import Network, Sizes, mlp
from sac_bench.algorithms.protocol import Batch, Hyperparameters

CRITIC_LOSS = Metric("critic_loss", "critic loss\n(units of return²)", "log", 2, topic="loss")
ACTOR_LOSS = Metric("actor_loss", "actor loss", drawn=False, topic="loss")
Q = Metric("q", "Q of replayed pairs\n(units of return)", "symlog", 1, topic="Q")
Q_TARGET = Metric("q_target", "targets of Q\n(units of return)", "symlog", 1, drawn=False, topic="Q")
SATURATION = Metric("saturation", "share of actions\nbeyond 0.99", topic="policy")


@dataclass(frozen=True)
class Networks:
    """The sizes of one learner's networks."""

    actor: Sizes
    critic: Sizes
    value: Sizes
    critics: int
    activation: str
    precision: str = "float32"
    components: int = 1
    """Gaussians that the policy mixes."""
    score_function: bool = False
    """The policy's gradient is by its score function."""
    tanh_log_std: bool = False
    """A tanh spans the bounds of the policy's log sigma, where it is else clipped."""
    target_critics: int = 0
    """Critics drawn for each target; 0: all of them."""

    def forward(self, network: Network, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """x [B, in] -> [B, out] in these networks' activation and precision; of an ensemble [C, B, out]."""
        return mlp(network, x, self.activation, self.precision, masks)


def q_values(
    nets: Networks, critic: Network, observation: Tensor, action: Tensor, masks: Sequence[Tensor] = ()
) -> Tensor:
    """observation [B, D], action [B, A] -> Q [C, B]; `masks` [C, B, units], one a hidden layer, drop units."""
    x = torch.cat([observation, action], dim=-1)
    return nets.forward(critic, x, masks).squeeze(-1)


def dropout(noise: dict[str, Tensor], name: str, rate: Tensor) -> list[Tensor]:
    """What a pass of the critics multiplies its hidden units with: 0, or 1 / (1 - rate) for those that stay.

    The pass's uniform noise is under dropout/`name`/0, 1, ..., [C, B, units] each; where there is none, nothing drops.
    """
    drawn = [uniform for key, uniform in noise.items() if key.startswith(f"dropout/{name}/")]
    return [(uniform >= rate).to(uniform.dtype) / (1 - rate) for uniform in drawn]


def pooled(q: Tensor, pessimism: Tensor) -> Tensor:
    """Q [C, B] -> [B]: from the mean of the critics (0) to their minimum (1; [2] section 6)."""
    return (1 - pessimism) * q.mean(0) + pessimism * q.amin(0)


def expected_pool(q: Tensor, drawn: int, pessimism: Tensor) -> Tensor:
    """What `pooled` gives on average of as many of the critics, drawn without replacement: Q [C, B] -> [B].

    The i-th lowest is the minimum of those drawn if it is one of them, and the others are from above it.
    """
    chances = [math.comb(len(q) - 1 - i, drawn - 1) / math.comb(len(q), drawn) for i in range(len(q))]
    lowest = (q.new_tensor(chances)[:, None] * q.sort(0).values).sum(0)
    return (1 - pessimism) * q.mean(0) + pessimism * lowest


def bellman_target(batch: Batch, next_value: Tensor, hyper: Hyperparameters) -> Tensor:
    """sum_j gamma^j c r_j + gamma^k V(s_k), bootstrapped unless the episode terminated ([1] eq. 8, [2] eq. 5).

    A truncated episode bootstraps, unless the config has it taken for a terminated one.

    Rewards [B, n] are zero after the window's end; k [B] is its length. With n > 1 the entropies of the
    steps between are left out, as in every n-step SAC.
    """
    gamma, rewards = torch.ones_like(next_value), torch.zeros_like(next_value)
    for j, reward in enumerate(batch["reward"].unbind(-1)):
        within = batch["length"] > j
        rewards = rewards + torch.where(within, gamma * reward, 0.0)
        gamma = torch.where(within, gamma * hyper["gamma"], gamma)
    final = batch["terminated"] + (1 - hyper["bootstrap_truncated"]) * batch["truncated"]
    return hyper["reward_scale"] * rewards + gamma * (1 - final) * next_value


def critic_loss(critic: Network, nets: Networks, batch: Batch, target: Tensor, masks: Sequence[Tensor] = ()):
    """J_Q = 1/2 E (Q_i - target)^2, summed over the critics ([1] eq. 7, [2] eq. 5) -> loss [], Q [C, B]."""
    q = q_values(nets, critic, batch["observation"], batch["action"], masks)
    return 0.5 * ((q - target) ** 2).mean(-1).sum(), q


def polyak(target: Any, online: Any, tau: Tensor) -> Any:
    """(1 - tau) target + tau online, network by network, exact at tau = 1 ([2] Algorithm 1)."""
    return tree_map(lambda old, new: (1 - tau) * old + tau * new, target, online)


def follow(target: Any, online: Any, waits: Tensor, hyper: Hyperparameters) -> tuple[Any, Tensor]:
    """A target that takes a step every `target_period` updates, and how many are left until its next one.

    `waits` [] is what was left before this update.
    """
    waits = waits - 1
    tau = torch.where(waits <= 0, hyper["tau"], 0.0)
    return polyak(target, online, tau), torch.where(waits <= 0, hyper["target_period"], waits)
