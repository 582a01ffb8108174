"""Stable-Baselines3's algorithms for rollouts, with a Problem's weights and samples, in float64.

Their casts to float32 are removed, for exactness.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import RolloutBufferSamples
from torch import Tensor

from sac_bench.algorithms.protocol import Batch
from tests.algorithms.problem import Problem


def in_float64(peer: Any, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the peer the problem's weights, in float64, and a logger."""
    peer.set_logger(Logger(folder=None, output_formats=[]))
    peer.policy.double()
    give_parameters(problem, peer)
    monkeypatch.setattr(policies, "preprocess_obs", lambda observation, *_, **__: observation)


def give_parameters(problem: Problem, peer: Any) -> None:
    """Set the peer's parameters to ours."""
    with torch.no_grad():
        for name, parameter in theirs(peer.policy).items():
            parameter.copy_(ours(problem)[name])


def buffered(batch: Batch) -> RolloutBufferSamples:
    """Our samples as the peer's."""
    return RolloutBufferSamples(
        observations=batch["observation"],
        actions=batch["action"],
        old_values=batch["value"],
        old_log_prob=batch["log_prob"],
        advantages=batch["advantage"],
        returns=batch["return"],
    )


def theirs(policy: Any) -> dict[str, Tensor]:
    """SB3's tensors under the names and in the shapes of `ours`."""
    found = {"log_std": policy.log_std}
    stacks = {"actor": [*policy.mlp_extractor.policy_net, policy.action_net]}
    stacks["critic"] = [*policy.mlp_extractor.value_net, policy.value_net]
    for name, modules in stacks.items():
        for i, module in enumerate(m for m in modules if isinstance(m, torch.nn.Linear)):
            found |= {f"{name}/{i}/weight": module.weight, f"{name}/{i}/bias": module.bias}
    return found


def ours(problem: Problem) -> dict[str, Tensor]:
    """Our networks as SB3's matrices, weights [out, in]."""
    params = problem.state["params"]
    found = {"log_std": params["actor"]["log_std"]}
    for name, network in (("actor", params["actor"]["mean"]), ("critic", params["critic"])):
        for i, (weight, bias) in enumerate(network):
            found |= {f"{name}/{i}/weight": weight.T, f"{name}/{i}/bias": bias}
    return found


def assert_same_parameters(problem: Problem, peer: Any, atol: float = 1e-9) -> None:
    """All parameters agree."""
    our_params, their_params = ours(problem), theirs(peer.policy)
    assert our_params.keys() == their_params.keys()
    for name, value in our_params.items():
        torch.testing.assert_close(value, their_params[name].detach(), rtol=0, atol=atol, msg=name)
