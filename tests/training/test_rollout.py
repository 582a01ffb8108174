"""From rollouts to minibatches, in cohorts and in training."""

from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.envs.pool import Step
from sac_bench.options.on_policy import OnPolicyConfig
from sac_bench.options.ppo import PPOConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.cohort import Cohort
from sac_bench.training.replay import Replay
from sac_bench.training.rollout import minibatch, whole
from sac_bench.training.trainer import Trainer

D, A, N = 3, 2, 4
TINY = {
    "layers": [8],
    "rollout": 64,
    "batch_size": 16,
    "epochs": 2,
    "num_envs": N,
    "eval_every": 64,
    "eval_episodes": 1,
}
UPDATES = 8  # of a rollout


def config(**overrides) -> PPOConfig:
    return PPOConfig.model_validate(TINY | overrides)


def config_of(algorithm: str, **overrides) -> OnPolicyConfig:
    """A config of another algorithm; A2C's rollouts are as long, too."""
    sizes = {"rollout_steps": 16} if algorithm == "a2c" else {}
    own = ALGORITHMS[algorithm].config
    settings = {name: value for name, value in TINY.items() if name in own.model_fields} | sizes | overrides
    return own.model_validate(settings)


def cohort(configs, seeds, compiled=False) -> Cohort:
    made = ALGORITHMS[configs[0].algorithm].learner(configs[0], D, A)
    gather = partial(minibatch, size=configs[0].batch_size)
    return Cohort(
        made, [c.hyperparameters() for c in configs], seeds, gather, N, dtype_of(configs[0]), compiled=compiled
    )


def filled(seeds, rows, capacity=64) -> Replay:
    """Rows of made-up transitions, each member's a function of its seed."""
    memory = Replay(len(seeds), N, D, A, capacity)
    generators = [np.random.default_rng(seed) for seed in seeds]

    def draw(*shape):
        return np.concatenate([g.normal(size=(N, *shape)) for g in generators]).astype(np.float32)

    memory.start(draw(D))
    for _ in range(rows):
        final, terminated = draw(D), draw() > 1.3
        truncated = ~terminated & (draw() > 1.3)
        after = np.where((terminated | truncated)[:, None], draw(D), final)
        memory.add(draw(A), Step(after, final, draw(), terminated, truncated))
    return memory


def train(trained: Cohort, rollouts: int) -> Cohort:
    """Updates on that many made-up rollouts."""
    updates = trained.learner.epochs * 64 // trained.learner.batch_size
    for rollout in range(rollouts):
        memory = filled([100 * s + rollout for s in trained.seeds.tolist()], 16).memory()
        data = trained.prepare(memory, rollout * updates)
        for update in range(updates):
            trained.update(data, rollout * updates + update)
    return trained


def test_a_rollout_has_the_newest_transitions_in_order_after_the_ring_wraps():
    seeds, rows = [1, 2], 30
    memory, everything = filled(seeds, rows, capacity=80), filled(seeds, rows, capacity=400)
    found, kept = whole(memory.memory(), 64), everything.slice(rows - 16, rows)
    for name in ("observation", "action"):
        assert torch.equal(found[name], kept[name].flatten(1, 2)), name
    for name in ("reward", "terminated", "truncated"):
        assert torch.equal(found[name].flatten(1), kept[name].flatten(1).float()), name
    following = torch.cat([kept["observation"][:, 1:], everything.newest[:, None]], dim=1).flatten(1, 2)
    truncated = kept["truncated"].flatten(1)
    assert truncated.any()
    assert torch.equal(found["next_observation"][~truncated], following[~truncated])
    assert torch.equal(found["next_observation"][truncated], kept["final"])


def test_minibatches_use_every_sample_once_per_epoch():
    made, ids = cohort([config()] * 3, [0, 1, 1]), torch.arange(64).expand(3, 64)
    orders = []
    for rollout in range(2):
        data = made.prepare(filled([0, 1, 1], 16).memory(), rollout * UPDATES)
        orders.append(data["order"].clone())
        taken = []
        for update in range(rollout * UPDATES, (rollout + 1) * UPDATES):
            moment = SimpleNamespace(step=torch.tensor(update))
            batch = minibatch(moment, {"samples": {"id": ids}, "order": data["order"]}, 16)["id"]
            assert batch.shape == (3, 16)
            taken.append(batch)
        epochs = torch.cat(taken, dim=1).unflatten(1, (2, 64))
        assert torch.equal(epochs.sort(dim=-1).values, torch.arange(64).expand(3, 2, 64))
        assert not torch.equal(epochs[:, 0], epochs[:, 1])
        assert not torch.equal(epochs[0], epochs[1])
        assert torch.equal(epochs[1], epochs[2])  # only the seed matters
    assert not torch.equal(*orders)


# Another value than the default of every number that may differ inside a cohort.
SHARED = {
    "bootstrap_truncated": False,
    "learning_rate": 1e-2,
    "gamma": 0.5,
    "gae_lambda": 0.3,
}
OF_BOTH_LOSSES = {"anneal_steps": 100, "value_coefficient": 0.1, "entropy_coefficient": 0.1, "max_grad_norm": 0.0}
CHANGED: dict[str, dict[str, object]] = {
    "ppo": SHARED
    | OF_BOTH_LOSSES
    | {
        "clip": 0.01,
        "clip_value": 0.01,
        "target_kl": 1e-7,
        "normalize_advantage": False,
        "normalize_observations": False,
        "normalize_rewards": False,
    },
    "a2c": SHARED
    | OF_BOTH_LOSSES
    | {
        "rmsprop_decay": 0.5,
        "rmsprop_epsilon": 0.1,
        "normalize_advantage": True,
        "normalize_observations": True,
        "normalize_rewards": True,
    },
    "trpo": SHARED
    | {
        "max_kl": 0.3,
        "cg_damping": 1.0,
        "line_search_factor": 0.5,
        "normalize_advantage": False,
        "normalize_observations": True,
        "normalize_rewards": True,
    },
}
# TRPO's line search shortens its steps if the damping is low and delta large.
BASE = {"ppo": {}, "a2c": {}, "trpo": {"cg_damping": 1e-3, "max_kl": 1.0, "cg_steps": 6}}


