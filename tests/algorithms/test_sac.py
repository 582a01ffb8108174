"""SAC's update: what each axis changes, in closed form or against plain autograd."""

from functools import partial

import pytest
import torch

from sac_bench.algorithms import sac
from sac_bench.algorithms.sac import SACConfig, learner
from sac_bench.training.random import uniform

D, A, B = 3, 2, 16


def make(**overrides):
    config = SACConfig.model_validate({"layers": [8, 8], "batch_size": B, "precision": "float64"} | overrides)
    made = learner(config, D, A)
    state = made.init(lambda name, shape: uniform(1, name, shape, torch.float64))
    numbers = {name: torch.tensor(value, dtype=torch.float64) for name, value in config.numbers().items()}
    torch.manual_seed(0)
    batch = {
        "observation": torch.randn(B, D, dtype=torch.float64),
        "action": torch.rand(B, A, dtype=torch.float64) * 2 - 1,
        "reward": torch.randn(B, config.n_step, dtype=torch.float64),
        "length": torch.full((B,), float(config.n_step), dtype=torch.float64),
        "terminated": (torch.rand(B) < 0.2).double(),
        "next_observation": torch.randn(B, D, dtype=torch.float64),
    }
    noise = {name: torch.randn(*shape, dtype=torch.float64) for name, shape in made.update_noise.items()}
    nets = made.update.args[0]
    return made, nets, state, numbers, batch, noise


def q_target(nets, state, numbers, batch, noise, alpha):
    """[2] eq. 3 and 5 with the minimum of the target critics, written out."""
    action, log_pi, _ = sac.policy(
        nets, state["params"]["actor"], batch["next_observation"], noise["next_policy"], numbers
    )
    q = sac.q_values(nets, state["target"], batch["next_observation"], action)
    soft = torch.minimum(q[0], q[1]) - alpha * log_pi
    return numbers["reward_scale"] * batch["reward"][:, 0] + 0.99 * (1 - batch["terminated"]) * soft


def test_critics_descend_the_soft_bellman_error():
    made, nets, state, numbers, batch, noise = make(reward_scale=3.0)
    target = q_target(nets, state, numbers, batch, noise, alpha=1.0)
    critic = state["params"]["critic"].clone().requires_grad_()
    q = sac.q_values(nets, critic, batch["observation"], batch["action"])
    loss = 0.5 * ((q[0] - target) ** 2).mean() + 0.5 * ((q[1] - target) ** 2).mean()
    loss.backward()
    optimizer = torch.optim.Adam([critic], lr=3e-4)
    optimizer.step()
    new, metrics = made.update(state, numbers, batch, noise)
    torch.testing.assert_close(metrics["critic_loss"], loss.detach(), rtol=1e-12, atol=0)
    torch.testing.assert_close(new["params"]["critic"], critic.detach(), rtol=0, atol=1e-12)
    torch.testing.assert_close(new["target"], 0.995 * state["target"] + 0.005 * critic.detach(), rtol=0, atol=1e-12)


def test_actor_and_temperature_descend_their_losses_on_the_new_critics():
    made, nets, state, numbers, batch, noise = make()
    new, metrics = made.update(state, numbers, batch, noise)
    actor = state["params"]["actor"].clone().requires_grad_()
    action, log_pi, _ = sac.policy(nets, actor, batch["observation"], noise["policy"], numbers)
    q = sac.q_values(nets, new["params"]["critic"], batch["observation"], action)
    loss = (1.0 * log_pi - torch.minimum(q[0], q[1])).mean()
    loss.backward()
    torch.optim.Adam([actor], lr=3e-4).step()
    torch.testing.assert_close(new["params"]["actor"], actor.detach(), rtol=0, atol=1e-12)
    assert metrics["entropy"] == pytest.approx(-float(log_pi.detach().mean()))
    # Above the target entropy -A the temperature falls, by one Adam step of 3e-4.
    assert float(new["params"]["temperature"]) == pytest.approx(-3e-4 if metrics["entropy"] > -A else 3e-4, rel=1e-3)


def test_v_network_learns_the_soft_value_and_is_the_bootstrap():
    made, nets, state, numbers, batch, noise = make(value_network=True, learn_temperature=False, temperature=0.2)
    assert set(made.update_noise) == {"policy"}
    assert state["target"].shape == state["params"]["value"].shape
    new, metrics = made.update(state, numbers, batch, noise)
    action, log_pi, _ = sac.policy(nets, state["params"]["actor"], batch["observation"], noise["policy"], numbers)
    q = sac.q_values(nets, state["params"]["critic"], batch["observation"], action).amin(0)
    v = sac.v_values(nets, state["params"]["value"], batch["observation"])
    assert float(metrics["value_loss"]) == pytest.approx(float(0.5 * ((v - (q - 0.2 * log_pi)) ** 2).mean()))
    target = batch["reward"][:, 0] + 0.99 * (1 - batch["terminated"]) * sac.v_values(
        nets, state["target"], batch["next_observation"]
    )
    assert float(metrics["q_target"]) == pytest.approx(float(target.mean()))
    torch.testing.assert_close(new["target"], 0.995 * state["target"] + 0.005 * new["params"]["value"])


