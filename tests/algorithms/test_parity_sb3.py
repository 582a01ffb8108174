"""Parity with Stable-Baselines3's SAC: same weights, same batches, same noise, in float64 on both sides.

Two parts of the peer are removed for exactness: its cast of observations to float32, and the 1e-6 it adds
inside log(1 - a^2). Everything else is its own `SAC.train`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from stable_baselines3 import SAC
from stable_baselines3.common import policies
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.type_aliases import ReplayBufferSamples

from sac_bench.spec.load import load
from tests.algorithms.problem import A, D, Problem


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


def settings(config) -> dict[str, Any]:
    """A config as arguments of SB3's SAC."""
    assert config.actor_lr == config.critic_lr == config.temperature_lr
    return {
        "learning_rate": rate(config),
        "batch_size": config.batch_size,
        "gamma": config.gamma,
        "tau": config.tau,
        "ent_coef": "auto" if config.learn_temperature else config.temperature,
        "target_entropy": -config.target_entropy_scale * A,
        "policy_kwargs": policy_options(config),
    }


class Peer:
    """Stable-Baselines3's SAC with a Problem's weights, fed with its batches and noise."""

    def __init__(
        self, problem: Problem, monkeypatch: pytest.MonkeyPatch, arguments: dict[str, Any] | None = None
    ) -> None:
        """With `arguments`, the peer has these and its own defaults instead of the Problem's settings."""
        config = problem.config
        arguments = settings(config) if arguments is None else arguments
        self.sac = SAC("MlpPolicy", Spaces(), buffer_size=1, device="cpu", **arguments)
        self.sac.set_logger(Logger(folder=None, output_formats=[]))
        self.sac.policy.double()
        self.sac.actor.action_dist.epsilon = 0.0
        if "ent_coef" not in arguments:  # its default, which learns the temperature
            log_alpha = self.sac.log_ent_coef.detach().double().requires_grad_()
            (options,) = self.sac.ent_coef_optimizer.param_groups
            self.sac.log_ent_coef = log_alpha
            self.sac.ent_coef_optimizer = torch.optim.Adam([options | {"params": [log_alpha]}])
        elif config.learn_temperature:
            log_alpha = torch.tensor(config.temperature, dtype=torch.float64).log().requires_grad_()
            self.sac.log_ent_coef = log_alpha
            options = policy_options(config)["optimizer_kwargs"] | {"weight_decay": 0.0}  # it applies only to networks
            self.sac.ent_coef_optimizer = torch.optim.Adam([log_alpha], lr=config.temperature_lr, **options)
        else:
            self.sac.ent_coef_tensor = self.sac.ent_coef_tensor.double().fill_(config.temperature)
        with torch.no_grad():
            initial = ours(problem)
            theirs = self.parameters(problem)
            assert {name: x.shape for name, x in initial.items()} == {
                name: tuple(x.shape) for name, x in theirs.items()
            }
            for name, parameter in theirs.items():
                parameter.copy_(torch.from_numpy(initial[name]))
        monkeypatch.setattr(policies, "preprocess_obs", lambda observation, *_, **__: observation)
        monkeypatch.setattr(self.sac.replay_buffer, "sample", self._sample)
        monkeypatch.setattr("torch.distributions.normal._standard_normal", lambda *_, **__: self._noise.pop(0))

    def _sample(self, batch_size: int, **_: Any) -> ReplayBufferSamples:
        assert len(self._samples.observations) == batch_size
        return self._samples

    def update(self, problem: Problem, batch, noise) -> dict[str, float]:
        self.sac._current_progress_remaining = progress(problem)
        powers = self.sac.gamma ** torch.arange(problem.config.n_step, dtype=torch.float64)

        def column(values):
            return values.reshape(-1, 1)

        self._samples = ReplayBufferSamples(
            observations=batch["observation"],
            actions=batch["action"],
            next_observations=batch["next_observation"],
            dones=column(batch["terminated"]),
            rewards=column((batch["reward"] * powers).sum(-1)),
            discounts=column(self.sac.gamma ** batch["length"]),
        )
        self._noise = [noise["policy"], noise["next_policy"]]
        self.sac.train(gradient_steps=1, batch_size=self.sac.batch_size)
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
    assert_same_updates(problem, Peer(problem, monkeypatch), problem.noise)


def assert_same_updates(problem: Problem, peer: Peer, draw: Callable[[], dict[str, torch.Tensor]]) -> None:
    """Ten updates give the same losses, temperatures and parameters on both sides."""
    for number in range(10):
        batch, noise = problem.batch(), draw()
        theirs = peer.update(problem, batch, noise)
        problem.state, metrics = problem.update(number, batch, noise)
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


def assert_preset_is_the_peers_default(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten updates with a preset's options are those of SB3's SAC without any arguments.

    The policy's deviations reach their upper bound in the first action dimension and their lower one in the second. The
    noise is small in the first and zero in the second, since the peer loses digits where |a| is close to 1, and where it
    takes the difference of an action and a mean that are nearly equal.
    """
    problem = Problem(**options, precision="float64")
    *others, last = problem.state["params"]["actor"]
    bias = torch.cat([last.bias[:A], torch.tensor([5.0, -25.0], dtype=torch.float64)])
    weight = torch.cat([last.weight[:, :A], 30 * last.weight[:, A:]], 1)
    problem.state["params"]["actor"] = (*others, last._replace(weight=weight, bias=bias))
    log_std = problem.nets.forward(problem.state["params"]["actor"], problem.normal(99, D))[:, A:]
    assert log_std.min() < -20.1
    assert log_std.max() > 2.1

    def small() -> dict[str, torch.Tensor]:
        return {name: torch.tensor([0.1, 0.0]) * noise for name, noise in problem.noise().items()}

    assert_same_updates(problem, Peer(problem, monkeypatch, {}), small)


def preset(tmp_path: Path) -> dict[str, Any]:
    """The options of a variant in a file that sets nothing but the preset."""
    path = tmp_path / "peer.toml"
    path.write_text('name = "peer"\nenvs = ["Pendulum-v1"]\nsteps = 20000\n[variants.peer]\nas = "sb3-sac"\n')
    return load(path).variants["peer"].configs["Pendulum-v1"].model_dump(exclude={"algorithm", "precision"})


@pytest.mark.thorough
def test_the_presets_ten_updates_are_those_of_stable_baselines3s_defaults(tmp_path, monkeypatch):
    assert_preset_is_the_peers_default(preset(tmp_path), monkeypatch)


@pytest.mark.thorough
@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 128},
        {"actor_layers": [256, 128]},
        {"critic_layers": [256]},
        {"activation": "tanh"},
        {"critics": 3},
        {"actor_lr": 3.1e-4},
        {"critic_lr": 3.1e-4},
        {"temperature_lr": 3.1e-4},
        {"tau": 0.0051},
        {"gamma": 0.991},
        {"target_period": 2},
        {"learn_temperature": False},
        {"temperature": 0.99},
        {"temperature_objective": "alpha"},
        {"log_std_form": "tanh"},
        {"log_std_min": -19.0},
        {"log_std_max": 1.9},
        {"reward_scale": 1.01},
        {"target_entropy_scale": 0.99},
        {"adam_beta2": 0.99},
        {"adam_epsilon": 1e-7},
    ],
    ids=str,
)
def test_a_wrong_value_in_the_preset_is_noticed(wrong, tmp_path, monkeypatch):
    with pytest.raises(AssertionError):
        assert_preset_is_the_peers_default(preset(tmp_path) | wrong, monkeypatch)
