"""Adam for one learner's parameter vector; `vmap` gives every member of a cohort its own learning rate."""

from __future__ import annotations

import torch
from torch import Tensor

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8  # Kingma & Ba 2015, the defaults of every SAC implementation

AdamState = dict[str, Tensor]


def adam_init(params: Tensor) -> AdamState:
    """First and second moments, zeros like the parameters, and a step count []."""
    return {"m": torch.zeros_like(params), "v": torch.zeros_like(params), "count": params.new_zeros(())}


def adam(params: Tensor, gradient: Tensor, state: AdamState, learning_rate: Tensor) -> tuple[Tensor, AdamState]:
    """One step of Adam (arXiv 1412.6980, algorithm 1); learning_rate []."""
    count = state["count"] + 1
    m = BETA1 * state["m"] + (1 - BETA1) * gradient
    v = BETA2 * state["v"] + (1 - BETA2) * gradient * gradient
    step = learning_rate / (1 - BETA1**count)
    correction = torch.rsqrt(1 - BETA2**count)
    return params - step * m / (torch.sqrt(v) * correction + EPSILON), {"m": m, "v": v, "count": count}
