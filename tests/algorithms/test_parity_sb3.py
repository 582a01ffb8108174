"""Parity with Stable-Baselines3's SAC: same weights, same batches, same noise, in float64 on both sides.

Two parts of the peer are removed for exactness: its cast of observations to float32, and the 1e-6 it adds
inside log(1 - a^2). Everything else is its own `SAC.train`.
"""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from tests.algorithms.problem import A, B, D, Problem


class Spaces(gymnasium.Env):
    """The only attributes of an environment that SB3 requires here: its spaces."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (D,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (A,), np.float32)


def policy_options(config) -> dict[str, Any]:
    """Arguments of SB3's policies of SAC and TD3. Both optimizers have the policy's penalty."""
    return {
        "net_arch": {"pi": list(config.actor_sizes), "qf": list(config.critic_sizes)},
        "n_critics": config.critics,
        "optimizer_kwargs": {
            "betas": (config.adam_beta1, config.adam_beta2),
            "eps": config.adam_epsilon,
            "weight_decay": config.actor_weight_decay,
        },
    }


def rate(config) -> Any:
    """The rate of all optimizers, which SB3 takes as a function of the share of the run that is left."""
    return (lambda left: left * config.actor_lr) if config.anneal_steps else config.actor_lr


def progress(problem: Problem) -> float:
    """The share of the run that is left, at one update per step from the first step on."""
    over = problem.config.anneal_steps
    return 1 - int(problem.state["updates"]) / over if over else 1.0


class Peer:
    """Stable-Baselines3's SAC with a Problem's weights, fed with its batches and noise."""

    def __init__(self, problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
        config = problem.config
        assert config.actor_lr == config.critic_lr == config.temperature_lr
        self.sac = SAC(
            "MlpPolicy",
            Spaces(),
            learning_rate=rate(config),
            gamma=config.gamma,
            tau=config.tau,
            ent_coef="auto" if config.learn_temperature else config.temperature,
            target_entropy=-config.target_entropy_scale * A,
            policy_kwargs=policy_options(config),
            buffer_size=1,
            device="cpu",
        )
        self.sac.set_logger(Logger(folder=None, output_formats=[]))
        self.sac.policy.double()
        self.sac.actor.action_dist.epsilon = 0.0
        if config.learn_temperature:
            log_alpha = torch.tensor(config.temperature, dtype=torch.float64).log().requires_grad_()
            self.sac.log_ent_coef = log_alpha
            options = policy_options(config)["optimizer_kwargs"] | {"weight_decay": 0.0}  # it applies only to networks
            self.sac.ent_coef_optimizer = torch.optim.Adam([log_alpha], lr=config.temperature_lr, **options)
        else:
            self.sac.ent_coef_tensor = self.sac.ent_coef_tensor.double().fill_(config.temperature)
        with torch.no_grad():
            for name, parameter in self.parameters(problem).items():
                parameter.copy_(torch.from_numpy(ours(problem)[name]))
        monkeypatch.setattr(policies, "preprocess_obs", lambda observation, *_, **__: observation)
        monkeypatch.setattr(self.sac.replay_buffer, "sample", lambda *_, **__: self._samples)
        monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *_, **__: self._noise.pop(0))

    def update(self, problem: Problem, batch, noise) -> dict[str, float]:
        self.sac._current_progress_remaining = progress(problem)
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
        self._noise = [noise["policy"], noise["next_policy"]]
        self.sac.train(gradient_steps=1, batch_size=B)
        assert not self._noise
        logged = self.sac.logger.name_to_value
        return {name: logged[f"train/{name}"] for name in ("critic_loss", "actor_loss", "ent_coef")}

    def parameters(self, problem: Problem) -> dict[str, torch.Tensor]:
        """SB3's tensors under the names and in the shapes of `ours`."""
        found = {}
        stacks = {"actor": [[*self.sac.actor.latent_pi, self.sac.actor.mu]]}
        stacks["critic"] = [list(q) for q in self.sac.critic.q_networks]
        stacks["target"] = [list(q) for q in self.sac.critic_target.q_networks]
        for name, networks in stacks.items():
            for c, network in enumerate(networks):
                linear = [module for module in network if isinstance(module, torch.nn.Linear)]
                for i, module in enumerate(linear):
                    found |= {f"{name}/{c}/{i}/weight": module.weight, f"{name}/{c}/{i}/bias": module.bias}
        last = len(problem.config.actor_sizes)
        found[f"actor/0/{last}/log_std_weight"] = self.sac.actor.log_std.weight
        found[f"actor/0/{last}/log_std_bias"] = self.sac.actor.log_std.bias
        return found


