"""The loop: what is counted, and that a restored trainer continues to the same bytes."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.errors import InputError
from sac_bench.options.metric import names
from sac_bench.spec.run import RunSpec
from sac_bench.training import replay
from sac_bench.training.metrics import Q_BIAS_METRICS
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny


def trainer(specs, steps, **kwargs):
    return Trainer(specs, steps, compiled=False, **kwargs)


def run_to(trained, steps):
    segments = []
    while not segments or trained.steps < steps:
        segments.append(trained.train())
    return segments


def specs(env="Hopper-v5", seeds=(0, 1), algorithm="sac", **overrides):
    return [RunSpec(algorithm, tiny(algorithm, **overrides), env, seed) for seed in seeds]


@pytest.mark.thorough
@pytest.mark.parametrize(("num_envs", "utd"), [(1, 1.0), (4, 1.0), (4, 0.5), (2, 3.0)])
def test_updates_per_transition_do_not_change_with_the_number_of_environments(num_envs, utd):
    trained = trainer(specs(num_envs=num_envs, utd=utd, learning_starts=320), 400)
    run_to(trained, 400)
    assert trained.steps == 400
    assert trained.progress.updates == 80 * utd
    assert int(trained.cohort.state["updates"][0]) == 80 * utd
    trained.close()


@pytest.mark.thorough
@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize(("algorithm", "option"), [("td3", "policy_delay"), ("sac", "actor_delay")])
def test_the_policy_moves_only_at_every_nth_update(algorithm, option, delay):
    trained = trainer(specs(algorithm=algorithm, learning_starts=200, **{option: delay}), 240)
    run_to(trained, 240)
    trained.close()
    steps = {
        name: np.log(state["beta1_power"].numpy()) / np.log(0.9) for name, state in trained.cohort.state["adam"].items()
    }
    np.testing.assert_allclose(steps["critic"], 40, rtol=1e-4)
    for name in steps.keys() - {"critic"}:
        np.testing.assert_allclose(steps[name], 40 // delay, rtol=1e-4)


@pytest.mark.thorough
def test_every_update_samples_its_own_transitions(monkeypatch):
    samples, taken = [], replay.transitions
    monkeypatch.setattr(
        replay,
        "transitions",
        lambda memory, indices, n: samples.append((indices, trained.steps)) or taken(memory, indices, n),
    )
    trained = trainer(specs(num_envs=2, utd=2.0, learning_starts=200), 400)
    trained.cohort.learner = replace(trained.cohort.learner, diagnosis=None)
    run_to(trained, 400)
    trained.close()
    assert len(samples) == 400
    assert len({tuple(row.tolist()) for indices, _ in samples for row in indices}) == 2 * 400  # members, too
    for indices, steps in samples:
        assert ((indices >= 0) & (indices < steps)).all()
    # The newest transition can be drawn as soon as it is there.
    assert any((indices == steps - 1).any() for indices, steps in samples)


@pytest.mark.thorough
def test_segments_end_at_evaluations_and_at_the_last_step():
    trained = trainer(specs(), 500)
    assert [segment.steps for segment in run_to(trained, 500)] == [0, 200, 400, 500]
    trained.close()


@pytest.mark.thorough
def test_a_run_does_not_depend_on_the_other_runs_of_its_cohort():
    overrides = {"learning_starts": 160, "layers": [64, 64], "batch_size": 64}
    one, other = trainer(specs(seeds=(0, 5), **overrides), 200), trainer(specs(seeds=(5, 7, 9), **overrides), 200)
    run_to(one, 200)
    run_to(other, 200)
    for name, rows in one.replay.slice(0, 200).items():
        if name != "final":
            assert torch.equal(rows[1], other.replay.slice(0, 200)[name][0]), name
    for ours, theirs in zip(tree_leaves(one.cohort.state), tree_leaves(other.cohort.state), strict=True):
        assert torch.equal(ours[1], theirs[0])
    one.close()
    other.close()


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("env", "algorithm", "overrides"),
    [
        (
            "Hopper-v5",
            "sac",
            {"num_envs": 2, "n_step": 3, "replay_capacity": 300, "normalize_observations": True, "utd": 0.2},
        ),
        ("Pendulum-v1", "ppo", {"layers": [8], "rollout": 100, "batch_size": 20, "epochs": 2, "pool_episodes": 1}),
        ("Hopper-v5", "td3", {"noise_correlation": 0.5, "utd": 0.2}),
    ],
    ids=["sac", "ppo", "td3"],
)
def test_a_run_trained_beside_its_copy_equals_the_run_trained_alone(env, algorithm, overrides, monkeypatch):
    """Compiled for a CPU, a lone run trains with a copy. Eagerly, as here, both ways are possible and equal."""

    def left(width, stops):
        monkeypatch.setattr("sac_bench.training.trainer.training_width", lambda members, device, compiled: width)
        lone = specs(env, seeds=(3,), algorithm=algorithm, eval_every=200, **overrides)
        found, trained, chunks = [], trainer(lone, 600), []
        for _ in range(4):
            segment = trained.train()
            tensors, rows, progress = trained.checkpoint()
            found += [segment.episodes.returns, segment.episodes.lengths, *segment.metrics.values()]
            found += [*tensors.values(), *rows.values()]
            if rows:
                chunks.append((progress["vector_steps"] - rows["reward"].shape[1], lambda rows=rows: rows))
            assert (len(segment.training_returns), progress["stopped"]) == (1, [False])
            if stops:
                trained.close()
                trained = trainer(lone, 600)
                trained.restore(tensors, chunks, progress)
        trained.close()
        return found

    alone = left(1, stops=False)
    for beside in (left(2, stops=False), left(2, stops=True)):
        for ours, theirs in zip(alone, beside, strict=True):
            np.testing.assert_array_equal(ours, theirs)


PPO = {"layers": [8], "rollout": 160, "batch_size": 32, "epochs": 2, "eval_every": 200, "eval_episodes": 2}
A2C = {
    "algorithm": "a2c",
    "layers": [8],
    "num_envs": 4,
    "normalize_rewards": True,
    "eval_every": 200,
    "eval_episodes": 2,
}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("env", "overrides"),
    [
        ("InvertedPendulum-v5", PPO),  # rollouts end at 160, 320, 480; saved at 200 and 400
        ("InvertedPendulum-v5", PPO | {"num_envs": 4, "anneal_steps": 500}),
        ("Pendulum-v1", PPO | {"pool_episodes": 1, "eval_every": 150, "rollout": 320}),
        ("InvertedPendulum-v5", A2C),
        ("InvertedPendulum-v5", PPO | {"algorithm": "trpo", "cg_steps": 3, "normalize_observations": True}),
        pytest.param("Hopper-v5", {}, marks=pytest.mark.soak),
        ("Hopper-v5", {"num_envs": 4, "n_step": 3, "replay_capacity": 200, "value_network": True, "utd": 1.0}),
        pytest.param("gymnasium:Hopper-v5", {"num_envs": 2}, marks=pytest.mark.soak),
        # Each pool has one full episode of 200 steps, so it is recreated at vector steps 200 and 400.
        pytest.param("Pendulum-v1", {"pool_episodes": 1, "eval_every": 150}, marks=pytest.mark.soak),
        # Draws random numbers while it steps.
        pytest.param("LunarLanderContinuous-v3", {}, marks=pytest.mark.soak),
        ("Hopper-v5", {"mixture": 2, "normalize_observations": True, "target_policy": True, "layer_norm": "all"}),
        pytest.param(
            "Hopper-v5",
            {"dropout": True, "critics": 3, "target_critics": 2, "actor_delay": 3, "state_dependent_std": False},
            marks=pytest.mark.soak,
        ),
        ("Hopper-v5", {"algorithm": "td3", "noise_correlation": 0.85, "num_envs": 2, "policy_delay": 3}),
        ("Pendulum-v1", {"algorithm": "sql", "target_period": 7, "kernel_particles": 4, "value_particles": 4}),
    ],
)
def test_a_resumed_run_is_bit_identical_to_an_uninterrupted_one(env, overrides):
    if "rollout" in overrides or overrides is A2C:
        name = overrides.get("algorithm", "ppo")
        config = ALGORITHMS[name].config.model_validate({k: v for k, v in overrides.items() if k != "algorithm"})
        runs = [RunSpec(name, config, env, seed) for seed in (0, 1)]
    else:
        runs = specs(env, **{"utd": 0.2} | overrides)
    straight = trainer(runs, 600)
    expected = run_to(straight, 600)
    straight.close()

    interrupted, chunks, segments, at = trainer(runs, 600), [], [], 0
    while at < 600:
        segments.append(interrupted.train())
        tensors, rows, progress = interrupted.checkpoint()
        if rows:
            written = interrupted.replay.written
            chunks.append((written - rows["reward"].shape[1], lambda rows=rows: rows))
            needed = interrupted.rows_needed_from()
            chunks = [(s, c) for s, c in chunks if s + c()["reward"].shape[1] > needed]
        at = interrupted.steps
        interrupted.close()
        interrupted = trainer(runs, 600)
        interrupted.restore(tensors, chunks, progress)
    assert [s.steps for s in segments] == [s.steps for s in expected]
    for ours, theirs in zip(segments, expected, strict=True):
        np.testing.assert_array_equal(ours.episodes.returns, theirs.episodes.returns)
        np.testing.assert_array_equal(ours.episodes.lengths, theirs.episodes.lengths)
        assert ours.training_returns == theirs.training_returns
        for name, values in theirs.metrics.items():  # NaN before the first update
            np.testing.assert_array_equal(ours.metrics[name].numpy(), values.numpy())
    for ours, theirs in zip(tree_leaves(interrupted.cohort.state), tree_leaves(straight.cohort.state), strict=True):
        assert torch.equal(ours, theirs)
    interrupted.close()


@pytest.mark.thorough
def test_more_steps_continue_a_run_as_if_requested_at_first():
    straight = trainer(specs(utd=0.2), 800)
    run_to(straight, 800)
    first = trainer(specs(utd=0.2), 400)
    run_to(first, 400)
    tensors, rows, progress = first.checkpoint()
    longer = trainer(specs(utd=0.2), 800)
    longer.restore(tensors, [(0, lambda: rows)], progress)
    run_to(longer, 800)
    for ours, theirs in zip(tree_leaves(longer.cohort.state), tree_leaves(straight.cohort.state), strict=True):
        assert torch.equal(ours, theirs)
    for used in (straight, first, longer):
        used.close()


@pytest.mark.thorough
def test_recreating_a_pool_truncates_episodes_and_targets_bootstrap():
    trained = trainer(specs("Pendulum-v1", seeds=(0,), eval_every=460), 460)
    trained.train()
    trained._pool_rows = 250  # in the middle of an episode: Pendulum's own limit is 200
    segment = trained.train()
    rows = trained.replay.slice(0, 460)
    assert rows["truncated"][0].flatten().nonzero().flatten().tolist() == [199, 249, 449]
    assert not rows["terminated"].any()
    # The cut bootstraps from where its action led, a small step away, not from the new pool's start.
    before, final, after = rows["observation"][0, 249, 0], rows["final"][1], rows["observation"][0, 250, 0]
    assert (final[:2] - before[:2]).abs().max() < 0.6
    assert not torch.equal(final, after)
    # An episode that was cut counts nowhere; the one after it counts from its own start.
    rewards = rows["reward"][0].flatten().double()
    expected = [float(rewards[:200].sum()), float(rewards[250:450].sum())]
    np.testing.assert_allclose(segment.training_returns[0], expected, rtol=1e-6)
    trained.close()


@pytest.mark.parametrize("num_envs", [pytest.param(1, marks=pytest.mark.thorough), 4])
def test_every_observation_has_equal_weight_in_the_statistics(num_envs):
    trained = trainer(
        specs(
            "Pendulum-v1",
            num_envs=num_envs,
            normalize_observations=True,
            utd=4.0,
            learning_starts=392,
            eval_every=400,
        ),
        400,
    )
    run_to(trained, 400)
    trained.close()
    seen, kept = trained.replay.slice(0, 400 // num_envs)["observation"].double(), trained.cohort.state["normalizer"]
    assert kept["count"].tolist() == [400, 400]
    for m in range(2):
        rows = seen[m].flatten(0, 1).numpy()
        np.testing.assert_allclose(kept["mean"][m], rows.mean(0), rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(kept["var"][m], rows.var(0), rtol=1e-4)


@pytest.mark.thorough
def test_statistics_of_observations_continue_at_a_warm_start():
    options = {
        "normalize_observations": True,
        "learning_starts": 0,
        "random_steps": 0,
        "min_replay": 300,
        "eval_episodes": 1,
    }
    parent, child = (trainer(specs("Pendulum-v1", seeds=(seed,), **options), 200) for seed in (0, 1))
    run_to(parent, 200)
    child.start(0, parent.cohort.weights(0), None, math.inf)
    run_to(child, 200)
    rows = torch.cat([made.replay.slice(0, 200)["observation"].flatten(0, 2) for made in (parent, child)]).double()
    kept = child.cohort.state["normalizer"]
    assert float(kept["count"]) == 400
    np.testing.assert_allclose(kept["mean"][0], rows.mean(0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(kept["var"][0], rows.var(0, correction=0), rtol=1e-4)
    parent.close()
    child.close()


def test_restoring_checks_that_the_environment_repeats_its_observations():
    first = trainer(specs(utd=0.1), 400)
    run_to(first, 200)
    tensors, rows, progress = first.checkpoint()
    rows["action"][0, 3] *= -1
    again = trainer(specs(utd=0.1), 400)
    with pytest.raises(InputError, match="did not replay"):
        again.restore(tensors, [(0, lambda: rows)], progress)
    first.close()


@pytest.mark.thorough
def test_a_member_diverges_at_the_step_of_its_first_nonfinite_metrics():
    trained = trainer(specs("Pendulum-v1", num_envs=2, utd=0.5, eval_every=200), 400)
    trained.train()
    assert trained.train().stops == {}
    update, done = trained.cohort.update, trained.progress.updates

    def poisoned(data, number, rows):
        if trained.progress.updates == done + 7:
            trained.cohort.state["params"]["critic"][0].weight[1] = float("inf")
        update(data, number, rows)

    trained.cohort.update = poisoned
    segment = trained.train()
    ((member, stop),) = segment.stops.items()
    assert (member, stop.status, stop.step) == (1, "diverged", trained.config.steps_of_update(done + 8))
    assert stop.reason.startswith(f"NaN or infinity at step {stop.step}: critic_loss, actor_loss, q")
    assert segment.metrics["critic_loss"].isfinite().all()
    assert segment.metrics["gradient_variance_likelihood_ratio"].isfinite().tolist() == [True, False]
    trained.close()


@pytest.mark.thorough
def test_parameters_that_become_nonfinite_after_the_last_metrics_are_named():
    trained = trainer(specs(learning_starts=200), 400)
    run_to(trained, 200)
    update = trained.cohort.update

    def poisoned(data, number, rows):
        update(data, number, rows)
        if trained.steps == 400:
            trained.cohort.state["params"]["actor"][1].bias[1] = float("nan")

    trained.cohort.update = poisoned
    segment = trained.train()
    trained.close()
    assert {m: stop.reason for m, stop in segment.stops.items()} == {
        1: "NaN or infinity at step 400: parameter actor/1/bias"
    }


MEASURED = (*names(Q_BIAS_METRICS), "gradient_variance_reparameterised", "gradient_variance_likelihood_ratio")


@pytest.mark.thorough
def test_measurements_do_not_change_training():
    watched, alone = (trainer(specs(gamma=0.9, utd=0.2), 400) for _ in range(2))
    alone.cohort.learner = replace(alone.cohort.learner, value=None, diagnosis=None)
    expected, found = run_to(alone, 400), run_to(watched, 400)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(ours.episodes.returns, theirs.episodes.returns)
        assert {*ours.metrics} == {*theirs.metrics, *MEASURED, "gradient_squared_norm"}
        for name, values in theirs.metrics.items():
            np.testing.assert_array_equal(ours.metrics[name], values)
    for ours, theirs in zip(tree_leaves(watched.cohort.state), tree_leaves(alone.cohort.state), strict=True):
        assert torch.equal(ours, theirs)
    # The replay is empty at first. Later, evaluations and members have separate draws.
    assert found[0].metrics["gradient_variance_likelihood_ratio"].isnan().all()
    assert len({float(x) for s in found[1:] for name in MEASURED for x in s.metrics[name]}) == 2 * 2 * len(MEASURED)
    watched.close()
    alone.close()
