"""Critics, Bellman targets and target networks: shared by the algorithms that learn Q functions.

[1] arXiv 1801.01290, [2] arXiv 1812.05905. One learner: a batch of B transitions, C critics, A action dimensions in
[-1, 1], D observation dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms.bodies import Body, Built, evaluate
from sac_bench.algorithms.heads import (
    SCALAR,
    Head,
    Returns,
    categorical_loss,
    expectation,
    pooled_returns,
    quantile_loss,
    support,
)
from sac_bench.algorithms.networks import NORM_EPSILON, Network, Sizes, mlp
from sac_bench.algorithms.optimizer import DEFAULT, Optimizer
from sac_bench.algorithms.protocol import Batch, Hyperparameters


@dataclass(frozen=True)
class Networks:
    """The structure of one learner's networks."""

    actor: Sizes
    critic: Sizes
    value: Sizes
    critics: int
    activation: str
    precision: str = "float32"
    components: int = 1
    """Gaussians in the policy's mixture."""
    score_function: bool = False
    """Whether the policy's gradient is the score-function estimate."""
    tanh_log_std: bool = False
    """Whether a tanh maps the policy's log sigma to its bounds; otherwise it is clipped."""
    target_critics: int = 0
    """Critics drawn for each target; 0: all."""
    initialisation: str = "torch"
    huber: bool = False
    """Whether the loss of Q and V networks is Huber's."""
    optimizer: Optimizer = DEFAULT
    head: Head = SCALAR
    bodies: Mapping[str, Body] = field(default_factory=dict)
    """Bodies of "actor" and "critic", unless they are plain."""
    norm_epsilon: float = NORM_EPSILON
    renormalises: bool = False
    """Whether batch norm becomes batch renormalisation."""
    project: Literal["none", "weights", "weights-and-norms"] = "none"
    """What is projected to a fixed norm after each step of the policy and the critics."""
    joint_pass: bool = False
    """Whether critics evaluate (s, a) and (s', a') in one pass."""
    target_network: bool = True
    actor_delay: int = 1
    update_order: Literal["critics-first", "policy-first", "together"] = "critics-first"

    @property
    def by_score(self) -> bool:
        """Whether the policy makes choices whose gradient is a score-function estimate."""
        return self.score_function or self.components > 1

    def run(self, network: Network | Built, x: Tensor, masks: Sequence[Tensor] = ()) -> tuple[Tensor, Any]:
        """Return the outputs of a network, as `forward`, and its new running statistics."""
        if isinstance(network, Built):
            return evaluate(network, x, self.activation, self.norm_epsilon)
        return mlp(network, x, self.activation, self.precision, masks), ()

    def forward(self, network: Network | Built, x: Tensor, masks: Sequence[Tensor] = ()) -> Tensor:
        """Evaluate a network in this activation and precision: x [B, in] -> [B, out], of an ensemble [C, B, out]."""
        return self.run(network, x, masks)[0]


def critic_outputs(
    nets: Networks, critic: Network | Built, observation: Tensor, action: Tensor, masks: Sequence[Tensor] = ()
) -> Tensor:
    """Return the outputs [C, B, n] of critics for observation [B, D], action [B, A].

    Dropout masks [C, B, units], one for each hidden layer.
    """
    return nets.forward(critic, torch.cat([observation, action], dim=-1), masks)


def q_values(
    nets: Networks,
    critic: Network,
    observation: Tensor,
    action: Tensor,
    masks: Sequence[Tensor] = (),
    hyper: Hyperparameters | None = None,
) -> Tensor:
    """Return Q [C, B] of observation [B, D], action [B, A]; `hyper` has the bounds of a categorical head."""
    return expectation(nets.head, critic_outputs(nets, critic, observation, action, masks), hyper or {})


def dropout(noise: dict[str, Tensor], name: str, rate: Tensor) -> list[Tensor]:
    """Return the dropout masks of a pass of the critics: 0 for dropped units, 1 / (1 - rate) for the others.

    The uniform noise of pass `name` is under dropout/`name`/0, 1, ..., [C, B, units] each; without it, nothing drops.
    """
    drawn = [uniform for key, uniform in noise.items() if key.startswith(f"dropout/{name}/")]
    return [(uniform >= rate).to(uniform.dtype) / (1 - rate) for uniform in drawn]


def expected_pool(q: Tensor, drawn: int, pessimism: Tensor) -> Tensor:
    """Return the expectation of `pooled` over `drawn` critics, drawn without replacement: Q [C, B] -> [B].

    The i-th lowest critic is the minimum if it is drawn and all others are drawn from those above it.
    """
    chances = [math.comb(len(q) - 1 - i, drawn - 1) / math.comb(len(q), drawn) for i in range(len(q))]
    lowest = (torch.tensor(chances, dtype=q.dtype, device=q.device)[:, None] * q.sort(0).values).sum(0)
    return (1 - pessimism) * q.mean(0) + pessimism * lowest


