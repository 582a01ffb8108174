"""Runs of one structure as one program: every tensor leads with the member axis M.

The number of operations of an update does not depend on M, and members never mix: a member's tensors are
functions of its own numbers, seed and data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms.protocol import Batch, Learner, Numbers, State
from sac_bench.training.graphed import Graphed
from sac_bench.training.random import Draws, Moment, uniform

Data = Any
"""What the learners learn from: a pytree of tensors."""
Gather = Callable[[Moment, Data], Batch]


class Cohort:
    """M learners of one structure, their numbers and their seeds, on one device.

    state: pytree of [M, ...], whose tensors are updated in place; numbers: {name: [M]}; seeds: [M].
    gather(moment, data) makes an update's batches {name: [M, B, ...]} from what the learners learn from and the
    update's draws, of which "replay" is [M, B]. With `compiled`, an update is one graph, draws and batches
    included, and so is acting; eager is the reference they are checked against.
    """

    def __init__(
        self,
        learner: Learner,
        numbers: Sequence[dict[str, float]],
        seeds: Sequence[int],
        gather: Gather,
        num_envs: int = 1,
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
        self.healthy = torch.ones(self.size, dtype=torch.bool, device=self.device)
        """Members [M] none of whose metrics was ever NaN or infinite."""
        self._sums = torch.zeros(self.size, len(learner.metrics), dtype=dtype, device=self.device)
        self._counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        self.record = (self._sums, self._counts, self.healthy)
        self._gather = gather
        update_draws = {f"update/{name}": shape for name, shape in learner.update_noise.items()}
        actions = (num_envs, learner.action_dim)
        self._update_draws = Draws({"replay": (learner.batch_size,), **update_draws}, dtype, device)
        self._explore_draws = Draws({"explore": actions, "warmup": actions}, dtype, device)
        self._act: Callable[..., Any] = self._act_all
        self._explore: Callable[..., Tensor] = self._explore_all
        self._update: Callable[..., None] = self._update_all
        if compiled:
            self._act = torch.compile(self._act_all, fullgraph=True, dynamic=True)
            self._explore = torch.compile(self._explore_all, fullgraph=True)
            update = torch.compile(self._update_all, fullgraph=True)
            self._update = Graphed(update) if self.device.type == "cuda" else update

    @property
    def size(self) -> int:
        return len(self.seeds)

    def act(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Observations [M, N, D], normal noise [M, N, A] -> sampled and mean actions [M, N, A]."""
        return self._act(self.state["params"], self.numbers, observation, noise)

    def explore(self, observation: Tensor, step: Tensor, warm: Tensor) -> Tensor:
        """Observations [M, N, D], vector step [] -> float32 actions [M, N, A] to learn from, each with its own noise.

        They are sampled from the policies where `warm` [] is true, and uniform before. A member that diverged
        acts with zeros: its slot stays, its numbers no longer count.
        """
        return self._explore(self.state["params"], self.numbers, self.seeds, observation, step, warm)

    def update(self, data: Data) -> None:
        """One update of every member, on a batch of its own."""
        self._update(self.state, self.numbers, self.seeds, self.record, data)

    def pop_metrics(self) -> tuple[dict[str, Tensor], Tensor]:
        """(means {name: [M]}, updates [M] they are over) since the last call, on the CPU.

        Only updates count in which a member was healthy: the means are of its last finite figures, and NaN where
        there are none.
        """
        counts = self._counts.to("cpu", copy=True)
        means = self._sums.cpu() / counts[:, None]
        self._sums.zero_()
        self._counts.zero_()
        return dict(zip(self.learner.metrics, means.unbind(1), strict=True)), counts

    def finite(self) -> Tensor:
        """Which members are healthy and have parameters without NaN or infinity: bool [M] on the CPU."""
        ok = [p.reshape(self.size, -1).isfinite().all(1) for p in tree_leaves(self.state["params"])]
        return torch.stack([*ok, self.healthy]).all(0).cpu()

    def _update_all(
        self, state: State, numbers: Numbers, seeds: Tensor, record: tuple[Tensor, Tensor, Tensor], data: Data
    ) -> None:
        moment = self._update_draws.at(seeds, state["updates"][0])
        batch = {name: part.to(self.dtype) for name, part in self._gather(moment, data).items()}
        noise = {name: moment.normal(f"update/{name}") for name in self.learner.update_noise}
        new, metrics = torch.func.vmap(self.learner.update)(state, numbers, batch, noise)
        tree_map(lambda old, new: old.copy_(new), state, new)
        sums, counts, healthy = record
        found = torch.stack([metrics[name] for name in self.learner.metrics], dim=1)
        healthy &= found.isfinite().all(1)
        sums += torch.where(healthy[:, None], found, 0.0)
        counts += healthy

    def _explore_all(
        self, params: Any, numbers: Numbers, seeds: Tensor, observation: Tensor, step: Tensor, warm: Tensor
    ):
        moment = self._explore_draws.at(seeds, step)
        sampled, _ = self._act_all(params, numbers, observation, moment.normal("explore"))
        return torch.where(warm, sampled.nan_to_num(0.0), 2 * moment.uniform("warmup") - 1).to(torch.float32)

    def _act_all(self, params: Any, numbers: Numbers, observation: Tensor, noise: Tensor):
        return torch.func.vmap(self.learner.act)(params, numbers, observation.to(self.dtype), noise)


def _initial_draw(seed: int, dtype: torch.dtype, name: str, shape: tuple[int, ...]) -> Tensor:
    return uniform(seed, f"init/{name}", shape, dtype)
