"""Checks of an environment before training, and what its methods may return."""

import collections
import re
from functools import partial

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from sac_bench.envs.checking import check, objection
from sac_bench.envs.contract import MAX_EPISODE_STEPS
from sac_bench.envs.pool import Pool, describe, flatten
from sac_bench.errors import InputError

pytestmark = pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")


class Point(gymnasium.Env):
    """Observes four numbers. What it declares and returns is given by keyword, or computed from its step by a function."""

    def __init__(
        self,
        observation_space=None,
        action_space=None,
        observation=None,
        reward=0.5,
        terminated=False,
        reset=None,
        step=None,
        info=None,
    ) -> None:
        self.observation_space = observation_space or spaces.Box(-9, 9, (4,), np.float32)
        self.action_space = action_space or spaces.Box(-1, 1, (2,), np.float32)
        self._observation = np.ones(4, np.float32) if observation is None else observation
        self._reward, self._terminated, self._info = reward, terminated, info or {}
        self._returned = {"reset": reset, "step": step}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = 0
        returned = self._returned["reset"]
        return (self._observed(), {}) if returned is None else returned

    def step(self, action):
        self.at += 1
        info = {name: value(self) for name, value in self._info.items()}
        return self._returned["step"] or (self._observed(), self._reward, self._terminated, False, info)

    def _observed(self):
        return self._observation(self) if callable(self._observation) else self._observation


@pytest.fixture
def registered():
    """Register an environment under a unique name, and remove it afterwards."""
    names = []

    def register(entry_point=Point, max_episode_steps=20, **arguments):
        names.append(f"checked/Point{len(names)}-v0")
        gymnasium.register(names[-1], partial(entry_point, **arguments), max_episode_steps=max_episode_steps)
        return f"gymnasium:{names[-1]}"

    for cached in (check, objection, describe):
        cached.cache_clear()
    yield register
    for name in names:
        del gymnasium.registry[name]


def refusal(env_id):
    with pytest.raises(InputError) as refused:
        check(env_id)
    assert repr(env_id) in str(refused.value)
    assert "\n" not in str(refused.value)
    return str(refused.value)


# -- what it declares -------------------------------------------------------------------------------------------------

LARGEST = float(np.finfo(np.float32).max)


@pytest.mark.parametrize(
    ("space", "words"),
    [
        (spaces.Box(-10, 10, (1,), np.int64), "int64; only continuous"),
        (spaces.Box(0, 1, (1,), np.bool_), "bool; only continuous"),
        (spaces.Box(-LARGEST, LARGEST, (2,), np.float32), "3.4e+38, effectively unbounded"),
        (spaces.Box(0, np.iinfo(np.int32).max, (2,), np.float64), "2.15e+09, effectively unbounded"),
        (spaces.Box(-np.inf, 1, (2,), np.float32), "unbounded"),
        (spaces.Box(-1, 1, (0,), np.float32), "shape (0,)"),
    ],
)
def test_contract_actions_that_cannot_be_scaled_are_refused(registered, space, words):
    assert words in refusal(registered(action_space=space))


@pytest.mark.parametrize("bound", [np.inf, LARGEST])
def test_the_advice_on_unbounded_actions_works(registered, bound):
    space = spaces.Box(-bound, bound, (2,), np.float32)
    (advice,) = re.findall(r"gymnasium\.wrappers\.\w+\(.*\)$", refusal(registered(action_space=space)))
    wrapped = registered(lambda: eval(advice, {"gymnasium": gymnasium, "env": Point(action_space=space)}))
    check(wrapped)
    assert (describe(wrapped).action_low, describe(wrapped).action_high) == ((-1, -1), (1, 1))


def test_contract_large_but_meaningful_bounds_are_accepted(registered):
    check(registered(action_space=spaces.Box(0, 1e9, (2,), np.float64)))


def test_contract_an_empty_observation_is_refused(registered):
    empty = spaces.Box(-1, 1, (0,), np.float32)
    assert "observes nothing" in refusal(registered(observation_space=empty))


