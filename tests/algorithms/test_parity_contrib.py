"""Parity with sb3-contrib's TQC and CrossQ: same weights, same batches, same noise, in float64 on both sides.

For exactness, three parts of the peer are removed: its cast of observations to float32, the 1e-6 that it adds inside
log(1 - a^2), and Bessel's correction of batch variances, which CrossQ's authors do not use. Everything else is its own
`train`. TQC's loss is a mean over the critics and ours is a sum, which Adam does not see when its epsilon is tiny.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TQC, CrossQ
from sb3_contrib.common.torch_layers import BatchRenorm
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch.utils._pytree import tree_leaves, tree_map

from tests.algorithms.problem import A, B, Problem
from tests.algorithms.test_parity_sb3 import Spaces

COMMON = {"adam_beta1": 0.5, "adam_beta2": 0.9, "temperature": 0.3}


def adam(config) -> dict[str, Any]:
    return {"betas": (config.adam_beta1, config.adam_beta2), "eps": config.adam_epsilon}


def tqc(config) -> TQC:
    return TQC(
        "MlpPolicy",
        Spaces(),
        top_quantiles_to_drop_per_net=config.dropped_atoms,
        tau=config.tau,
        policy_kwargs={
            "net_arch": list(config.layers),
            "n_critics": config.critics,
            "n_quantiles": config.outputs_per_critic,
            "optimizer_kwargs": adam(config),
        },
        buffer_size=1,
        device="cpu",
        learning_rate=config.actor_lr,
    )


def crossq(config) -> CrossQ:
    return CrossQ(
        "MlpPolicy",
        Spaces(),
        policy_delay=config.actor_delay,
        policy_kwargs={
            "net_arch": list(config.layers),
            "n_critics": config.critics,
            "batch_norm_momentum": config.norm_momentum,
            "batch_norm_eps": config.norm_epsilon,
            "renorm_warmup_steps": config.renorm_after,
            "optimizer_kwargs": adam(config),
        },
        buffer_size=1,
        device="cpu",
        learning_rate=config.actor_lr,
    )


class Peer:
    """A peer's agent with a Problem's weights, fed with its batches and noise."""

    def __init__(self, agent: Any, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        self.agent = agent
        agent.set_logger(Logger(folder=None, output_formats=[]))
        agent.policy.double()
        agent.actor.action_dist.epsilon = 0.0
        log_alpha = torch.tensor(problem.config.temperature, dtype=torch.float64).log().requires_grad_()
        agent.log_ent_coef = log_alpha
        agent.ent_coef_optimizer = torch.optim.Adam(
            [log_alpha], lr=problem.config.temperature_lr, **adam(problem.config)
        )
        with torch.no_grad():
            for theirs, ours in zip(self.tensors(problem), tensors(problem), strict=True):
                theirs.copy_(ours)
        variance = torch.Tensor.var
        monkeypatch.setattr(policies, "preprocess_obs", lambda observation, *_, **__: observation)
        monkeypatch.setattr(torch.Tensor, "var", lambda x, dim, **kw: variance(x, dim, **({"correction": 0} | kw)))
        monkeypatch.setattr(agent.replay_buffer, "sample", lambda *_, **__: self._samples)
        monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *_, **__: self._noise.pop(0))

    def update(self, problem: Problem, batch, noise, moves: bool) -> dict[str, float]:
        def column(values):
            return values.reshape(B, 1)

        self._samples = ReplayBufferSamples(
            observations=batch["observation"],
            actions=batch["action"],
            next_observations=batch["next_observation"],
            dones=column(batch["terminated"]),
            rewards=column(batch["reward"][:, 0]),
            discounts=None,
        )
        policy_first = [noise["policy"], noise["next_policy"]]
        self._noise = policy_first if isinstance(self.agent, TQC) else policy_first[::-1] if moves else policy_first[1:]
        self.agent.train(gradient_steps=1, batch_size=B)
        assert not self._noise
        return {name: self.agent.logger.name_to_value[f"train/{name}"] for name in ("critic_loss", "ent_coef")}

    def tensors(self, problem: Problem) -> list[torch.Tensor]:
        """The peer's tensors in the order and shapes of ours: parameters, then targets and statistics."""

        def layers(network) -> list[torch.Tensor]:
            found = []
            for module in network:
                if isinstance(module, torch.nn.Linear):
                    found += [module.weight.T, module.bias]
                elif isinstance(module, BatchRenorm):
                    found += [module.scale, module.bias]
            return found

        def statistics(network) -> list[torch.Tensor]:
            norms = [module for module in network if isinstance(module, BatchRenorm)]
            return [leaf for norm in norms for leaf in (norm.ra_mean, norm.ra_var)]

        actor = self.agent.actor
        found = [*layers(actor.latent_pi), actor.mu.weight.T, actor.mu.bias, actor.log_std.weight.T, actor.log_std.bias]
        for network in self.agent.critic.q_networks:
            found += layers(network)
        if isinstance(self.agent, TQC):
            for network in self.agent.critic_target.q_networks:
                found += layers(network)
        else:
            found += statistics(actor.latent_pi)
            for network in self.agent.critic.q_networks:
                found += statistics(network)
        return found


