"""Cohorts fed with made-up data: each member's batches are a function of its seed and the update."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.options.config import ReplayConfig
from sac_bench.training.cohort import Cohort

D, A = 3, 2


def cohort(
    configs: Sequence[ReplayConfig], seeds: Sequence[int], compiled: bool = False, dims: tuple[int, int] = (D, A)
) -> Cohort:
    """Members of one structure; `dims` are those of observations and actions."""
    made = ALGORITHMS[configs[0].algorithm].learner(configs[0], *dims)
    hyper, dtype = [c.hyperparameters() for c in configs], dtype_of(configs[0])
    return Cohort(made, hyper, seeds, lambda moment, batches: batches, dtype=dtype, compiled=compiled)


def batch(config: ReplayConfig, dims: tuple[int, int], seed: int, update: int) -> dict[str, Tensor]:
    generator, b = torch.Generator().manual_seed(1000 * seed + update), config.batch_size

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype_of(config))

    return {
        "observation": normal(b, dims[0]),
        "action": normal(b, dims[1]).tanh(),
        "reward": normal(b, config.n_step),
        "length": torch.full((b,), config.n_step, dtype=dtype_of(config)),
        "terminated": (normal(b) > 1).to(dtype_of(config)),
        "truncated": (normal(b) > 1).to(dtype_of(config)),
        "next_observation": normal(b, dims[0]),
    }


def train(
    trained: Cohort,
    config: ReplayConfig,
    updates: int,
    poison: int | None = None,
    dims: tuple[int, int] = (D, A),
) -> Cohort:
    """Make this many updates; the rewards of member `poison` are NaN."""
    for number in range(updates):
        update(trained, config, number, poison, dims)
    return trained


def update(
    trained: Cohort, config: ReplayConfig, number: int, poison: int | None = None, dims: tuple[int, int] = (D, A)
) -> None:
    """Make update `number`, counted from 0; the rewards of member `poison` are NaN."""
    batches = [batch(config, dims, seed, number) for seed in trained.seeds.tolist()]
    if poison is not None:
        batches[poison]["reward"][:] = float("nan")
    trained.update({name: torch.stack([b[name] for b in batches]) for name in batches[0]}, number)
