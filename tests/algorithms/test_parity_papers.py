"""Parity with the papers: ten updates of every axis against the NumPy transcription in paper.py, to 1e-9."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.func import grad

from sac_bench.algorithms import critics, sac
from tests.algorithms.paper import SoftActorCritic, gradient
from tests.algorithms.problem import A, D, Problem, network, vector

V = {"value_network": True, "learn_temperature": False}

AXES = {
    "1801.01290": V | {"temperature": 1.0, "reward_scale": 5.0},
    "1812.05905": {},
    "1801.01290-one-critic": V | {"critics": 1, "temperature": 0.2},
    "v-network-learned-temperature": {"value_network": True},
    "v-network-mean-of-critics": V | {"pessimism": 0.0},
    "v-network-no-entropy-in-backup": V | {"entropy_in_backup": False, "temperature": 0.3},
    "v-network-hard-copies": V | {"tau": 1.0, "target_period": 4},
    "v-network-three-steps": V | {"n_step": 3},
    "fixed-temperature": {"learn_temperature": False, "temperature": 0.2},
    "no-entropy": {"learn_temperature": False, "temperature": 0.0},
    "one-critic": {"critics": 1},
    "five-critics": {"critics": 5},
    "mean-of-critics": {"critics": 3, "pessimism": 0.0},
    "between-mean-and-minimum": {"critics": 3, "pessimism": 0.3},
    "actor-on-the-first-critic": {"actor_objective": "first"},
    "entropy-not-in-backup": {"entropy_in_backup": False, "temperature": 0.5},
    "hard-copies": {"tau": 1.0, "target_period": 4},
    "three-steps": {"n_step": 3, "gamma": 0.8},
    "reward-scale": {"reward_scale": 20.0, "n_step": 2},
    "target-entropy-and-rates": {
        "target_entropy_scale": 0.3,
        "actor_lr": 1e-2,
        "critic_lr": 3e-3,
        "temperature_lr": 0.1,
    },
    "target-entropy-in-nats": {"target_entropy": -0.7, "temperature_lr": 0.1},
    "scaled-temperature": {"scale_temperature": True, "reward_scale": 5.0, "temperature": 0.3},
    "scaled-fixed-temperature": V | {"scale_temperature": True, "reward_scale": 5.0, "temperature": 0.3},
    "clipped-deviation": {"log_std_min": -0.1, "log_std_max": 0.1},
    "deterministic": {
        "learn_temperature": False,
        "temperature": 0.0,
        "stochastic_updates": False,
        "log_std_min": -2.3,
        "log_std_max": -2.3,
    },
    "truncation-is-terminal": {"bootstrap_truncated": False, "n_step": 2},
    "tanh": {"activation": "tanh"},
    "elu": {"activation": "elu"},
    "silu": {"activation": "silu"},
    "gelu": {"activation": "gelu"},
    "score-function": {"gradient_estimator": "score-function", "actor_objective": "mean"},
    "score-function-v-network": V | {"gradient_estimator": "score-function", "temperature": 0.3, "value_lr": 0.1},
    "score-function-three-actions": {
        "gradient_estimator": "score-function",
        "score_samples": 3,
        "dropout": True,
        "dropout_rate": 0.3,
    },
    "delayed-actor": {"actor_delay": 3, "target_period": 2, "tau": 0.5},
    "delayed-actor-alone": {"actor_delay": 3, "temperature_delay": 1, "temperature_lr": 0.1},
    "delayed-temperature-alone": {"temperature_delay": 3, "temperature_lr": 0.1},
    "delays-of-their-own": {"actor_delay": 2, "temperature_delay": 3, "temperature_lr": 0.1},
    "delayed-actor-alone-v-network": {"actor_delay": 2, "temperature_delay": 1, "value_network": True},
    "temperature-as-printed": {"temperature_objective": "alpha", "temperature": 0.3, "temperature_lr": 0.1},
    "deviation-by-tanh": {"log_std_form": "tanh"},
    "deviation-by-tanh-to-minus-three": {"log_std_form": "tanh", "log_std_min": -3.0},
    "deviation-of-its-own": {"state_dependent_std": False, "actor_lr": 1e-2},
    "averaged-policy": {"target_policy": True, "tau": 0.1, "actor_lr": 1e-2, "actor_delay": 2},
    "mixture": {"mixture": 3, "actor_lr": 1e-2},
    "mixture-score-function": {"mixture": 2, "gradient_estimator": "score-function", "log_std_form": "tanh"},
    "mixture-v-network": {"mixture": 2, "value_network": True, "layer_norm": "critics"},
    "layer-norm": {"layer_norm": "all", "state_dependent_std": False},
    "dropout": {"dropout": True, "dropout_rate": 0.3, "critics": 3, "target_critics": 2},
    "dropout-v-network": {"dropout": True, "dropout_rate": 0.2, "value_network": True},
    "normalised-observations": {"normalize_observations": True},
    "redq": {"critics": 5, "target_critics": 2, "actor_objective": "mean", "actor_delay": 2},
    "droq": {"layer_norm": "critics", "dropout": True, "actor_objective": "mean"},
}


OTHER_MIXES = {
    "v-network-mean-of-critics",
    "v-network-no-entropy-in-backup",
    "v-network-hard-copies",
    "no-entropy",
    "one-critic",
    "between-mean-and-minimum",
    "reward-scale",
    "target-entropy-and-rates",
    "scaled-fixed-temperature",
    "elu",
    "silu",
    "gelu",
    "delayed-actor-alone-v-network",
    "deviation-by-tanh-to-minus-three",
    "mixture-score-function",
    "dropout-v-network",
    "v-network-learned-temperature",
}
"""Left out of make test: other cases have their options, and test_widths.py their activations."""


def transcription(problem: Problem) -> SoftActorCritic:
    params = problem.state["params"]
    value = vector(params["value"]).numpy() if "value" in params else None
    settings = problem.config.model_dump()
    return SoftActorCritic(
        settings, (D, A), vector(params["actor"]).numpy(), [q.numpy() for q in problem.critics(params["critic"])], value
    )


@pytest.mark.parametrize(
    "axis", [pytest.param(name, marks=pytest.mark.thorough) if name in OTHER_MIXES else name for name in AXES]
)
def test_parity_with_the_papers(axis):
    problem = Problem(**{"layers": [4, 3]} | AXES[axis])
    paper = transcription(problem)
    for number in range(7):  # one more than all delays together take to repeat
        batch, noise = problem.batch(), problem.noise()
        expected = paper.update({k: v.numpy() for k, v in batch.items()}, {k: v.numpy() for k, v in noise.items()})
        problem.observe(batch["observation"])
        problem.state, metrics = problem.update(number, batch, noise)
        for name, value in expected.items():
            assert float(metrics[name]) == pytest.approx(value, rel=0, abs=1e-9), name
    params = problem.state["params"]

    def equal(ours, theirs):
        return np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9)

    equal(vector(params["actor"]), paper.actor)
    equal(np.stack(problem.critics(problem.state["params"]["critic"])), np.stack(paper.critics))
    equal(params["temperature"], paper.log_alpha)
    if problem.config.target_policy:
        equal(vector(problem.state["target_policy"]), paper.average_actor)
    if paper.value is None:
        equal(np.stack(problem.critics(problem.state["target"])), np.stack(paper.targets))
    else:
        equal(vector(problem.state["target"]), paper.targets[0])
        equal(vector(params["value"]), paper.value)


def losses(problem: Problem):
    """{name: (our loss of parameters, the parameters)} on one batch."""
    batch, noise, params, hyper = problem.batch(), problem.noise(), problem.state["params"], problem.hyper
    nets, target, alpha = problem.nets, problem.normal(16), torch.tensor(0.7, dtype=torch.float64)
    s = batch["observation"]
    yield "critic", lambda p: critics.critic_loss(p, nets, batch, target)[0], params["critic"]
    yield "value", lambda p: sac.value_loss(p, nets, s, target)[0], params["value"]
    yield (
        "actor",
        lambda p: sac.actor_loss(p, nets, params["critic"], s, noise["policy"], alpha, hyper)[0],
        params["actor"],
    )
    yield (
        "temperature",
        lambda p: sac.temperature_loss(p, target, torch.tensor(-2.0), hyper)[0],
        params["temperature"],
    )


def test_parity_of_gradients_with_central_differences():
    problem = Problem(layers=[4], value_network=True, activation="tanh")
    for name, loss, at in losses(problem):
        found, step, flat = vector(grad(loss)(at)), 1e-5, vector(at)
        for i in range(len(flat)):
            move = torch.zeros_like(flat)
            move[i] = step
            difference = loss(network(flat + move, at)) - loss(network(flat - move, at))
            assert float(found[i]) == pytest.approx(float(difference) / (2 * step), rel=1e-5, abs=1e-8), (name, i)


def test_the_complex_step_equals_the_derivative():
    at = np.array([0.3, -1.2])
    np.testing.assert_allclose(
        gradient(lambda x: np.exp(x[0]) * np.tanh(x[1]), at),
        [np.exp(0.3) * np.tanh(-1.2), np.exp(0.3) / np.cosh(1.2) ** 2],
        rtol=1e-15,
    )
