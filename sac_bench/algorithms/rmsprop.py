"""RMSprop for one learner; `vmap` gives every member of a cohort its own numbers."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms.adam import Params


def rmsprop_init(params: Params) -> Params:
    """Return the initial mean squares: zeros, as in torch.optim.RMSprop."""
    return tree_map(torch.zeros_like, params)


def rmsprop(
    params: Params, gradient: Params, squares: Params, learning_rate: Tensor, decay: Tensor, epsilon: Tensor
) -> tuple[Params, Params]:
    """Return parameters and mean squares after one step; learning_rate, decay, epsilon [].

    squares <- decay squares + (1 - decay) g^2, params <- params - learning_rate g / (sqrt(squares) + epsilon): the form
    of torch.optim.RMSprop. TensorFlow's, and arXiv 1602.01783, have epsilon inside the root.
    """
    squares = tree_map(lambda s, g: decay * s + (1 - decay) * g * g, squares, gradient)
    step = tree_map(lambda g, s: g / (torch.sqrt(s) + epsilon), gradient, squares)
    return tree_map(lambda p, d: p - learning_rate * d, params, step), squares
