"""An environment that raises or returns NaN ends its own run only; workers run in this process."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest

from sac_bench.envs import pool
from sac_bench.envs.checking import check
from sac_bench.envs.pool import describe
from sac_bench.execution import worker
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.engine import _exception
from sac_bench.execution.plan import make_plan, write
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from sac_bench.training.random import derived_seeds
from tests.conftest import small

EXPERIMENT = small("frail", "gymnasium:Frail-v0", seeds=3, steps=300, utd=0.2) + "pool_episodes = 8\n"


class Frail(gymnasium.Env):
    """Walks on a line; calls `harm` at its steps and resets."""

    observation_space = gymnasium.spaces.Box(-9, 9, (1,), np.float32)
    action_space = gymnasium.spaces.Box(-1, 1, (1,), np.float32)
    harm = staticmethod(lambda env, method: None)

    def __init__(self):
        self.steps, self.seed, self.paid, self.seen = 0, None, None, None
        self.harm(self, "__init__")

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.seed = self.seed if seed is None else seed
        self.harm(self, "reset")
        self.x = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return self.x, {}

    def step(self, action):
        self.steps += 1
        self.harm(self, "step")
        self.x = np.clip(self.x + action, -9, 9).astype(np.float32)
        reward = -abs(float(self.x[0])) if self.paid is None else self.paid
        return self.x if self.seen is None else self.seen, reward, False, False, {}


gymnasium.register("Frail-v0", Frail, max_episode_steps=20)

MEMBER = 1
TRAINING = [derived_seeds(MEMBER, "training environments", pool, 1)[0] for pool in range(3)]
EVALUATION = {steps: derived_seeds(MEMBER, "evaluation environments", steps, 1)[0] for steps in (0, 100, 200, 300)}


@pytest.fixture(autouse=True)
def harm(monkeypatch):
    """Return a function that sets `harm` for the environments of this test."""
    monkeypatch.setattr(worker, "cannot_compile", lambda: "not here")
    check("gymnasium:Frail-v0")  # once, before it does harm
    return lambda function: monkeypatch.setattr(Frail, "harm", staticmethod(function))


def plan(folder, **more):
    (folder / "frail.toml").write_text(EXPERIMENT)
    store, experiment = Store(folder / "results"), load(folder / "frail.toml")
    planned = make_plan(experiment, store, 1, 8e9, **more)
    write(planned, store)
    return store, planned


def train(folder, steps=300):
    store, planned = plan(folder)
    for cohort in planned.cohorts:
        worker.Worker(store, cohort.id, steps, "cpu", 1).train()
    return {store.run(run_id).spec().seed: store.run(run_id) for run_id in store.run_ids()}


def comparable(run):
    tables = [run.table(name).drop(columns="wall_seconds", errors="ignore") for name in ("evaluations", "training")]
    tables.append(run.table("episodes"))
    return [table.to_csv() for table in tables] + [run.policy.read_bytes(), run.weights.read_bytes()]


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worker, "cannot_compile", lambda: "not here")
        runs = train(tmp_path_factory.mktemp("undisturbed"))
    assert {run.status()["status"] for run in runs.values()} == {"finished"}
    return {seed: comparable(run) for seed, run in runs.items()}


def assert_others_are_untouched(runs, undisturbed):
    for seed in runs.keys() - {MEMBER}:
        assert runs[seed].status()["status"] == "finished"
        assert comparable(runs[seed]) == undisturbed[seed]


def boom(env, method):
    raise ValueError("the motor is\n[hot]")


WHERE = {
    "a step of training": (TRAINING[0], "step", 120, "step(), training, step 120", [0, 100]),
    "a reset in training": (TRAINING[0], "reset", 140, "reset(), training, step 140", [0, 100]),
    "the first reset": (TRAINING[0], "reset", 0, "reset(), training, step 0", []),
    "the reset of the next pool": (TRAINING[1], "reset", 0, "reset(), training, step 160", [0, 100]),
    "a step of the next pool": (TRAINING[1], "step", 1, "step(), training, step 161", [0, 100]),
    "a step of an evaluation": (EVALUATION[200], "step", 7, "step(), evaluation, step 200", [0, 100]),
    "a reset of an evaluation": (EVALUATION[100], "reset", 0, "reset(), evaluation, step 100", [0]),
    "the last evaluation": (EVALUATION[300], "step", 20, "step(), evaluation, step 300", [0, 100, 200]),
}


@pytest.mark.thorough
@pytest.mark.parametrize("where", WHERE)
def test_an_exception_ends_only_its_run(where, harm, tmp_path, undisturbed):
    seed, method, steps, place, rows = WHERE[where]
    harm(lambda env, at: boom(env, at) if (env.seed, at, env.steps) == (seed, method, steps) else None)
    runs = train(tmp_path)
    assert_others_are_untouched(runs, undisturbed)
    status = runs[MEMBER].status()
    assert (status["status"], status["steps"]) == ("failed", max(rows, default=0))
    assert status["reason"] == f"ValueError: the motor is [hot] (environment's {place})"
    table = runs[MEMBER].table("evaluations")
    assert sorted(set(table["step"] if len(table) else [])) == rows
    log = (runs[MEMBER].path / "log.txt").read_text()
    assert "Traceback" in log
    assert 'raise ValueError("the motor is\\n[hot]")' in log


@pytest.mark.thorough
def test_an_environment_that_cannot_be_recreated_ends_only_its_run(harm, tmp_path, undisturbed):
    made = []

    def fails(env, method):
        if method == "__init__":
            made.append(env)
            if len(made) == 3 * (1 + 2 * 2) + 2:  # pools: training, evaluations at 0 and 100; the second of the next
                raise OSError("no port is free")

    describe("gymnasium:Frail-v0")
    harm(fails)
    runs = train(tmp_path)
    assert_others_are_untouched(runs, undisturbed)
    reason = runs[MEMBER].status()["reason"]
    assert reason == "OSError: no port is free (environment's __init__(), training, step 160)"


@pytest.mark.thorough
@pytest.mark.parametrize("killed_at", [130, 190, 210])
def test_a_cohort_with_a_failed_run_continues_after_a_kill(killed_at, harm, tmp_path, undisturbed):
    """The environment raises only once, so a repetition that differs would be noticed."""
    raised, seed = [], derived_seeds(0, "training environments", killed_at // 160, 1)[0]

    def fails(env, method):
        if env.seed == TRAINING[0] and env.steps == 120 and not raised:
            raised.append(env)
            boom(env, method)
        if env.seed == seed and env.steps == (killed_at - 1) % 160 + 1 and method == "step":
            raise KeyboardInterrupt

    harm(fails)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path)
    harm(lambda env, method: None)
    runs = train(tmp_path)
    saved = killed_at > 200
    assert runs[MEMBER].status()["status"] == ("failed" if saved else "finished")
    assert_others_are_untouched(runs, undisturbed)


@pytest.mark.thorough
def test_a_failed_run_is_retrained_only_on_request(harm, tmp_path, undisturbed):
    harm(lambda env, method: boom(env, method) if env.seed == TRAINING[0] and env.steps == 120 else None)
    runs = train(tmp_path)
    before = {path: path.read_bytes() for path in runs[MEMBER].path.iterdir()}
    _, planned = plan(tmp_path)
    assert [spec.seed for spec in planned.raised] == [MEMBER]
    assert (planned.cohorts, len(planned.reused)) == ((), 2)
    assert {path: path.read_bytes() for path in runs[MEMBER].path.iterdir()} == before
    harm(lambda env, method: None)
    store, planned = plan(tmp_path, retrain=True)
    ((cohort,),) = (planned.cohorts,)
    assert ([spec.seed for spec in cohort.runs], cohort.is_new, planned.raised) == ([MEMBER], True, ())
    worker.Worker(store, cohort.id, 300, "cpu", 1).train()
    assert {run.status()["status"] for run in runs.values()} == {"finished"}
    assert runs[MEMBER].status()["raised_at"] is None


@pytest.mark.thorough
def test_a_failed_run_can_be_retrained_while_its_cohort_continues(harm, tmp_path, undisturbed):
    harm(lambda env, method: boom(env, method) if env.seed == TRAINING[0] and env.steps == 120 else None)
    runs = train(tmp_path, steps=200)
    harm(lambda env, method: None)
    store, planned = plan(tmp_path, retrain=True)
    assert sorted((len(cohort.runs), cohort.is_new) for cohort in planned.cohorts) == [(1, True), (3, False)]
    for cohort in planned.cohorts:
        worker.Worker(store, cohort.id, 300, "cpu", 1).train()
    assert_others_are_untouched(runs, undisturbed)
    assert runs[MEMBER].status()["status"] == "finished"


@pytest.mark.parametrize("steps", [0, 120])
def test_a_cohort_whose_runs_have_all_failed_ends(steps, harm, tmp_path):
    harm(lambda env, method: boom(env, method) if env.steps >= steps and env.seed is not None else None)
    runs = train(tmp_path)
    reasons = {run.status()["reason"] for run in runs.values()}
    method = "step(), training, step 120" if steps else "reset(), training, step 0"
    assert reasons == {f"ValueError: the motor is [hot] (environment's {method})"}
    store, planned = plan(tmp_path)
    assert (planned.cohorts, len(planned.raised)) == ((), 3)
    (cohort,) = store.cohort_ids()
    assert not CohortDirectory(store.cohort(cohort)).saved()  # the checkpoints are freed


def test_an_exception_of_a_backend_for_all_environments_fails_all_runs(monkeypatch, tmp_path):
    """EnvPool steps all environments at once, so its exceptions belong to none of them."""

    class Backend(pool._InTurn):
        steps = 0

        def step(self, actions, env_id=None):
            self.steps += 1
            if self.steps == 120:
                raise RuntimeError("a thread of the pool is lost")
            return super().step(actions, env_id)

    monkeypatch.setattr(pool, "_InTurn", Backend)
    runs = train(tmp_path)
    reason = "RuntimeError: a thread of the pool is lost (environment's step(), training, step 120)"
    assert {run.status()["reason"] for run in runs.values()} == {reason}


class Mute(Exception):
    def __str__(self):
        raise ValueError("no words")


@pytest.mark.thorough
@pytest.mark.parametrize("error", [SystemExit(3), AssertionError(), KeyError("joint"), Mute(), OSError("a\0\udcff")])
def test_every_kind_of_exception_is_reported_by_name(error, harm, tmp_path):
    def fails(env, method):
        if env.seed == TRAINING[0] and env.steps == 20 and method == "step":
            raise error

    harm(fails)
    reason = train(tmp_path, steps=100)[MEMBER].status()["reason"]
    messages = {
        "SystemExit": "SystemExit: 3",
        "AssertionError": "AssertionError",
        "KeyError": "KeyError: 'joint'",
        "Mute": "Mute: (its message cannot be read)",
        "OSError": "OSError: a\\x00\\udcff",
    }
    assert reason == f"{messages[type(error).__name__]} (environment's step(), training, step 20)"


def test_an_environment_that_fails_to_close_changes_nothing(monkeypatch, tmp_path, undisturbed):
    monkeypatch.setattr(Frail, "close", boom, raising=False)
    monkeypatch.setattr(Frail, "close", lambda self: boom(self, "close"))
    runs = train(tmp_path)
    assert {seed: comparable(run) for seed, run in runs.items()} == undisturbed


def test_a_memory_error_ends_the_process_and_not_only_the_run(harm, tmp_path):
    def fails(env, method):
        if env.seed == TRAINING[0] and env.steps == 20:
            raise MemoryError("32 GB")

    harm(fails)
    with pytest.raises(MemoryError):
        train(tmp_path)


BAD = {
    "a reward": ("paid", float("nan"), "reward"),
    "an infinite reward": ("paid", float("-inf"), "reward"),
    "an observation": ("seen", np.array([np.nan], np.float32), "observation"),
}


@pytest.mark.thorough
@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    ("at", "place"), [(33, "step 33: {}"), (140, "step 140: {}"), (200, "step 200: {} in evaluation")]
)
def test_nonfinite_values_of_an_environment_are_named(at, place, bad, harm, tmp_path, undisturbed):
    name, value, called = BAD[bad]
    seed, steps = (EVALUATION[200], 7) if at == 200 else (TRAINING[0], at)

    def gives(env, method):
        if env.seed == seed and method == "step":
            setattr(env, name, value if env.steps == steps else None)

    harm(gives)
    runs = train(tmp_path)
    assert_others_are_untouched(runs, undisturbed)
    status = runs[MEMBER].status()
    assert (status["status"], status["steps"]) == ("diverged", at)
    assert status["reason"] == "NaN or infinity at " + place.format(called)
    _, planned = plan(tmp_path)
    assert [spec.seed for spec in planned.diverged] == [MEMBER]


def test_values_that_no_transition_uses_may_be_nonfinite(harm, tmp_path):
    """A terminated episode does not bootstrap, so nothing is learned from its last observation."""

    class Ends(Frail):
        def step(self, action):
            observation, reward, _, _, infos = super().step(action)
            over = self.steps % 20 == 10
            return observation * (np.nan if over else 1), reward, over, False, infos

    gymnasium.registry["Frail-v0"].entry_point = Ends
    try:
        runs = train(tmp_path)
    finally:
        gymnasium.registry["Frail-v0"].entry_point = Frail
    assert {run.status()["status"] for run in runs.values()} == {"finished"}


def test_the_last_exception_of_a_log_is_found():
    log = [
        "starting",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "    f()",
        "ValueError: one",
        "two",
        "  three",
    ]
    assert _exception(log) == "ValueError: one two three"
    assert _exception([*log[:4], *log[1:4], "KeyError: 'a'"]) == "KeyError: 'a'"
    assert _exception(["no trace", "of it"]) == "of it"