def test_pooling_goes_from_mean_to_minimum():
    q = torch.tensor([[1.0, 5.0], [3.0, 1.0]])
    assert sac.pooled(q, torch.tensor(1.0)).tolist() == [1.0, 1.0]
    assert sac.pooled(q, torch.tensor(0.0)).tolist() == [2.0, 3.0]
    assert sac.pooled(q, torch.tensor(0.5)).tolist() == [1.5, 2.0]


def test_n_step_target_discounts_by_the_windows_length():
    batch = {
        "reward": torch.tensor([[1.0, 2.0, 4.0], [1.0, 2.0, 0.0], [1.0, 0.0, 0.0]]),
        "length": torch.tensor([3.0, 2.0, 1.0]),
        "terminated": torch.tensor([0.0, 0.0, 1.0]),
    }
    numbers = {"gamma": torch.tensor(0.5), "reward_scale": torch.tensor(10.0)}
    target = sac.bellman_target(batch, torch.tensor([8.0, 8.0, 8.0]), numbers)
    assert target.tolist() == [10 * (1 + 1 + 1) + 1, 10 * (1 + 1) + 2, 10]


def test_entropy_can_stay_out_of_the_backup_but_not_out_of_the_actor():
    with_it, _, state, numbers, batch, noise = make()
    without = make(entropy_in_backup=False)
    _, metrics = with_it.update(state, numbers, batch, noise)
    _, other = without[0].update(*without[2:])
    assert metrics["q_target"] != other["q_target"]
    target = q_target(without[1], without[2], without[3], batch, noise, alpha=0.0)
    assert float(other["q_target"]) == pytest.approx(float(target.mean()))
    assert metrics["entropy"] == other["entropy"]


def test_fixed_temperature_stays_and_zero_exists():
    made, _, state, numbers, batch, noise = make(learn_temperature=False, temperature=0.0)
    new, metrics = made.update(state, numbers, batch, noise)
    assert float(metrics["temperature"]) == 0.0
    assert float(new["params"]["temperature"]) == float(state["params"]["temperature"])
    assert all(p.isfinite().all() for p in new["params"].values())


def test_hard_copies_every_period():
    made, _, state, numbers, batch, noise = make(tau=1.0, target_period=3)
    first = state["target"].clone()
    for update in range(1, 7):
        state, _ = made.update(state, numbers, batch, noise)
        if update % 3:
            assert not torch.equal(state["target"], state["params"]["critic"])
            assert update > 3 or torch.equal(state["target"], first)
        else:
            assert torch.equal(state["target"], state["params"]["critic"])


@pytest.mark.parametrize("critics", [1, 2, 5])
def test_number_of_critics_is_an_axis_and_the_first_ones_start_alike(critics):
    made, _, state, *rest = make(critics=critics)
    assert state["params"]["critic"].shape[0] == critics
    assert torch.equal(state["params"]["critic"][0], make()[2]["params"]["critic"][0])
    made.update(state, *rest)


def test_actor_may_climb_the_first_critic():
    made, nets, state, numbers, batch, noise = make(actor_objective="first")
    new, metrics = made.update(state, numbers, batch, noise)
    action, log_pi, _ = sac.policy(nets, state["params"]["actor"], batch["observation"], noise["policy"], numbers)
    q = sac.q_values(nets, new["params"]["critic"], batch["observation"], action)
    assert float(metrics["actor_loss"]) == pytest.approx(float((log_pi - q[0]).mean()))


def test_updates_are_counted_in_whole_numbers():
    config = partial(SACConfig.model_validate)
    assert config({"utd": 1.0, "learning_starts": 100}).updates_due(105) == 5
    assert config({"utd": 0.25, "learning_starts": 100}).updates_due(107) == 1
    assert config({"utd": 0.1, "learning_starts": 0}).updates_due(30) == 3  # 0.1 * 30 is 3.0000000000000004 or 2.99
    assert config({"utd": 20.0, "learning_starts": 8, "num_envs": 8, "eval_every": 8}).updates_due(16) == 160
    assert config({"learning_starts": 100}).updates_due(50) == 0