def bellman_target(batch: Batch, next_value: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return sum_j gamma^j c r_j + gamma^k V(s_k) [B], bootstrapped unless terminated ([1] eq. 8, [2] eq. 5).

    A truncated episode bootstraps, unless `bootstrap_truncated` is 0. Rewards [B, n] are zero after the end of the
    window, whose length is k [B]. With n > 1 the entropies of intermediate steps are left out, as in every n-step SAC.
    """
    gamma, rewards = torch.ones_like(next_value), torch.zeros_like(next_value)
    for j, reward in enumerate(batch["reward"].unbind(-1)):
        within = batch["length"] > j
        rewards = rewards + torch.where(within, gamma * reward, 0.0)
        gamma = torch.where(within, gamma * hyper["gamma"], gamma)
    final = batch["terminated"] + (1 - hyper["bootstrap_truncated"]) * batch["truncated"]
    return hyper["reward_scale"] * rewards + gamma * (1 - final) * next_value


def threshold(nets: Networks, hyper: Hyperparameters) -> Tensor | None:
    """Return the error [] above which the loss of Q and V networks is linear; None if it is never."""
    return hyper["huber_delta"] if nets.huber else None


def penalty(error: Tensor, delta: Tensor | None) -> Tensor:
    """Return error^2 or, if |error| > delta [], twice torch.nn.functional.huber_loss: delta (2 |error| - delta)."""
    if delta is None:
        return error**2
    size = error.abs()
    return torch.where(size <= delta, error**2, delta * (2 * size - delta))


def critic_loss(
    critic: Network,
    nets: Networks,
    batch: Batch,
    target: Tensor,
    masks: Sequence[Tensor] = (),
    delta: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return J_Q = 1/2 E (Q_i - target)^2 [], summed over the critics ([1] eq. 7, [2] eq. 5), and Q [C, B].

    With `delta` [], Huber's loss instead of 1/2 (Q_i - target)^2.
    """
    q = q_values(nets, critic, batch["observation"], batch["action"], masks)
    return 0.5 * penalty(q - target, delta).mean(-1).sum(), q


def next_outputs(
    nets: Networks, critics: Network | Built, batch: Batch, next_action: Tensor, masks: Sequence[Tensor]
) -> Tensor:
    """Return the outputs [C, B, n] of target critics for (s', a'), in a pass with (s, a) if passes are joint."""
    if not nets.joint_pass:
        return critic_outputs(nets, critics, batch["next_observation"], next_action, masks)
    return nets.forward(critics, both(batch, next_action))[:, len(next_action) :]


def both(batch: Batch, next_action: Tensor) -> Tensor:
    """Return (s, a), then (s', a') [2B, D + A]."""
    now = torch.cat([batch["observation"], batch["action"]], dim=-1)
    return torch.cat([now, torch.cat([batch["next_observation"], next_action], dim=-1)])


def critics_loss(
    critics: Network | Built,
    nets: Networks,
    batch: Batch,
    next_action: Tensor,
    target: Returns | Callable[[Tensor], Returns],
    masks: Sequence[Tensor],
    hyper: Hyperparameters,
) -> tuple[Tensor, tuple[Tensor, Tensor, Any]]:
    """Return the loss [] of critics, summed over them, their Q [C, B], the mean target [] and new statistics.

    `target` is a function of the critics' own outputs [C, B, n] for (s', a') where they are the target critics.
    """
    if nets.joint_pass:
        outputs, statistics = nets.run(critics, both(batch, next_action))
        outputs, own = outputs.chunk(2, dim=1)
        returns = target if isinstance(target, Returns) else target(own.detach())
    else:
        x = torch.cat([batch["observation"], batch["action"]], dim=-1)
        outputs, statistics = nets.run(critics, x, masks)
        assert isinstance(target, Returns)
        returns = target
    q, y = expectation(nets.head, outputs, hyper), returns.mean
    if nets.head.kind == "scalar":
        loss = 0.5 * penalty(q - y, threshold(nets, hyper)).mean(-1).sum()
    elif nets.head.kind == "quantile":
        loss = quantile_loss(outputs, returns, hyper["kappa"]).mean(-1).sum()
    else:
        loss = categorical_loss(outputs, returns, support(nets.head, hyper)).mean(-1).sum()
    return loss, (q, y.mean(), statistics)


def expected_value(nets: Networks, outputs: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return the expectation [B] of the pool that targets use, over the critics drawn: outputs [C, B, n]."""
    pool = nets.head.pool
    if pool == "truncated" or (pool == "pointwise" and nets.head.kind != "scalar"):
        return pooled_returns(nets.head, outputs, hyper).mean
    pessimism = hyper["pessimism"] if pool == "pointwise" else torch.ones_like(hyper["pessimism"])
    return expected_pool(expectation(nets.head, outputs, hyper), nets.target_critics or nets.critics, pessimism)


def q_bound(hyper: Hyperparameters, reward: Tensor, entropy: Tensor | float = 0.0) -> Tensor:
    """Return the largest |Q| that |r| <= `reward` and, in V, a term of size `entropy` allow; infinite if gamma is 1.

    It solves |Q| = c |r| + gamma (entropy + |Q|), from `bellman_target`. Targets of n steps have the same bound or a
    lower one: they leave out entropies. All shapes are equal.
    """
    gamma = hyper["gamma"]
    bound = (hyper["reward_scale"] * reward + gamma * entropy) / (1 - gamma)
    return torch.where(gamma < 1, bound, torch.inf)


def polyak(target: Any, online: Any, tau: Tensor) -> Any:
    """Return (1 - tau) target + tau online for each tensor, exact at tau = 1 ([2] Algorithm 1)."""
    return tree_map(lambda old, new: (1 - tau) * old + tau * new, target, online)


def follow(target: Any, online: Any, waits: Tensor, hyper: Hyperparameters) -> tuple[Any, Tensor]:
    """Move a target every `target_period` updates; return it and the updates left until its next step.

    `waits` [] is the number left before this update.
    """
    waits = waits - 1
    tau = torch.where(waits <= 0, hyper["tau"], 0.0)
    return polyak(target, online, tau), torch.where(waits <= 0, hyper["target_period"], waits)
