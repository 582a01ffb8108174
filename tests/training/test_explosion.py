"""When |Q| exceeds what rewards allow, and that the mark survives interruptions of the process."""

import math

import numpy as np
import pytest
import torch

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.execution import worker
from sac_bench.execution.checkpoint import CohortDirectory, state_of
from sac_bench.execution.plan import make_plan, write
from sac_bench.execution.warm_start import q_bound
from sac_bench.results.collect import collect
from sac_bench.spec.load import load
from sac_bench.spec.run import RunSpec
from sac_bench.store.status import exploded_at
from sac_bench.store.store import Store
from sac_bench.training import explosion
from sac_bench.training.explosion import UNTRAINED_Q_BOUND, Explosions
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny

LOG2 = math.log(2)


def bound(algorithm, reward, action_dim=3, metrics=None, **overrides):
    """The bound of one learner's |Q|, by its own rule."""
    config = tiny(algorithm, precision="float64", **overrides)
    learner = ALGORITHMS[algorithm].learner(config, 4, action_dim)
    given = {name: torch.tensor(value, dtype=torch.float64) for name, value in (metrics or {}).items()}
    return float(learner.q_bound(hyperparameters_of(config), given, torch.tensor(reward, dtype=torch.float64)))


def of_sac(temperature, entropy):
    return {"temperature": temperature, "entropy": entropy}


CASES = [
    ("td3", {}, None, 2.0, 2 / 0.01),
    ("ddpg", {"gamma": 0.9, "reward_scale": 3.0}, None, 2.0, 3 * 2 / 0.1),
    ("td3", {"gamma": 0.0}, None, 2.0, 2.0),
    ("td3", {"gamma": 1.0}, None, 0.0, math.inf),
    ("td3", {"n_step": 5, "gamma": 0.9}, None, 2.0, 20.0),
    ("sql", {"gamma": 0.9, "reward_scale": 10.0}, None, 2.0, (20 + 0.9 * 3 * LOG2) / 0.1),
    ("sac", {"gamma": 0.9}, of_sac(0.5, -1.0), 2.0, (2 + 0.9 * 0.5 * 3 * LOG2) / 0.1),
    ("sac", {"gamma": 0.9, "value_network": True}, of_sac(0.5, 1.0), 2.0, (2 + 0.9 * 0.5 * 3 * LOG2) / 0.1),
    ("sac", {"gamma": 0.9}, of_sac(0.5, -8.0), 2.0, (2 + 0.9 * 0.5 * 8) / 0.1),
    ("sac", {"gamma": 0.9, "entropy_in_backup": False}, of_sac(0.5, -8.0), 2.0, 20.0),
    ("sac", {"gamma": 1.0}, of_sac(0.5, -8.0), 2.0, math.inf),
]


@pytest.mark.parametrize(("algorithm", "overrides", "metrics", "reward", "expected"), CASES)
def test_the_bound_of_q_follows_from_rewards_and_entropies(algorithm, overrides, metrics, reward, expected):
    assert bound(algorithm, reward, metrics=metrics, **overrides) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("n", [1, 3])
def test_no_chain_exceeds_the_bound_of_its_rewards_and_entropies(n):
    """Soft values of random chains, by iterating their own n-step targets."""
    generator, gamma = np.random.default_rng(0), 0.8
    for _ in range(20):
        reward, entropy = generator.uniform(-2, 2, 6), generator.uniform(-1.5, 1.5, 6)
        q = np.zeros(6)
        for _ in range(300):
            ahead = sum(gamma**j * np.roll(reward, -j) for j in range(n))
            q = ahead + gamma**n * np.roll(q + entropy, -n)
        assert np.abs(q).max() <= bound("sac", 2.0, 1, of_sac(1.0, 1.5), gamma=gamma)


def test_ppo_has_no_q_and_no_bound():
    assert ALGORITHMS["ppo"].learner(ALGORITHMS["ppo"].config(), 3, 1).q_bound is None


def cohort_of(algorithm="td3", members=2, **overrides):
    config = tiny(algorithm, **overrides)
    specs = [RunSpec(algorithm, config, "Pendulum-v1", seed) for seed in range(members)]
    return Trainer(specs, 200, compiled=False).cohort


def checked(watched, steps, *q, running=(True, True)):
    metrics = {"q": torch.tensor(q)}
    return watched.check(steps, metrics, np.array(running))["q_bound"].tolist()


def test_a_run_explodes_once_q_of_either_sign_exceeds_its_bound():
    watched = Explosions(cohort_of(gamma=0.5), 2)
    watched.add(np.array([1.0, -2.0]))
    assert checked(watched, 100, 2.1, 4.1) == [2.0, 4.0]  # beyond, but within what an estimate may err
    assert (watched.at(0), watched.at(1)) == (None, None)
    checked(watched, 200, 2.3, -4.5)
    checked(watched, 300, 9.0, 9.0)
    assert (watched.at(0), watched.at(1)) == (200, 200)


