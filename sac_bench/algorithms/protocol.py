"""The interface between algorithms and the trainer: pure functions of one learner, and their data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sac_bench.algorithms.networks import Draw

State = dict[str, Any]
"""A learner's tensors: parameters, targets, optimizer moments, buffers, and `updates`, the number of updates. The state
of exploration, if it has one, is under `exploration`."""
Hyperparameters = dict[str, Tensor]
"""The per-member config fields, each a scalar []."""
Batch = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
"""Noise by name: each name is a separate stream, with one draw of that shape in each update."""

Update = Callable[..., tuple[State, dict[str, Tensor]]]
"""update(state, hyper, batch, noise) -> (state, metrics {name: []})."""


def parameters(state: State) -> State:
    """Return the parameters: what most learners pass on to a run that starts from their weights."""
    return {"params": state["params"]}


@dataclass(frozen=True)
class Value:
    """A learner's Q, which evaluations compare with the returns of its policy.

    of(state, hyper, observation [N, D], noise [N, noise_dim]) -> (Q [N], bonus [N]) of the actions that `act` returns
    for this noise. Q estimates the sum of gamma^k reward_scale r_k and, at every `steps`th later step, of
    gamma^k bonus_k; `gamma` and `reward_scale` must be hyperparameters. Both are NaN if no evaluation measures that.
    policy: the policy of which Q is the value, "mean" or "sample"d actions.
    """

    of: Callable[..., tuple[Tensor, Tensor]]
    policy: Literal["mean", "sample"]
    steps: int = 1


@dataclass(frozen=True)
class Diagnosis:
    """What is measured of a learner at each evaluation, on a batch of its replay.

    of(state, hyper, batch, noise) -> {name: []}, with the names of `names`; the noise is standard normal, with the
    shapes in `noise`.
    """

    of: Callable[..., dict[str, Tensor]]
    noise: Shapes
    names: tuple[str, ...]


@dataclass(frozen=True)
class Learner:
    """One learner's functions. The cohort gives every tensor a leading member axis by `torch.func.vmap`.

    init(draw, hyper) -> state
    policy(state) -> the tensors that acting needs, which are saved as a run's policy
    act(policy, hyper, observation [N, D], noise [N, noise_dim]) -> (sampled action [N, A], mean action [N, A])
    update(state, hyper, batch, noise) -> (state, metrics {name: []}), with the names of `metrics`

    The noise of an update is standard normal (`update_noise`) or uniform in [0, 1) (`update_uniforms`). That of an
    action is normal, one number for each dimension and `extra_noise` more.

    Update number n, counted from 1, is made by schedule(n): `update`, or another of a few functions with the same
    arguments, each of which becomes one program. None: always by `update`.
    explore(policy, hyper, observation, noise, carried, started [N]) -> (action [N, A], carried) replaces the sampled
    actions of `act` in training; `started` is 1 where an episode begins.
    observe(statistics, observation [N, D]) -> statistics is called in every vector step, before acting, with the
    observations to act on; the statistics are under `normalizer` in the state.
    collect(returns, hyper, reward [N], done [N]) -> returns is called after every vector step with its rewards; done is
    1 where an episode ended. `returns` is in the state.
    With data = "rollout", prepare(state, hyper, transitions) -> (state, samples) is called after every `rollout`
    transitions, with all of them in order, row by row; batches are parts of the samples. Each (function, times) of
    `stages` is called so many times after it, in turn, as a program of its own: function(state, hyper, samples) ->
    (state, samples). The updates use the last one's samples.

    q_bound(hyper, metrics {name: []}, largest |r| []) -> the largest |Q| [] that rewards and entropies allow, given the
    means of `metrics` between two evaluations, of which "q" is Q. A run whose |Q| exceeds it is marked as exploded.
    None if there is no such bound.
    Evaluations also measure `value` and, with data = "replay", `diagnosis`, if they are given.
    weights(state) -> the weights saved at a run's end, from which other runs can start
    start(state, weights, hyper) -> an initial state with such weights, and targets equal to them; None if runs of an
    algorithm cannot start from others.
    with_temperature(weights, alpha []) -> the weights with this temperature; None if the algorithm has none.
    """

    data: Literal["replay", "rollout"]
    init: Callable[[Draw, Hyperparameters], State]
    policy: Callable[[State], Any]
    act: Callable[..., tuple[Tensor, Tensor]]
    update: Update
    action_dim: int
    update_noise: Shapes
    batch_size: int
    metrics: tuple[str, ...]
    update_uniforms: Shapes = field(default_factory=dict)
    extra_noise: int = 0
    schedule: Callable[[int], Update] | None = None
    explore: Callable[..., tuple[Tensor, Any]] | None = None
    observe: Callable[[State, Tensor], State] | None = None
    collect: Callable[[State, Hyperparameters, Tensor, Tensor], State] | None = None
    prepare: Callable[..., tuple[State, dict[str, Any]]] | None = None
    stages: tuple[tuple[Callable[..., tuple[State, dict[str, Any]]], int], ...] = ()
    rollout: int = 0
    epochs: int = 1
    q_bound: Callable[[Hyperparameters, dict[str, Tensor], Tensor], Tensor] | None = None
    value: Value | None = None
    diagnosis: Diagnosis | None = None
    weights: Callable[[State], State] = parameters
    start: Callable[[State, State, Hyperparameters], State] | None = None
    with_temperature: Callable[[State, Tensor], State] | None = None

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers needed to sample an action."""
        return self.action_dim + self.extra_noise

    def update_of(self, number: int) -> Update:
        """Return the function that makes update `number`, counted from 1."""
        return self.update if self.schedule is None else self.schedule(number)

    def shape_of_state(self, hyper: Hyperparameters) -> State:
        """Return a state with this learner's structure and shapes that takes no memory (torch's meta device)."""
        dtype = next(iter(hyper.values())).dtype
        return self.init(lambda name, shape: torch.empty(shape, dtype=dtype, device="meta"), hyper)