@pytest.mark.parametrize(("limit", "words"), [(10**9, "1,000,000,000; at most 100,000"), (None, "declares no max_ep")])
def test_contract_episodes_must_end(registered, limit, words):
    message = refusal(registered(max_episode_steps=limit))
    assert words in message
    assert "gymnasium.register(..., max_episode_steps=N)" in message
    check(registered(max_episode_steps=MAX_EPISODE_STEPS))


def test_contract_an_environments_own_time_limit_is_recognised(registered):
    own = registered(lambda: gymnasium.wrappers.TimeLimit(Point(), 7), max_episode_steps=None)
    check(own)
    assert describe(own).max_episode_steps == 7
    pool = Pool(own, [0])
    pool.reset()
    assert [bool(pool.step(np.zeros((1, 2))).truncated[0]) for _ in range(8)] == [False] * 6 + [True, False]
    pool.close()


# -- what it returns --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", [float, np.float32, np.float64, np.array, lambda x: np.array([x]), lambda x: [[x]]])
def test_contract_a_reward_may_be_any_type_of_number(registered, form):
    env_id = registered(reward=form(0.25))
    check(env_id)
    pool = Pool(env_id, [0, 1])
    pool.reset()
    np.testing.assert_array_equal(pool.step(np.zeros((2, 2))).reward, np.float32([0.25, 0.25]))
    pool.close()


@pytest.mark.parametrize("form", [bool, np.bool_, np.array, lambda x: np.array([x]), int, np.float32])
@pytest.mark.parametrize("value", [True, False])
def test_contract_a_flag_may_be_any_type_of_boolean(registered, form, value):
    env_id = registered(terminated=form(value))
    check(env_id)
    pool = Pool(env_id, [0])
    pool.reset()
    assert pool.step(np.zeros((1, 2))).terminated == [value]
    pool.close()


TWO = spaces.Dict({"a": spaces.Box(-9, 9, (2,)), "b": spaces.Box(-9, 9, ())})


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"reward": np.zeros(2)}, ["step()", "reward", "shape (2,) and type float64", "one number"]),
        ({"reward": None}, ["step()", "reward", "NoneType", "one number"]),
        ({"reward": "high"}, ["step()", "reward", "'high'", "one number"]),
        ({"terminated": None}, ["step()", "terminated", "NoneType", "True or False"]),
        ({"observation": np.zeros(5)}, ["reset()", "shape (5,) and type float64", "shape (4,) and type float32"]),
        ({"observation": lambda env: np.zeros(4 - env.at)}, ["step()", "shape (3,)", "shape (4,)"]),
        ({"observation": np.zeros(4, complex)}, ["reset()", "type complex128", "type float32"]),
        ({"observation": [[1], [2, 3]]}, ["reset()", "[[1], [2, 3]]", "shape (4,)"]),
        (
            {"observation": {"a": np.zeros(2), "b": np.zeros(3)}, "observation_space": TWO},
            ["reset()", "observation['b']", "shape (3,)", "shape ()"],
        ),
        ({"observation": {"a": np.zeros(2)}, "observation_space": TWO}, ["reset", "['a']", "['a', 'b']"]),
        ({"reset": np.zeros(4)}, ["reset()", "shape (4,)", "(observation, info)"]),
        (
            {"step": (np.zeros(4, np.float32), 0.0, False, {})},
            ["step()", "a tuple of 4", "(observation, reward, terminated, truncated, info)"],
        ),
    ],
)
def test_contract_values_that_differ_from_the_declaration_are_named(registered, arguments, words):
    message = refusal(registered(**arguments))
    assert [word for word in words if word not in message] == []


def test_contract_a_late_fault_is_named_too(registered):
    env_id = registered(observation=lambda env: np.zeros(4 if env.at < 10 else 3))
    check(env_id)
    pool = Pool(env_id, [0])
    pool.reset()
    for _ in range(9):
        pool.step(np.zeros((1, 2)))
    with pytest.raises(InputError, match=re.escape(f"{env_id!r}: step() returned as observation an array of shape")):
        pool.step(np.zeros((1, 2)))


