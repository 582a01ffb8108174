"""One learner in float64 with made-up data, for tests of updates."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_leaves, tree_map, tree_unflatten

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.critics import Networks
from sac_bench.algorithms.hyperparameters import dtype_of, hyperparameters_of
from sac_bench.algorithms.networks import Network
from sac_bench.algorithms.protocol import Batch, Hyperparameters, State
from sac_bench.training.random import uniform

D, A, B = 3, 2, 16


def vector(network: Network) -> Tensor:
    """A network's parameters, its weights and biases layer by layer."""
    return torch.cat([leaf.flatten() for leaf in tree_leaves(network)])


def network(parameters: Tensor, like: Network) -> Network:
    """The inverse of `vector`."""
    leaves, structure = tree_flatten(like)
    parts = parameters.split([leaf.numel() for leaf in leaves])
    return tree_unflatten([part.view(leaf.shape) for part, leaf in zip(parts, leaves, strict=True)], structure)


class Problem:
    """A learner of D observations, A actions and batches of B (or `batch_size`), its state, and a stream of made-up data."""

    def __init__(self, algorithm: str = "sac", **overrides: Any) -> None:
        kind = ALGORITHMS[algorithm].config
        size = {"batch_size": B} if "batch_size" in kind.model_fields else {"rollout_steps": B}
        settings = {"layers": [8, 8], "precision": "float64"} | size | overrides
        self.config: Any = kind.model_validate(settings)
        self.learner = ALGORITHMS[algorithm].learner(self.config, D, A)
        self.nets: Networks = self.learner.update.args[0]
        self.hyper: Hyperparameters = hyperparameters_of(self.config)
        self.state: State = self.learner.init(
            lambda name, shape: uniform(1, name, shape, dtype_of(self.config)), self.hyper
        )
        self._generator = torch.Generator().manual_seed(0)

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self._generator, dtype=dtype_of(self.config))

    def batch(self) -> Batch:
        """Transitions of every kind: windows cut short by termination (no bootstrap) and by truncation (bootstrap)."""
        n, b = self.config.n_step, self.config.batch_size
        length = torch.randint(1, n + 1, (b,), generator=self._generator)
        within = torch.arange(n) < length[:, None]
        return {
            "observation": self.normal(b, D),
            "action": self.normal(b, A).tanh(),
            "reward": self.normal(b, n) * within,
            "length": length.to(dtype_of(self.config)),
            "terminated": (terminated := (self.normal(b) > 0.8).to(dtype_of(self.config))),
            "truncated": (1 - terminated) * (self.normal(b) > 0.8),
            "next_observation": self.normal(b, D),
        }

    def observe(self, observation: Tensor) -> None:
        """Add observations [N, D] to the statistics, if the learner keeps any."""
        if self.learner.observe is not None:
            self.state = self.state | {"normalizer": self.learner.observe(self.state["normalizer"], observation)}

    def update(self, number: int, batch: Batch, noise: dict[str, Tensor]) -> tuple[State, dict[str, Tensor]]:
        """State and metrics after update number `number`, counted from 0."""
        return self.learner.update_of(number + 1)(self.state, self.hyper, batch, noise)

    def prepare(self, transitions: Batch) -> Batch:
        """Samples of a rollout's transitions, after all that is done before updates; the state changes."""
        assert self.learner.prepare is not None
        self.state, samples = self.learner.prepare(self.state, self.hyper, transitions)
        for stage, times in self.learner.stages:
            for _ in range(times):
                self.state, samples = stage(self.state, self.hyper, samples)
        return samples

    def samples(self) -> Batch:
        """Samples of a rollout whose action probabilities differ somewhat from the current policy's."""
        action, value, advantage = self.normal(B, A), self.normal(B), 3 * self.normal(B) + 1
        return {
            "observation": self.normal(B, D),
            "action": action,
            "log_prob": torch.distributions.Normal(0.0, 1.0).log_prob(action).sum(-1) + 0.2 * self.normal(B),
            "value": value,
            "advantage": advantage,
            "return": advantage + value,
        }

    def critics(self, ensemble: Network) -> list[Tensor]:
        """An ensemble as one vector per critic."""
        return [vector(tree_map(lambda leaf, i=i: leaf[i], ensemble)) for i in range(self.config.critics)]

    def noise(self) -> dict[str, Tensor]:
        def uniform(*shape):
            return torch.rand(*shape, generator=self._generator, dtype=dtype_of(self.config))

        drawn = {name: self.normal(*shape) for name, shape in self.learner.update_noise.items()}
        return drawn | {name: uniform(*shape) for name, shape in self.learner.update_uniforms.items()}
