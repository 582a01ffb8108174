"""Runs of one structure as one program: every tensor leads with the member axis M.

The number of operations of an update does not depend on M, and members never mix: a member's tensors are
functions of its own numbers, seed and data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms.protocol import Batch, Learner, Numbers, State
from sac_bench.training.random import Draws, Moment, uniform


class Cohort:
    """M learners of one structure, their numbers and their seeds, on one device.

    state: pytree of [M, ...]; numbers: {name: [M]}; seeds: [M]. With `compiled`, `act` and `update` are one
    graph each; eager is the reference it is checked against.
    """

    def __init__(
        self,
        learner: Learner,
        numbers: Sequence[dict[str, float]],
        seeds: Sequence[int],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        compiled: bool = True,
    ) -> None:
        self.learner, self.dtype, self.device = learner, dtype, torch.device(device)
        self.seeds = torch.tensor(list(seeds), dtype=torch.int64, device=self.device)
        self.numbers: Numbers = {
            name: torch.tensor([n[name] for n in numbers], dtype=dtype, device=self.device) for name in numbers[0]
        }
        members = [
            learner.init(
                partial(_initial_draw, seed, dtype), {name: values[m] for name, values in self.numbers.items()}
            )
            for m, seed in enumerate(seeds)
        ]
        self.state: State = tree_map(lambda *leaves: torch.stack(leaves).to(self.device), *members)
        self.metric_sums = self._zero_metrics()
        self.metric_count = 0
        update_draws = {f"update/{name}": shape for name, shape in learner.update_noise.items()}
        self._draws = Draws({"replay": (learner.batch_size,), **update_draws}, dtype, device, compiled)
        self._act_function, self._update_function = self._act_all, self._update_all
        if compiled:
            self._act_function = torch.compile(self._act_all, fullgraph=True, dynamic=True)
            self._update_function = torch.compile(self._update_all, fullgraph=True, dynamic=False)

    @property
    def size(self) -> int:
        return len(self.seeds)

    def act(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [M, N, D], normal noise [M, N, A] -> sampled and mean actions [M, N, A]."""
        return self._act_function(self.state["params"], self.numbers, observation, noise)

    def update(self, batch_at: Callable[[Moment], Batch]) -> None:
        """One update of every member on its own batch {name: [M, B, ...]}, made from this update's draws."""
        moment = self._draws.at(self.seeds, self.state["updates"][0])
        batch = {name: part.to(self.dtype) for name, part in batch_at(moment).items()}
        noise = {name: moment.normal(f"update/{name}") for name in self.learner.update_noise}
        self.state, self.metric_sums = self._update_function(self.state, self.numbers, batch, noise, self.metric_sums)
        self.metric_count += 1

    def pop_metrics(self) -> dict[str, Tensor]:
        """Means since the last call, {name: [M]} on the CPU; empty when there was no update."""
        if self.metric_count == 0:
            return {}
        means = (self.metric_sums / self.metric_count).cpu()
        self.metric_sums, self.metric_count = self._zero_metrics(), 0
        return dict(zip(self.learner.metrics, means.unbind(1), strict=True))

    def finite(self) -> Tensor:
        """Which members' parameters hold no NaN or infinity: bool [M] on the CPU."""
        ok = [p.reshape(self.size, -1).isfinite().all(1) for p in self.state["params"].values()]
        return torch.stack(ok).all(0).cpu()

    def _zero_metrics(self) -> Tensor:
        return torch.zeros(self.size, len(self.learner.metrics), dtype=self.dtype, device=self.device)

    def _update_all(self, state: State, numbers: Numbers, batch: Batch, noise: dict[str, Tensor], sums: Tensor):
        state, metrics = torch.func.vmap(self.learner.update)(state, numbers, batch, noise)
        return state, sums + torch.stack([metrics[name] for name in self.learner.metrics], dim=1)

    def _act_all(self, params: dict[str, Tensor], numbers: Numbers, observation: Tensor, noise: Tensor):
        return torch.func.vmap(self.learner.act)(params, numbers, observation.to(self.dtype), noise)


def _initial_draw(seed: int, dtype: torch.dtype, name: str, shape: tuple[int, ...]) -> Tensor:
    return uniform(seed, f"init/{name}", shape, dtype)
