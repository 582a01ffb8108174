"""Adam for one learner's parameter vector; `vmap` gives every member of a cohort its own learning rate."""

from __future__ import annotations

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Kingma & Ba 2015, the defaults of every SAC implementation

AdamState = dict[str, Tensor]


def adam_init(params: Tensor) -> AdamState:
    """First and second moments, zeros like the parameters, and beta1^t, beta2^t []."""
    one = params.new_ones(())
    return {
        "m": torch.zeros_like(params),
        "v": torch.zeros_like(params),
        "beta1_power": one,
        "beta2_power": one.clone(),
    }


def adam(params: Tensor, gradient: Tensor, state: AdamState, learning_rate: Tensor) -> tuple[Tensor, AdamState]:
    """One step of Adam (arXiv 1412.6980, algorithm 1); learning_rate [].

    The powers of beta are carried along: beta**t, a scalar, would be computed anew for every parameter.
    """
    beta1_power, beta2_power = BETA1 * state["beta1_power"], BETA2 * state["beta2_power"]
    m = BETA1 * state["m"] + (1 - BETA1) * gradient
    v = BETA2 * state["v"] + (1 - BETA2) * gradient * gradient
    step = learning_rate / (1 - beta1_power)
    correction = torch.rsqrt(1 - beta2_power)
    new = params - step * m / (torch.sqrt(v) * correction + EPSILON)
    return new, {"m": m, "v": v, "beta1_power": beta1_power, "beta2_power": beta2_power}
