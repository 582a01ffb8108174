"""What an algorithm is to the trainer: pure functions of one learner, and what they learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sac_bench.algorithms.networks import Draw

State = dict[str, Any]
"""A learner's tensors: parameters, targets, optimizer moments, buffers, and `updates`, its count of updates."""
Numbers = dict[str, Tensor]
"""The per-member config fields, each a scalar []."""
Batch = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
"""Standard normal noise by name: each name is a stream of its own, one draw of that shape an update."""


@dataclass(frozen=True)
class Learner:
    """One learner's functions. The cohort gives every tensor a leading member axis by `torch.func.vmap`.

    init(draw, numbers) -> state
    act(params, numbers, observation [N, D], noise [N, A]) -> (sampled action [N, A], mean action [N, A])
    update(state, numbers, batch, noise) -> (state, metrics {name: []}), with the names of `metrics`
    """

    data: Literal["replay", "rollout"]
    init: Callable[[Draw, Numbers], State]
    act: Callable[..., tuple[Tensor, Tensor]]
    update: Callable[..., tuple[State, dict[str, Tensor]]]
    action_dim: int
    update_noise: Shapes
    batch_size: int
    metrics: tuple[str, ...]

    def shape_of_state(self, numbers: Numbers) -> State:
        """A state of this learner's structure and shapes that takes no memory (torch's meta device)."""
        dtype = next(iter(numbers.values())).dtype
        return self.init(lambda name, shape: torch.empty(shape, dtype=dtype, device="meta"), numbers)
