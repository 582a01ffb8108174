"""One step of an optimizer: the gradient's clipping, L2, and Adam with a schedule of its rate.

Everything here is written for one learner with a policy `actor`, an ensemble of Q networks `critic` and, in some, a V
network `value` and a `temperature`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import BETAS, AdamState, Params, adam, clipped
from sac_bench.algorithms.protocol import Hyperparameters
from sac_bench.options.config import QLearningConfig

WEIGHT_DECAY = {"actor": "actor_weight_decay", "critic": "critic_weight_decay", "value": "critic_weight_decay"}
"""The option with each network's L2 penalty. The temperature is no network: it neither decays nor is clipped."""


@dataclass(frozen=True)
class Optimizer:
    """The structure of a learner's optimizers.

    starts, utd: update u, counted from 0, follows starts + u / utd transitions
    """

    betas: tuple[float, float] = BETAS
    clips: bool = False
    decoupled: bool = False
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    starts: int = 0
    utd: float = 1.0


DEFAULT = Optimizer()


def optimizer(config: QLearningConfig) -> Optimizer:
    """Return the structure of a config's optimizers."""
    return Optimizer(
        betas=(config.adam_beta1, config.adam_beta2),
        clips=config.max_grad_norm > 0,
        decoupled=config.decoupled_decay,
        schedule=config.lr_schedule if config.anneal_steps else "constant",
        starts=config.updates_start,
        utd=config.utd,
    )


def share_left(of: Optimizer, updates: Tensor, anneal_steps: Tensor, final: Tensor | float = 0.0) -> Tensor:
    """Return the factor [] of all rates in the update after `updates` [] others: from 1 to `final`.

    anneal_steps [] is the run's end, in transitions. In between, the factor is that of torch's LinearLR or
    CosineAnnealingLR (arXiv 1608.03983, eq. 5), as a function of the transitions.
    """
    steps = of.starts + updates.to(anneal_steps.dtype) / of.utd
    left = (1 - steps / anneal_steps).clamp(min=0)
    left = left if of.schedule == "linear" else torch.sin(0.5 * math.pi * left) ** 2
    return final + (1 - final) * left


def step(
    of: Optimizer,
    name: str,
    params: Params,
    gradient: Params,
    state: AdamState,
    updates: Tensor,
    hyper: Hyperparameters,
) -> tuple[Params, AdamState]:
    """Return parameters `name` and Adam's state after one step; `updates` [] is the number of updates before.

    The gradient is clipped (torch.nn.utils.clip_grad_norm_, each Q network by itself, so that its steps do not depend
    on their number), then L2 is added (weight_decay of torch.optim.Adam) or, if decoupled, the weights decay before
    Adam's step (torch.optim.AdamW; arXiv 1711.05101, algorithm 2). All rates follow the schedule, the temperature's
    too, as in Stable-Baselines3.
    """
    rate = hyper[f"{name}_lr"]
    if of.schedule != "constant":
        rate = rate * share_left(of, updates, hyper["anneal_steps"], hyper["anneal_to"])
    if of.clips and name in WEIGHT_DECAY:
        clip = torch.func.vmap(clipped, (0, None)) if name == "critic" else clipped
        gradient = clip(gradient, hyper["max_grad_norm"])
    if name in WEIGHT_DECAY:
        decay = hyper[WEIGHT_DECAY[name]]
        if of.decoupled:
            params = tree_map(lambda p: p - rate * decay * p, params)
        else:
            gradient = tree_map(lambda g, p: g + decay * p, gradient, params)
    return adam(params, gradient, state, rate, hyper["adam_epsilon"], of.betas)