def test_a_bound_never_falls_and_starts_at_the_value_of_untrained_networks():
    watched = Explosions(cohort_of("sac", gamma=0.5), 2)
    nothing = torch.tensor([math.nan] * 2)
    before = dict.fromkeys(("q", "temperature", "entropy"), nothing)
    assert watched.check(0, before, np.array([True, True]))["q_bound"].tolist() == [UNTRAINED_Q_BOUND] * 2
    metrics = {"q": torch.tensor([0.0, 0.0]), "entropy": torch.tensor([0.0, 0.0])}
    hot, cold = torch.tensor([4.0, 8.0]), torch.tensor([0.0, 0.0])
    expected = [4 * LOG2, 8 * LOG2]
    for steps, temperature in ((100, hot), (200, cold)):
        found = watched.check(steps, metrics | {"temperature": temperature}, np.array([True, True]))
        assert found["q_bound"].tolist() == pytest.approx(expected)


def test_a_run_that_stopped_does_not_explode():
    watched = Explosions(cohort_of(), 2)
    checked(watched, 100, 1e9, 1e9, running=(True, False))
    assert (watched.at(0), watched.at(1)) == (100, None)


def test_the_bound_and_mark_of_a_member_are_saved_and_move_to_another_cohort():
    watched = Explosions(cohort_of(gamma=0.5), 2)
    watched.add(np.array([3.0, 5.0]))
    checked(watched, 100, 0.0, 99.0)
    again, alone = Explosions(cohort_of(gamma=0.5), 2), Explosions(cohort_of(gamma=0.5, members=1), 1)
    again.restore(watched.state())
    alone.restore(state_of({"explosions": watched.state()}, [1], 2)["explosions"])
    assert checked(again, 200, 0.0, 0.0) == [6.0, 10.0]
    assert (again.at(0), again.at(1), alone.at(0)) == (None, 100, 100)
    unknown = Explosions(cohort_of(gamma=0.5), 2)
    unknown.restore(None)  # a checkpoint of an earlier version
    assert checked(unknown, 200, 1e9, 1e9) == [math.inf] * 2
    assert unknown.at(0) is None


def test_a_run_counts_as_exploded_from_its_marked_step():
    assert exploded_at({"exploded": 300}, 400) == 300
    assert exploded_at({"exploded": 300}, 200) is None
    assert exploded_at({"exploded": None}, 400) is None
    assert exploded_at({}, 400) is None


FILE = """
name = "explodes"
envs = ["Pendulum-v1"]
seeds = 1
steps = 400

[base]
layers = [8]
batch_size = 16
learning_starts = 100
eval_every = 100
eval_episodes = 1
critic_lr = 1.0
tau = 1.0
gamma = 0.5

[variants.healthy]
algorithm = "td3"
critic_lr = 3e-4
tau = 0.005

[variants.exploding]
algorithm = "td3"
"""


@pytest.fixture
def planned(tmp_path, monkeypatch):
    """An experiment of one healthy and one exploding run in a cohort, in a store where it is planned."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    monkeypatch.setattr(
        explosion, "Q_BOUND_TOLERANCE", -0.8
    )  # a fifth of the bound, which the one run exceeds on any CPU
    path, store = tmp_path / "explodes.toml", Store(tmp_path / "results")
    path.write_text(FILE)
    experiment = load(path)
    write(make_plan(experiment, store, 1, 8e9), store)
    return experiment, store


def train(store, steps):
    (cohort,) = store.cohort_ids()
    worker.Worker(store, cohort, steps, "cpu", 1).train()


def of_variants(experiment, store):
    return {variant.name: store.run(spec.id) for variant, spec in experiment.runs()}


@pytest.mark.thorough
def test_a_run_that_explodes_is_marked_and_a_healthy_one_is_not(planned):
    experiment, store = planned
    train(store, 400)
    runs = of_variants(experiment, store)
    marks = {name: run.status()["exploded"] for name, run in runs.items()}
    assert marks["healthy"] is None
    table = runs["exploding"].table("training")
    beyond = table["q"].abs() > (1 + explosion.Q_BOUND_TOLERANCE) * table["q_bound"]
    assert marks["exploding"] == table.loc[beyond, "step"].min()
    assert runs["exploding"].status()["status"] == "finished"
    assert table["q_bound"].iloc[-1] <= 16.3 / 0.5  # Pendulum's largest cost is 16.27
    collected = collect(store, experiment).runs.set_index("variant")["exploded"]
    assert collected.isna().to_dict() == {"healthy": True, "exploding": False}
    assert q_bound(table, 400) == table["q_bound"].iloc[-1]
    assert q_bound(table.drop(columns="q_bound"), 400) == math.inf


@pytest.mark.thorough
def test_a_resumed_run_has_the_same_marks_and_bounds(planned, tmp_path):
    experiment, store = planned
    train(store, 200)
    directory = CohortDirectory(store.cohort(store.cohort_ids()[0]))
    assert directory.saved()
    for run in of_variants(experiment, store).values():
        run.update(exploded=999)  # of a segment that was not saved
    train(store, 400)
    whole = Store(tmp_path / "whole")
    write(make_plan(experiment, whole, 1, 8e9), whole)
    train(whole, 400)
    runs, expected = of_variants(experiment, store), of_variants(experiment, whole)
    for name in runs:
        assert runs[name].status()["exploded"] == expected[name].status()["exploded"]
        assert runs[name].table("training").equals(expected[name].table("training"))