@pytest.mark.parametrize(
    "arguments",
    [
        {"observation": np.zeros(4)},  # float64
        {"observation": [0.0, 1.0, 2.0, 3.0]},
        {"observation": np.full(4, 99, np.float32)},  # beyond its bounds
        {"observation": np.zeros(4, np.int32)},
        {"info": {"contacts": lambda env: np.zeros(env.at)}},  # of another shape at every step
        {"terminated": True},  # after one step
    ],
)
def test_contract_harmless_differences_are_accepted(registered, arguments):
    check(registered(**arguments))


def test_objections_of_gymnasium_are_reported_but_not_refused(registered):
    good = registered(observation=lambda env: env.np_random.uniform(-1, 1, 4).astype(np.float32))
    other = registered(observation=lambda env: np.random.default_rng().uniform(-1, 1, 4).astype(np.float32))
    check(other)
    assert (objection(good), objection("Hopper-v5")) == ("", "")
    assert "non-deterministic" in objection(other)


def broken_when_made():
    raise SystemExit("no licence")


class Port(Point):
    """An environment that a process can have only once."""

    taken = False

    def __init__(self) -> None:
        if Port.taken:
            raise OSError(98, "Address already in use")
        super().__init__()
        Port.taken = True

    def close(self):
        Port.taken = False


class Breaks(Point):
    def __init__(self, method) -> None:
        super().__init__()
        self._method = method

    def reset(self, *, seed=None, options=None):
        return self._fail("reset") or super().reset(seed=seed)

    def step(self, action):
        return self._fail("step") or super().step(action)

    def _fail(self, method):
        if method == self._method:
            raise RuntimeError("the spring broke")


class OldReset(Point):
    def reset(self, seed=None):
        return super().reset(seed=seed)


@pytest.mark.parametrize(
    ("entry_point", "words"),
    [
        (broken_when_made, "cannot be made: SystemExit: no licence"),
        (Port, "cannot be made twice in one process: OSError: [Errno 98] Address already in use"),
        (partial(Breaks, "reset"), "cannot be reset: RuntimeError: the spring broke"),
        (partial(Breaks, "step"), "cannot be stepped: RuntimeError: the spring broke"),
        (OldReset, "cannot be reset: TypeError: OldReset.reset() got an unexpected keyword argument 'options'"),
    ],
)
def test_contract_exceptions_of_an_environment_are_reported_with_their_place(registered, entry_point, words):
    Port.taken = False
    assert words in refusal(registered(entry_point))


def test_a_check_closes_all_its_environments(registered, monkeypatch):
    opened = []
    monkeypatch.setattr(Point, "__init__", lambda self, of=Point.__init__: (of(self), opened.append(self))[0])
    monkeypatch.setattr(Point, "close", lambda self: opened.remove(self))
    env_id = registered()
    check(env_id)
    objection(env_id)
    assert opened == []


# -- the order of a dict's observations -------------------------------------------------------------------------------


@pytest.mark.parametrize(("kind", "expected"), [(dict, [1, 1, 2]), (collections.OrderedDict, [2, 1, 1])])
def test_contract_dict_observations_have_the_order_of_their_space(registered, kind, expected):
    space = spaces.Dict(kind({"b": spaces.Box(-9, 9, ()), "a": spaces.Box(-9, 9, (2,))}))
    observation = {"a": np.ones(2, np.float32), "b": np.array(2, np.float32)}
    pool = Pool(registered(observation_space=space, observation=observation), [0])
    np.testing.assert_array_equal(pool.reset(), [expected])
    pool.close()


def test_contract_envpools_dict_observations_have_envpools_order():
    pool = Pool("CheetahRun-v1", [0])
    raw = pool._env.reset()[0]
    assert list(raw) == ["position", "velocity"]
    assert flatten(raw).shape == (1, 17)
    pool.close()
