"""How many members one compiled program is made for: a function of a run's structure, never of its cohort.

On a CPU the code compiled for one member sums in another order than that for several, and the codes for two and more
agree (docs/correctness.md). So a structure is always trained by the one kind or always by the other:

- Large updates, whose arithmetic outweighs what a call costs, by programs of one member, which members call in turn.
- Small ones by a program of all members. A run that is alone there trains beside a copy of itself.
"""

from __future__ import annotations

import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms.config import TrainingConfig
from sac_bench.algorithms.protocol import State

LARGE_UPDATE = 1e8
"""Multiplications and additions of an update from which on members take turns."""


def parameters(state: State) -> int:
    """Weights and biases of one learner's state."""
    return sum(leaf.numel() for leaf in tree_leaves(state["params"]))


def update_flops(parameters: int, config: TrainingConfig) -> float:
    """Arithmetic of one update of one member, roughly: `passes` of a batch through every weight."""
    return 2.0 * config.batch_size * parameters * config.passes


def programs(members: int, flops: float, device: torch.device | str, compiled: bool) -> tuple[int, int]:
    """(members that train, copies included; members of one program), for an update of so many `flops`."""
    if not compiled or torch.device(device).type != "cpu":
        return members, members
    if flops >= LARGE_UPDATE:
        return members, 1
    return max(2, members), max(2, members)
