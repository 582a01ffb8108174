"""Parity with Stable-Baselines3's TD3 and DDPG: same weights, same batches, same noise, float64 on both sides.

Only the peer's cast of observations to float32 is removed. Everything else is its own `TD3.train`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from stable_baselines3 import DDPG, TD3
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from torch.utils._pytree import tree_map

from tests.algorithms.problem import B, Problem
from tests.algorithms.test_parity_sb3 import Spaces, policy_options, progress, rate


class Peer:
    """Stable-Baselines3's TD3 or DDPG with a Problem's weights, fed with its batches and noise."""

    def __init__(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        config = problem.config
        assert config.actor_lr == config.critic_lr
        common = {
            "learning_rate": rate(config),
            "gamma": config.gamma,
            "tau": config.tau,
            "policy_kwargs": policy_options(config),
            "buffer_size": 1,
            "device": "cpu",
        }
        if config.algorithm == "ddpg":
            self.peer: TD3 = DDPG("MlpPolicy", Spaces(), **common)
        else:
            self.peer = TD3(
                "MlpPolicy",
                Spaces(),
                policy_delay=config.policy_delay,
                target_policy_noise=config.target_noise,
                target_noise_clip=config.target_noise_clip,
                **common,
            )
        self.peer.set_logger(Logger(folder=None, output_formats=[]))
        self.peer.policy.double()
        self.peer.critic.optimizer.param_groups[0]["weight_decay"] = config.critic_weight_decay
        with torch.no_grad():
            for name, parameter in self.parameters().items():
                parameter.copy_(torch.from_numpy(ours(problem)[name]))
        monkeypatch.setattr(policies, "preprocess_obs", lambda observation, *_, **__: observation)
        monkeypatch.setattr(self.peer.replay_buffer, "sample", lambda *_, **__: self._samples)
        monkeypatch.setattr(torch.Tensor, "normal_", lambda _, mean, std: mean + std * self._noise)

    def update(self, problem: Problem, batch, noise) -> dict[str, float]:
        self.peer._current_progress_remaining = progress(problem)
        powers = problem.config.gamma ** torch.arange(problem.config.n_step, dtype=torch.float64)

        def column(values):
            return values.reshape(B, 1)

        self._samples = ReplayBufferSamples(
            observations=batch["observation"],
            actions=batch["action"],
            next_observations=batch["next_observation"],
            dones=column(batch["terminated"]),
            rewards=column((batch["reward"] * powers).sum(-1)),
            discounts=column(problem.config.gamma ** batch["length"]),
        )
        self._noise = noise["target_policy"]
        self.peer.train(gradient_steps=1, batch_size=B)
        return {name.removeprefix("train/"): v for name, v in self.peer.logger.name_to_value.items()}

    def parameters(self) -> dict[str, torch.Tensor]:
        """SB3's tensors under the names and in the shapes of `ours`."""
        peer, found = self.peer, {}
        networks = {
            "params/actor": [peer.actor.mu],
            "params/critic": peer.critic.q_networks,
            "target/actor": [peer.actor_target.mu],
            "target/critic": peer.critic_target.q_networks,
        }
        for name, members in networks.items():
            for c, network in enumerate(members):
                for i, module in enumerate(m for m in network if isinstance(m, torch.nn.Linear)):
                    found |= {f"{name}/{c}/{i}/weight": module.weight, f"{name}/{c}/{i}/bias": module.bias}
        return found


def ours(problem: Problem) -> dict[str, np.ndarray]:
    """Our networks as SB3's matrices: weights [out, in]."""
    found = {}
    for kind in ("params", "target"):
        actor, critic = problem.state[kind]["actor"], problem.state[kind]["critic"]
        members = [("actor", 0, actor)]
        members += [("critic", c, tree_map(lambda x, c=c: x[c], critic)) for c in range(problem.config.critics)]
        for name, c, network in members:
            for i, (weight, bias) in enumerate(network):
                found |= {f"{kind}/{name}/{c}/{i}/weight": weight.T, f"{kind}/{name}/{c}/{i}/bias": bias}
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in found.items()}


@pytest.mark.parametrize(
    ("algorithm", "overrides"),
    [
        pytest.param("td3", {}, id="td3"),
        pytest.param("td3", {"policy_delay": 3, "target_noise": 0.5, "target_noise_clip": 0.3}, id="td3-other-noise"),
        pytest.param("td3", {"tau": 0.3, "gamma": 0.9, "n_step": 3}, id="td3-three-steps"),
        pytest.param("td3", {"critics": 4, "policy_delay": 1, "tau": 1.0}, id="td3-four-critics-hard-copies"),
        pytest.param("td3", {"layers": [16], "actor_lr": 0.01, "critic_lr": 0.01}, id="td3-large-steps"),
        pytest.param("ddpg", {}, id="ddpg"),
        pytest.param("ddpg", {"critic_weight_decay": 0.01, "tau": 0.001, "layers": [40, 30]}, id="ddpg-weight-decay"),
        pytest.param("td3", {"actor_layers": [5], "critic_layers": [9, 7, 6]}, id="td3-sizes-of-their-own"),
        pytest.param("td3", {"adam_beta1": 0.5, "adam_beta2": 0.9, "adam_epsilon": 0.01}, id="td3-other-adam"),
        pytest.param("td3", {"actor_weight_decay": 0.1, "critic_weight_decay": 0.2}, id="td3-weight-decay"),
        pytest.param("td3", {"anneal_steps": 12, "learning_starts": 0, "min_replay": 1}, id="td3-annealed"),
    ],
)
def test_parity_with_stable_baselines3(algorithm, overrides, monkeypatch):
    problem = Problem(algorithm, **overrides)
    peer = Peer(problem, monkeypatch)
    for number in range(10):
        batch, noise = problem.batch(), problem.noise()
        theirs = peer.update(problem, batch, noise)
        problem.state, metrics = problem.update(number, batch, noise)
        assert float(metrics["critic_loss"]) == pytest.approx(theirs["critic_loss"], rel=0, abs=1e-9)
        if "actor_loss" in theirs:
            assert float(metrics["actor_loss"]) == pytest.approx(theirs["actor_loss"], rel=0, abs=1e-9)
    our_params, theirs = ours(problem), peer.parameters()
    assert our_params.keys() == theirs.keys()
    for name, value in our_params.items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), rtol=0, atol=1e-9, err_msg=name)
