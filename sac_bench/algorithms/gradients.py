"""The variance of a gradient estimate over its noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves


def gradient_spread(gradient: Callable[[Tensor], Any], noise: Tensor, together: int) -> tuple[Tensor, Tensor]:
    """Evaluate gradient(noise [...]) -> pytree for each of noise [K, ...], `together` at a time.

    Return the trace of the K gradients' covariance [] (unbiased: their variance, summed over parameters) and the
    squared norm [] of their mean.
    """
    each = torch.func.vmap(gradient, chunk_size=together)(noise)
    flat = torch.cat([leaf.flatten(1) for leaf in tree_leaves(each)], dim=1)
    return flat.var(0).sum(), (flat.mean(0) ** 2).sum()