def tensors(problem: Problem) -> list[torch.Tensor]:
    """Our tensors, with the actor's last layer as two and each critic by itself."""
    params = problem.state["params"]
    *hidden, weight, bias = tree_leaves(params["actor"])
    found = [*hidden, weight[:, :A], bias[:A], weight[:, A:], bias[A:]]

    def critics(ensemble) -> list[torch.Tensor]:
        each = [tree_leaves(tree_map(lambda leaf, c=c: leaf[c], ensemble)) for c in range(problem.config.critics)]
        return [leaf for leaves in each for leaf in leaves]

    found += critics(params["critic"])
    if "target" in problem.state:
        found += critics(problem.state["target"])
    if "statistics" in problem.state:
        found += tree_leaves(problem.state["statistics"]["actor"]) + critics(problem.state["statistics"]["critic"])
    return found


QUANTILES = {
    "critic_head": "quantile",
    "critic_pool": "truncated",
    "actor_objective": "mean",
    "adam_epsilon": 1e-30,
} | COMMON
CROSSQ = COMMON | {
    "body": "batch-norm-after",
    "norm_epsilon": 1e-3,
    "target_network": False,
    "joint_pass": True,
    "renorm_after": 10**9,
}


@pytest.mark.parametrize(
    ("make", "overrides"),
    [
        pytest.param(tqc, QUANTILES | {"atoms": 8, "dropped_atoms": 2}, id="tqc"),
        pytest.param(tqc, QUANTILES | {"atoms": 4, "dropped_atoms": 0, "critics": 5}, id="tqc-keeps-all"),
        pytest.param(tqc, QUANTILES | {"atoms": 2, "dropped_atoms": 1, "tau": 0.3, "critics": 3}, id="tqc-keeps-half"),
        pytest.param(crossq, CROSSQ, id="crossq"),
        pytest.param(crossq, CROSSQ | {"actor_delay": 3, "norm_momentum": 0.2}, id="crossq-delayed"),
        pytest.param(
            crossq, CROSSQ | {"renorm_after": 3, "norm_momentum": 0.5, "norm_epsilon": 1e-13}, id="crossq-renormalised"
        ),
    ],
)
def test_parity_with_sb3_contrib(make, overrides, monkeypatch):
    problem = Problem(**overrides)
    peer = Peer(make(problem.config), problem, monkeypatch)
    scale = problem.config.critics if make is tqc else 1
    for number in range(8):
        batch, noise = problem.batch(), problem.noise()
        theirs = peer.update(problem, batch, noise, moves=(number + 1) % problem.config.actor_delay == 0)
        problem.state, metrics = problem.update(number, batch, noise)
        assert float(metrics["critic_loss"]) == pytest.approx(scale * theirs["critic_loss"], rel=0, abs=1e-9)
        assert float(metrics["temperature"]) == pytest.approx(theirs["ent_coef"], rel=0, abs=1e-9)
    for ours, theirs in zip(tensors(problem), peer.tensors(problem), strict=True):
        np.testing.assert_allclose(ours.detach().numpy(), theirs.detach().numpy(), rtol=0, atol=1e-9)
