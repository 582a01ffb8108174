"""SAC's pieces by answers a reader can check by hand; whole updates are checked in test_parity_*.py."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import critics, heads, sac
from sac_bench.options.sac import SACConfig
from tests.algorithms.problem import A, B, D, Problem, vector


def test_pooling_ranges_from_mean_to_minimum():
    q = torch.tensor([[1.0, 5.0], [3.0, 1.0]])
    assert heads.pooled(q, torch.tensor(1.0)).tolist() == [1.0, 1.0]
    assert heads.pooled(q, torch.tensor(0.0)).tolist() == [2.0, 3.0]
    assert heads.pooled(q, torch.tensor(0.5)).tolist() == [1.5, 2.0]


def test_n_step_target_discounts_by_the_windows_length():
    batch = {
        "reward": torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 0.0], [1.0, 0.0, 0.0]]),
        "length": torch.tensor([3.0, 2.0, 1.0]),
        "terminated": torch.tensor([0.0, 0.0, 1.0]),
        "truncated": torch.tensor([0.0, 1.0, 0.0]),
    }
    hyper = {"gamma": torch.tensor(0.5), "reward_scale": torch.tensor(10.0), "bootstrap_truncated": torch.tensor(1.0)}
    target = critics.bellman_target(batch, torch.tensor([8.0, 8.0, 8.0]), hyper)
    assert target.tolist() == [10 * (1 + 1 + 1) + 1, 10 * (1 + 1) + 2, 10]
    hyper["bootstrap_truncated"] = torch.tensor(0.0)
    target = critics.bellman_target(batch, torch.tensor([8.0, 8.0, 8.0]), hyper)
    assert target.tolist() == [10 * (1 + 1 + 1) + 1, 10 * (1 + 1), 10]


def updated(problem):
    return problem.learner.update(problem.state, problem.hyper, problem.batch(), problem.noise())


def test_outputs_of_one_learner_have_their_shapes():
    problem = Problem(critics=3, value_network=True)
    batch, noise = problem.batch(), problem.noise()
    action, log_pi, mean, *_ = sac.policy(
        problem.nets, problem.state["params"]["actor"], batch["observation"], noise["policy"], problem.hyper
    )
    assert (action.shape, log_pi.shape, mean.shape) == ((B, A), (B,), (B, A))
    assert critics.q_values(problem.nets, problem.state["params"]["critic"], batch["observation"], action).shape == (
        3,
        B,
    )
    assert sac.v_values(problem.nets, problem.state["params"]["value"], batch["observation"]).shape == (B,)
    zeros = torch.zeros(4, D, dtype=torch.float64), torch.zeros(4, A, dtype=torch.float64)
    sampled, mean = problem.learner.act(problem.state["params"], problem.hyper, *zeros)
    assert torch.equal(sampled, mean)
    _, metrics = updated(problem)
    assert set(metrics) == set(problem.learner.metrics)
    assert all(metric.shape == () for metric in metrics.values())


def test_a_fixed_temperature_does_not_change_and_may_be_zero():
    problem = Problem(learn_temperature=False, temperature=0.0)
    new, metrics = updated(problem)
    assert float(metrics["temperature"]) == 0.0
    assert float(new["params"]["temperature"]) == float(problem.state["params"]["temperature"])
    assert all(p.isfinite().all() for p in tree_leaves(new["params"]))


def test_target_entropies_in_nats_and_per_dimension_agree():
    assert A == 2
    by_nats, by_scale = Problem(target_entropy=-3.0), Problem(target_entropy_scale=1.5)
    for problem in (by_nats, by_scale):
        problem.state, _ = updated(problem)
    ours, theirs = (problem.state["params"]["temperature"] for problem in (by_nats, by_scale))
    torch.testing.assert_close(ours, theirs, rtol=1e-15, atol=0)
    zero = SACConfig(target_entropy=0.0).hyperparameters()
    assert (zero["target_entropy"], zero["target_entropy_scale"]) == (0.0, 0.0)
    unset = SACConfig(target_entropy_scale=0.5).hyperparameters()
    assert (unset["target_entropy"], unset["target_entropy_scale"]) == (0.0, 0.5)


@pytest.mark.parametrize("learned", [True, False])
def test_a_scaled_temperature_keeps_the_ratio_of_entropy_to_reward_at_the_start(learned):
    def q_target(scale):
        problem = Problem(scale_temperature=True, reward_scale=scale, temperature=0.3, learn_temperature=learned)
        critic = problem.state["target"]
        last = critic[-1]._replace(weight=scale * critic[-1].weight, bias=scale * critic[-1].bias)
        problem.state["target"] = (*critic[:-1], last)  # the Q of scaled rewards
        return updated(problem)[1]

    metrics = q_target(5.0)
    assert float(metrics["temperature"]) == pytest.approx(1.5)
    assert float(metrics["q_target"]) == pytest.approx(5 * float(q_target(1.0)["q_target"]))
    assert SACConfig(reward_scale=5.0).initial_temperature == (1.0, True)


def test_the_policy_and_targets_may_be_delayed_without_the_temperature_as_in_td3():
    problem = Problem(actor_delay=2, target_period=2, temperature_delay=1)
    for number in range(6):
        before = problem.state["params"], problem.state["target"]
        problem.state, metrics = problem.update(number, problem.batch(), problem.noise())
        params, target = problem.state["params"], problem.state["target"]
        moved = not torch.equal(vector(params["actor"]), vector(before[0]["actor"]))
        assert moved == (not torch.equal(vector(target), vector(before[1]))) == (number % 2 == 1)
        assert params["temperature"] != before[0]["temperature"]
        assert (metrics["actor_loss"] != 0) == (number > 0)
        assert metrics["entropy"] != 0


def test_the_temperature_may_be_delayed_without_the_policy():
    problem = Problem(actor_delay=2, temperature_delay=3)
    moved = {"actor": [], "temperature": []}
    for number in range(12):
        before = problem.state["params"]
        problem.state, _ = problem.update(number, problem.batch(), problem.noise())
        for name, numbers in moved.items():
            if not torch.equal(vector(problem.state["params"][name]), vector(before[name])):
                numbers.append(number + 1)
    assert moved == {"actor": [2, 4, 6, 8, 10, 12], "temperature": [3, 6, 9, 12]}


def test_the_temperature_is_delayed_with_the_policy_unless_it_has_a_delay_of_its_own():
    assert SACConfig(actor_delay=4).delays == {"actor": 4, "temperature": 4}
    assert SACConfig(actor_delay=4, temperature_delay=1).delays == {"actor": 4, "temperature": 1}


@pytest.mark.parametrize("value_network", [False, True])
def test_targets_are_copied_at_every_period(value_network):
    problem = Problem(tau=1.0, target_period=3, value_network=value_network)
    online, first = "value" if value_network else "critic", vector(problem.state["target"])
    for update in range(1, 7):
        problem.state, _ = updated(problem)
        if update % 3:
            assert not torch.equal(vector(problem.state["target"]), vector(problem.state["params"][online]))
            assert update > 3 or torch.equal(vector(problem.state["target"]), first)
        else:
            assert torch.equal(vector(problem.state["target"]), vector(problem.state["params"][online]))


@pytest.mark.parametrize("critics", [1, 2, 5])
def test_critics_start_differently_and_the_first_does_not_depend_on_their_number(critics):
    problem = Problem(critics=critics)
    found = problem.critics(problem.state["params"]["critic"])
    assert len(found) == critics
    assert torch.equal(found[0], Problem().critics(Problem().state["params"]["critic"])[0])
    assert len({tuple(q.tolist()) for q in found}) == critics


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"stochastic_updates": False, "gradient_estimator": "score-function"}, "require stochastic_updates = true"),
        ({"stochastic_updates": False, "mixture": 2}, "require stochastic_updates = true"),
        ({"mixture": 2, "state_dependent_std": False}, "mixture = 2 requires state_dependent_std = true"),
        ({"critics": 3, "target_critics": 4}, "target_critics = 4 is above critics = 3"),
        ({"value_network": True, "target_critics": 1}, "require value_network = false"),
        ({"value_network": True, "target_policy": True}, "require value_network = false"),
        ({"target_entropy": -3.0, "target_entropy_scale": 0.5}, "exclude each other; remove one"),
        ({"scale_temperature": True, "reward_scale": 1e-7}, "temperature = 1e-07 is too low an initial value"),
    ],
)
def test_contradictory_options_are_refused(settings, words):
    fixed = {"learn_temperature": False, "temperature": 0.0} if "stochastic_updates" in settings else {}
    with pytest.raises(ValidationError, match=words):
        SACConfig.model_validate(fixed | settings)


def test_updates_and_acting_normalise_by_all_observations_so_far():
    problem, seen = Problem(normalize_observations=True), []
    offset = torch.tensor([100.0, -3.0, 0.0], dtype=torch.float64)
    for _ in range(3):
        batch = problem.batch()
        batch["observation"] = 5 * batch["observation"] + offset
        seen.append(batch["observation"])
        problem.observe(batch["observation"])
        problem.state, _ = problem.learner.update(problem.state, problem.hyper, batch, problem.noise())
    everything = torch.cat(seen)
    kept = problem.state["normalizer"]
    torch.testing.assert_close(kept["mean"], everything.mean(0))
    torch.testing.assert_close(kept["var"], everything.var(0, correction=0))
    policy, noise = problem.learner.policy(problem.state), torch.zeros(B, A, dtype=torch.float64)
    scaled = ((seen[0] - everything.mean(0)) / everything.std(0, correction=0)).clamp(-10, 10)
    _, mean = problem.learner.act(policy, problem.hyper, seen[0], noise)
    _, expected = problem.learner.act({"actor": policy["actor"]}, problem.hyper, scaled, noise)
    torch.testing.assert_close(mean, expected)


def test_updates_are_counted_in_whole_numbers():
    def config(options):
        return SACConfig.model_validate({"min_replay": 1} | options)

    assert config({"utd": 1.0, "learning_starts": 100}).updates_due(105) == 5
    assert config({"utd": 0.25, "learning_starts": 100}).updates_due(107) == 1
    assert config({"utd": 0.1, "learning_starts": 0}).updates_due(31) == 3  # 0.1 * 30 is 3.0000000000000004 or 2.99
    assert config({"utd": 20.0, "learning_starts": 8, "num_envs": 8, "eval_every": 8}).updates_due(16) == 160
    assert config({"learning_starts": 100}).updates_due(50) == 0


def test_updates_wait_until_the_replay_holds_a_batch_or_min_replay():
    def config(**options):
        return SACConfig.model_validate({"eval_every": 24, "replay_capacity": 24_000} | options)

    assert (config(learning_starts=0).updates_due(255), config(learning_starts=0).updates_due(256)) == (0, 1)
    assert config(learning_starts=0, num_envs=24).steps_of_update(1) == 264  # 256 rounded up
    assert config(learning_starts=0, min_replay=1).steps_of_update(1) == 1
    assert config(learning_starts=0, min_replay=1000).steps_of_update(1) == 1000
    assert config(learning_starts=2000, min_replay=1000).steps_of_update(1) == 2001
    words = config(learning_starts=0).describe_start()
    advice = "utd = 1; increase steps or lower min_replay (--set min_replay=N)"
    assert words == f"min_replay = 256 (by default batch_size = 256), {advice}"
    assert config(learning_starts=0, min_replay=300).describe_start() == f"min_replay = 300, {advice}"
    assert config().describe_start().startswith("learning_starts = 10000, utd = 1")
    with pytest.raises(ValidationError, match="replay_capacity = 500 is below min_replay = 501"):
        config(min_replay=501, replay_capacity=500)


def test_only_runs_that_wait_for_a_batch_have_a_new_version_of_min_replay():
    def versions(**options):
        return SACConfig.model_validate(options).option_versions

    assert versions(learning_starts=0) == versions(learning_starts=254) == {"min_replay": 2}
    assert versions() == versions(learning_starts=255) == versions(learning_starts=0, min_replay=1) == {}


def test_likelihood_gradients_and_mixtures_have_a_new_version():
    def versions(**options):
        return SACConfig.model_validate(options).option_versions

    assert versions(gradient_estimator="score-function", mixture=2) == {"gradient_estimator": 2, "mixture": 2}
    assert versions(mixture=2, value_network=True) == {"mixture": 2}

    def rows(**options):
        return SACConfig.model_validate(options).rows

    assert (rows(), rows(mixture=2), rows(mixture=2, score_samples=5)) == (256, 512, 1280)
    assert rows(gradient_estimator="score-function", value_network=True) == 256


def test_random_actions_may_end_before_or_after_updates_begin():
    def config(**options):
        return SACConfig.model_validate({"num_envs": 4} | options)

    assert (config().warmup_steps, config(learning_starts=8).warmup_steps) == (10000, 8)
    assert config(random_steps=0).warmup_steps == 0
    assert config(learning_starts=8, random_steps=400).warmup_steps == 400
    with pytest.raises(ValidationError, match="random_steps = 90 is not a multiple of num_envs = 4; nearest: 88 or 92"):
        config(random_steps=90)


@given(
    utd=st.sampled_from([0.05, 0.1, 0.25, 1.0, 2.5, 20.0]),
    starts=st.integers(0, 50),
    least=st.none() | st.integers(1, 500),
    envs=st.sampled_from([1, 2, 8]),
    number=st.integers(1, 500),
)
def test_the_step_of_an_update_is_the_first_at_which_it_is_due(utd, starts, least, envs, number):
    given = {"utd": utd, "learning_starts": starts * envs, "min_replay": least, "num_envs": envs, "eval_every": 400}
    made = SACConfig.model_validate(given)
    steps = made.steps_of_update(number)
    assert steps % envs == 0
    assert steps >= (least or made.batch_size)
    assert made.updates_due(steps) >= number
    assert made.updates_due(steps - envs) < number