@pytest.mark.thorough
@pytest.mark.parametrize("algorithm", CHANGED)
def test_cohort_member_with_any_changed_number_equals_its_single_run(algorithm):
    changed = CHANGED[algorithm]
    assert set(changed) == set(ALGORITHMS[algorithm].config.per_member_fields())
    shared = {"precision": "float64", "learning_rate": 3e-3} | BASE[algorithm]
    configs = [config_of(algorithm, **(shared | more)) for more in ({}, *({k: v} for k, v in changed.items()))]
    together = train(cohort(configs, [3] * len(configs)), 2)
    for m, one in enumerate(configs):
        alone = train(cohort([one], [3]), 2)
        for ours, single in zip(tree_leaves(together.state), tree_leaves(alone.state), strict=True):
            torch.testing.assert_close(ours[m], single[0], rtol=0, atol=1e-9)
        torch.testing.assert_close(together.record[0][m], alone.record[0][0], rtol=1e-9, atol=1e-9)
        # Each number does something.
        actor, critic = (
            together.state["params"]["actor"]["mean"][0].weight,
            together.state["params"]["critic"][0].weight,
        )
        assert not m or not (torch.equal(actor[m], actor[0]) and torch.equal(critic[m], critic[0]))
    if algorithm == "ppo":
        stopped = together.pop_metrics()[0]["stopped"]
        assert 0 < stopped[1 + list(changed).index("target_kl")] < 1
        assert int((stopped > 0).sum()) == 1
    assert together.finite().all()


def test_cohort_member_that_stops_early_does_not_affect_the_others():
    shared = {"learning_rate": 3e-3}
    stops = train(cohort([config(**shared, target_kl=1e-7), config(**shared)], [0, 1]), 2)
    goes_on = train(cohort([config(**shared), config(**shared)], [0, 1]), 2)
    for ours, expected in zip(tree_leaves(stops.state), tree_leaves(goes_on.state), strict=True):
        assert torch.equal(ours[1], expected[1])
    assert not torch.equal(*(made.state["params"]["critic"][0].weight[0] for made in (stops, goes_on)))


DIFFERENT = {
    "ppo": {"target_kl": 1e-7, "clip_value": 0.1, "max_grad_norm": 0.0, "learning_rate": 1e-3},
    "a2c": {"entropy_coefficient": 0.1, "max_grad_norm": 0.0, "learning_rate": 1e-3},
    "trpo": {"max_kl": 0.1, "normalize_advantage": False, "learning_rate": 3e-3},
}


@pytest.mark.soak
@pytest.mark.parametrize("algorithm", DIFFERENT)
def test_cohort_compiled_equals_eager(algorithm):
    torch.compiler.reset()
    configs = [config_of(algorithm), config_of(algorithm, **DIFFERENT[algorithm])]
    compiled, eager = (train(cohort(configs, [0, 1], flag), 2) for flag in (True, False))
    for ours, expected in zip(tree_leaves(compiled.state), tree_leaves(eager.state), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(compiled.record[0], eager.record[0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("num_envs", [1, 4])
def test_updates_are_made_when_a_rollout_is_complete(num_envs):
    spec = RunSpec("ppo", config(num_envs=num_envs, eval_every=80), "InvertedPendulum-v5", 0)
    trained, updates = Trainer([spec], 160, compiled=False), []
    while trained.steps < 160:
        trained.train()
        updates.append((trained.steps, trained.progress.updates))
    assert updates == [(0, 0), (80, UPDATES), (160, 2 * UPDATES)]
    assert int(trained.cohort.state["updates"][0]) == 2 * UPDATES
    assert float(trained.cohort.state["normalizer"]["observation"]["count"][0]) == 128
    # Actions are stored as sampled: about a third of a standard normal's are out of bounds.
    actions = trained.replay.slice(160 // num_envs - trained.replay.filled, 160 // num_envs)["action"]
    assert 0.2 < float((actions.abs() > 1).float().mean()) < 0.45
    trained.close()


NORMALIZED = {"normalize_observations": True, "normalize_rewards": True}
LEARNS = {
    "ppo": {"batch_size": 256, "learning_rate": 3e-3, "epochs": 5, "rollout": 2048},
    "a2c": NORMALIZED | {"num_envs": 4, "rollout_steps": 8, "gae_lambda": 0.9, "learning_rate": 2e-3},
    "trpo": NORMALIZED | {"num_envs": 2, "rollout": 1024, "max_kl": 0.03},
}


@pytest.mark.thorough
@pytest.mark.parametrize("algorithm", LEARNS)
def test_learns_to_balance_a_pole(algorithm):
    steps = {"num_envs": 8, "eval_every": 24576, "eval_episodes": 2}
    made = ALGORITHMS[algorithm].config.model_validate(steps | LEARNS[algorithm])
    trained = Trainer([RunSpec(algorithm, made, "InvertedPendulum-v5", 0)], 24576, compiled=False)
    before = trained.train().episodes.returns[0, 0].mean()
    after = trained.train().episodes.returns[0].mean(axis=-1)
    trained.close()
    assert before < 100
    assert after[0] > 500
