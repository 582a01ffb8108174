"""Compiled against eager: some structures, and in a soak every structural option that a shipped experiment sets."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch._dynamo.utils import counters
from torch.utils._pytree import tree_flatten_with_path, tree_leaves

from sac_bench.envs.pool import describe
from sac_bench.options.config import ReplayConfig
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny
from tests.training.members import A, D, cohort, train, update


@pytest.fixture(autouse=True)
def fresh_compiler():
    """A worker process compiles one structure; torch refuses a ninth in the same process."""
    torch.compiler.reset()


EXPERIMENTS = files([Path(__file__).parents[2] / "experiments"])


def assert_compiled_is_eager(configs, dims, updates):
    """Parameters, targets and metrics after `updates` agree within float32's precision; so do actions."""
    seeds = list(range(len(configs)))
    compiled, eager = (
        train(cohort(configs, seeds, flag, dims), configs[0], updates, dims=dims) for flag in (True, False)
    )
    for name in ("params", "target"):
        ours, expected = (tree_flatten_with_path(made.state[name])[0] for made in (compiled, eager))
        for (path, leaf), (_, value) in zip(ours, expected, strict=True):
            torch.testing.assert_close(leaf, value, rtol=1e-4, atol=1e-5, msg=lambda text, path=path: f"{path}: {text}")
    torch.testing.assert_close(compiled.record[0], eager.record[0], rtol=1e-4, atol=1e-4)
    observation, noise = torch.randn(len(seeds), 5, dims[0]), torch.randn(len(seeds), 5, compiled.learner.noise_dim)
    for ours, expected in zip(compiled.act(observation, noise), eager.act(observation, noise), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


V_NETWORK = {"value_network": True, "n_step": 3, "activation": "tanh"}


MIXTURE = {
    "mixture": 3,
    "log_std_form": "tanh",
    "gradient_estimator": "score-function",
    "target_policy": True,
    "normalize_observations": True,
    "layer_norm": "all",
}
OPTIMIZED = {
    "actor_layers": [6],
    "critic_layers": [8, 4],
    "initialisation": "glorot",
    "max_grad_norm": 0.5,
    "huber_delta": 0.5,
    "anneal_steps": 200,
    "lr_schedule": "cosine",
    "adam_beta1": 0.5,
}
DROPOUT = {"dropout": True, "critics": 4, "target_critics": 2, "actor_delay": 2, "state_dependent_std": False}


@pytest.mark.thorough
@pytest.mark.parametrize(
    "structure",
    [{}, *(pytest.param(more, marks=pytest.mark.soak) for more in (V_NETWORK, MIXTURE, DROPOUT, OPTIMIZED))],
)
def test_cohort_compiled_equals_eager(structure):
    configs = [tiny(**structure), tiny(tau=0.1, critic_lr=3e-3, temperature_objective="alpha", **structure)]
    assert_compiled_is_eager(configs, (D, A), updates=10)


@pytest.mark.soak
def test_cohorts_of_two_structures_take_turns_in_one_process():
    """Their programs come from one function, and after the first calls neither checks its inputs."""
    configs = [tiny(), tiny(layers=[6])]
    alone = [train(cohort([config], [0], compiled=True), config, 10) for config in configs]
    in_turns = [cohort([config], [0], compiled=True) for config in configs]
    for number in range(10):
        for trained, config in zip(in_turns, configs, strict=True):
            update(trained, config, number)
    for one, other in zip(alone, in_turns, strict=True):
        for leaf, value in zip(tree_leaves(one.state), tree_leaves(other.state), strict=True):
            assert torch.equal(leaf, value)


@pytest.mark.soak
@pytest.mark.parametrize("algorithm", ["td3", "sql"])
def test_cohort_of_another_algorithm_compiled_equals_eager(algorithm):
    assert_compiled_is_eager([tiny(algorithm), tiny(algorithm, critic_lr=3e-3)], (D, A), updates=10)


@pytest.mark.soak
def test_compiled_training_equals_eager_and_one_program_serves_every_capacity(tmp_path, monkeypatch):
    """From environments to targets, while the ring wraps and the side ring grows (an episode is cut every 10 steps)."""
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))

    def trained(compiled, steps, capacity):
        config = tiny(learning_starts=20, eval_every=20, replay_capacity=capacity, n_step=2)
        made = Trainer([RunSpec("sac", config, "Pendulum-v1", seed) for seed in (0, 1)], steps, compiled=compiled)
        made._pool_rows = 10
        while made.steps < steps:
            made.train()
        made.close()
        return made

    compiled, eager = (trained(flag, steps=400, capacity=200) for flag in (True, False))
    assert compiled.replay.final.shape[1] > 16
    ours, expected = (made.replay.slice(200, 400)["reward"] for made in (compiled, eager))
    torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)
    for leaf, value in zip(tree_leaves(compiled.cohort.state), tree_leaves(eager.cohort.state), strict=True):
        torch.testing.assert_close(leaf, value, rtol=1e-3, atol=1e-3)
    before = counters["stats"]["unique_graphs"]
    trained(True, steps=60, capacity=40)
    assert before > 0
    assert counters["stats"]["unique_graphs"] == before


SIZES = {"layers", "batch_size", "num_envs", "replay_capacity", "learning_starts", "utd", "pool_episodes"} | {
    "random_steps",
    "min_replay",
    "eval_every",
    "eval_episodes",
}
"""Structure that changes no operation of an update."""


def shipped() -> dict[str, RunSpec]:
    """Runs of experiments/ that together have every structural option value of its replay algorithms, by name.

    PPO is in test_rollout.py.
    """
    runs: dict[str, RunSpec] = {}
    for file in EXPERIMENTS:
        loaded = load(file, seeds=1)
        for variant, spec in (loaded.selection() or loaded).runs():
            if isinstance(spec.config, ReplayConfig):
                runs.setdefault(f"{file.stem}-{variant.name}-{spec.env}", spec)
    parts = {
        name: {(spec.algorithm, key, str(value)) for key, value in spec.config.structure().items() if key not in SIZES}
        for name, spec in runs.items()
    }
    missing, chosen = set().union(*parts.values()), {}
    while missing:
        best = max(parts, key=lambda name: len(parts[name] & missing))
        chosen[best] = runs[best]
        missing -= parts[best]
    return chosen


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_cohort_compiled_equals_eager_for_every_shipped_option():
    for name, spec in shipped().items():
        print(name)
        env = describe(spec.env)
        torch.compiler.reset()
        assert_compiled_is_eager([spec.config] * 2, (env.observation_dim, env.action_dim), updates=3)
