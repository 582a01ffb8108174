"""Adam for one learner; `vmap` gives every member of a cohort its own learning rate."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

BETAS, EPSILON = (0.9, 0.999), 1e-8  # arXiv 1412.6980, section 2: the defaults of every SAC implementation

Params = Any
"""A tensor, or a pytree of them."""
AdamState = dict[str, Any]


def adam_init(params: Params) -> AdamState:
    """Return the initial state: first and second moments (zeros), and beta1^t and beta2^t, 1 []."""
    one = tree_leaves(params)[0].new_ones(())
    return {
        "m": tree_map(torch.zeros_like, params),
        "v": tree_map(torch.zeros_like, params),
        "beta1_power": one,
        "beta2_power": one.clone(),
    }


def clipped(gradient: Params, max_norm: Tensor) -> Params:
    """Scale a gradient to a global norm of at most `max_norm` [], as torch does; 0 does not scale."""
    norm = torch.stack([(g * g).sum() for g in tree_leaves(gradient)]).sum().sqrt()
    scale = torch.where(max_norm > 0, (max_norm / (norm + 1e-6)).clamp(max=1.0), 1.0)
    return tree_map(lambda g: g * scale, gradient)


def adam(
    params: Params,
    gradient: Params,
    state: AdamState,
    learning_rate: Tensor,
    epsilon: Tensor | float = EPSILON,
    betas: tuple[float, float] = BETAS,
) -> tuple[Params, AdamState]:
    """Return parameters and state after one step of Adam (arXiv 1412.6980, algorithm 1); learning_rate, epsilon [].

    The state holds the powers of beta, since compiled code would recompute beta**t for every parameter.
    """
    beta1, beta2 = betas
    beta1_power, beta2_power = beta1 * state["beta1_power"], beta2 * state["beta2_power"]
    m = tree_map(lambda m, g: beta1 * m + (1 - beta1) * g, state["m"], gradient)
    v = tree_map(lambda v, g: beta2 * v + (1 - beta2) * g * g, state["v"], gradient)
    step = learning_rate / (1 - beta1_power)
    correction = torch.rsqrt(1 - beta2_power)
    new = tree_map(lambda p, m, v: p - step * m / (torch.sqrt(v) * correction + epsilon), params, m, v)
    return new, {"m": m, "v": v, "beta1_power": beta1_power, "beta2_power": beta2_power}
