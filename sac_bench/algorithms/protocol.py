"""What an algorithm is to the trainer: pure functions of one learner, and what they learn from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor

from sac_bench.algorithms.networks import Draw

State = dict[str, Any]
"""A learner's tensors: parameters, targets, optimizer moments, buffers, and `updates`, its count of updates. What
exploration carries from step to step is under `exploration`, if it carries anything."""
Hyperparameters = dict[str, Tensor]
"""The per-member config fields, each a scalar []."""
Batch = dict[str, Tensor]
Shapes = dict[str, tuple[int, ...]]
"""Noise by name: each name is a stream of its own, one draw of that shape an update."""


def parameters(state: State) -> State:
    """All that most learners hand on to a run that starts from theirs."""
    return {"params": state["params"]}


@dataclass(frozen=True)
class Value:
    """A learner's Q, to be compared with the returns that its policy gets.

    of(state, hyper, observation [N, D], noise [N, noise_dim]) -> (Q [N], bonus [N]) of the actions that `act` gives
    for this noise. Q estimates the sum of gamma^k reward_scale r_k and, at every `steps`th step from then on, of
    gamma^k bonus_k; `gamma` and `reward_scale` are among the numbers. Both are NaN where no evaluation shows that.
    policy: the one that Q is of, the mean action's or the sampled actions'.
    """

    of: Callable[..., tuple[Tensor, Tensor]]
    policy: Literal["mean", "sample"]
    steps: int = 1


@dataclass(frozen=True)
class Diagnosis:
    """What is found out about a learner at each evaluation, on a batch of its replay.

    of(state, hyper, batch, noise) -> {name: []}, with the names of `names`; noise is standard normal, of the shapes
    of `noise`.
    """

    of: Callable[..., dict[str, Tensor]]
    noise: Shapes
    names: tuple[str, ...]


@dataclass(frozen=True)
class Learner:
    """One learner's functions. The cohort gives every tensor a leading member axis by `torch.func.vmap`.

    init(draw, hyper) -> state
    policy(state) -> what acting reads: the tensors that are saved as a run's policy
    act(policy, hyper, observation [N, D], noise [N, noise_dim]) -> (sampled action [N, A], mean action [N, A])
    update(state, hyper, batch, noise) -> (state, metrics {name: []}), with the names of `metrics`

    An update's noise is standard normal, `update_noise`, and uniform in [0, 1), `update_uniforms`; an action's is
    normal, one number a dimension and `extra_noise` more.

    Of every `period` updates the last is made by `update` and the others, where there are any, by `between`.
    explore(policy, hyper, observation, noise, carried, started [N]) -> (action [N, A], carried), where the actions to
    learn from are not those that `act` samples; `started` is 1 where an episode begins.
    With data = "rollout", prepare(state, hyper, transitions) -> (state, samples) is called when `rollout`
    transitions are there, all of them in order, row by row; batches are parts of the samples.

    `value` and, with data = "replay", `diagnosis` are what evaluations measure beside returns, where they are given.
    weights(state) -> what a run that starts from this one begins with, saved at a run's end
    start(state, weights, hyper, before) -> a state that `init` made, with such weights of a learner whose numbers
    were `before`, and targets equal to them; None where an algorithm's runs cannot start from others.
    """

    data: Literal["replay", "rollout"]
    init: Callable[[Draw, Hyperparameters], State]
    policy: Callable[[State], Any]
    act: Callable[..., tuple[Tensor, Tensor]]
    update: Callable[..., tuple[State, dict[str, Tensor]]]
    action_dim: int
    update_noise: Shapes
    batch_size: int
    metrics: tuple[str, ...]
    update_uniforms: Shapes = field(default_factory=dict)
    extra_noise: int = 0
    period: int = 1
    between: Callable[..., tuple[State, dict[str, Tensor]]] | None = None
    explore: Callable[..., tuple[Tensor, Any]] | None = None
    prepare: Callable[..., tuple[State, dict[str, Tensor]]] | None = None
    rollout: int = 0
    epochs: int = 1
    value: Value | None = None
    diagnosis: Diagnosis | None = None
    weights: Callable[[State], State] = parameters
    start: Callable[[State, State, Hyperparameters, Hyperparameters], State] | None = None

    @property
    def noise_dim(self) -> int:
        """Standard normal numbers that an action is drawn with."""
        return self.action_dim + self.extra_noise

    def shape_of_state(self, hyper: Hyperparameters) -> State:
        """A state of this learner's structure and shapes that takes no memory (torch's meta device)."""
        dtype = next(iter(hyper.values())).dtype
        return self.init(lambda name, shape: torch.empty(shape, dtype=dtype, device="meta"), hyper)
