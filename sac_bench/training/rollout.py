"""Whole rollouts of M runs, and minibatches of the samples that learners make of them."""

from __future__ import annotations

from typing import Any

import torch

from sac_bench.algorithms.protocol import Batch
from sac_bench.training.random import Moment
from sac_bench.training.replay import Memory, transitions


def whole(memory: Memory, count: int) -> Batch:
    """Return the last `count` transitions of every member, [M, count, ...], in the form of `transitions`.

    The oldest come first; those of one vector step are adjacent. The memory must hold that many.
    """
    m, ring, n = memory["rows"].shape[:3]
    filled = memory["written"].clamp(max=ring - 1) * n
    newest = filled - count + torch.arange(count, device=filled.device)
    return transitions(memory, newest.expand(m, count), 1)


def minibatch(moment: Moment, data: dict[str, Any], size: int) -> Batch:
    """Return the batches {name: [M, size, ...]} of update `moment.step`: the next `size` of a shuffled epoch.

    data: samples {name: [M, count, ...]} and order [M, epochs * count], a permutation of the samples for each epoch.
    """
    order = data["order"]
    batches = order.shape[1] // size
    assert moment.step is not None
    first = (moment.step % batches) * size
    at = order[:, first + torch.arange(size, device=order.device)]
    member = torch.arange(len(order), device=order.device)[:, None]
    return {name: samples[member, at] for name, samples in data["samples"].items()}