def ours(problem: Problem) -> dict[str, np.ndarray]:
    """Our networks as SB3's matrices: weights [out, in]; the actor's last layer is two of theirs."""
    found, last = {}, len(problem.config.actor_sizes)
    ensembles = {"critic": problem.state["params"]["critic"], "target": problem.state["target"]}
    for name, ensemble in ensembles.items():
        for i, (weight, bias) in enumerate(ensemble):
            for c in range(problem.config.critics):
                found |= {f"{name}/{c}/{i}/weight": weight[c].T, f"{name}/{c}/{i}/bias": bias[c]}
    for i, (weight, bias) in enumerate(problem.state["params"]["actor"]):
        mean = slice(None) if i < last else slice(0, A)
        found |= {f"actor/0/{i}/weight": weight[:, mean].T, f"actor/0/{i}/bias": bias[mean]}
    found[f"actor/0/{last}/log_std_weight"] = weight[:, A:].T
    found[f"actor/0/{last}/log_std_bias"] = bias[A:]
    return {name: np.ascontiguousarray(value.detach().numpy()) for name, value in found.items()}


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param({}, id="learned-temperature"),
        pytest.param({"learn_temperature": False, "temperature": 0.2}, id="fixed-temperature"),
        pytest.param({"learn_temperature": False, "temperature": 0.0}, id="no-entropy"),
        pytest.param({"tau": 0.3, "gamma": 0.9, "target_entropy_scale": 0.5, "temperature": 0.1}, id="other-numbers"),
        pytest.param({"critics": 1}, id="one-critic"),
        pytest.param({"critics": 4, "tau": 1.0}, id="four-critics-hard-copies"),
        pytest.param({"n_step": 3}, id="three-steps"),
        pytest.param({"layers": [16], "actor_lr": 0.01, "critic_lr": 0.01, "temperature_lr": 0.01}, id="large-steps"),
        pytest.param({"actor_layers": [5], "critic_layers": [9, 7, 6]}, id="sizes-of-their-own"),
        pytest.param({"adam_beta1": 0.5, "adam_beta2": 0.9, "adam_epsilon": 0.01}, id="other-adam"),
        pytest.param({"actor_weight_decay": 0.1, "critic_weight_decay": 0.1}, id="weight-decay"),
        pytest.param({"anneal_steps": 12, "learning_starts": 0, "min_replay": 1}, id="annealed"),
    ],
)
def test_parity_with_stable_baselines3(overrides, monkeypatch):
    problem = Problem(**overrides)
    peer = Peer(problem, monkeypatch)
    for _ in range(10):
        batch, noise = problem.batch(), problem.noise()
        theirs = peer.update(problem, batch, noise)
        problem.state, metrics = problem.learner.update(problem.state, problem.hyper, batch, noise)
        assert float(metrics["critic_loss"]) == pytest.approx(theirs["critic_loss"], rel=0, abs=1e-9)
        assert float(metrics["actor_loss"]) == pytest.approx(theirs["actor_loss"], rel=0, abs=1e-9)
        assert float(metrics["temperature"]) == pytest.approx(theirs["ent_coef"], rel=0, abs=1e-9)
    our_params, theirs = ours(problem), peer.parameters(problem)
    assert our_params.keys() == theirs.keys()
    for name, value in our_params.items():
        np.testing.assert_allclose(value, theirs[name].detach().numpy(), rtol=0, atol=1e-9, err_msg=name)
    if problem.config.learn_temperature:
        assert float(problem.state["params"]["temperature"]) == pytest.approx(
            peer.sac.log_ent_coef.item(), rel=0, abs=1e-9
        )
