"""Examinations: what is measured of a trained policy after its training, one number a run.

All start from the same states, drawn from the run's seed, so what a disturbance costs is measured against the same
policy undisturbed from where it started undisturbed. Unless an examination says otherwise a policy acts as it is
scored: by its mean action, or by sampled ones where its algorithm has no such.

    results/runs/<run_id>/examinations.json     {name: {value, policy: SHA-256 of its file, version}}
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs import sources
from sac_bench.envs.heavy import heavier
from sac_bench.envs.multigoal import goal_shares
from sac_bench.envs.output import captured
from sac_bench.envs.pool import GYMNASIUM_PREFIX, Pool, describe
from sac_bench.errors import InputError, nearest
from sac_bench.evaluation.policy import Policy, load_policy
from sac_bench.store import locks
from sac_bench.store.atomic import fingerprint, read_json, write_json
from sac_bench.store.store import RunDirectory, Store
from sac_bench.training.random import derived_seeds


@dataclass(frozen=True)
class Conditions:
    """Under what a policy is played.

    action_noise: standard deviation of Gaussian noise on each action in [-1, 1], clipped after it.
    observation_noise: of Gaussian noise on what the policy sees, in standard deviations of each number over the same
    policy's episodes without it.
    mass: by what masses and inertias of the bodies are multiplied, in Gymnasium's environment of the same name, because
    EnvPool's cannot be changed; None: the run's own environment.
    sampled: act by sampled actions, whatever the policy is scored by.
    """

    episodes: int = 10
    action_noise: float = 0.0
    observation_noise: float = 0.0
    mass: float | None = None
    sampled: bool = False


class Played(NamedTuple):
    """E episodes, undiscounted; `deviation` is over all that was observed in them before an action."""

    returns: NDArray[np.float64]  # [E]
    last: NDArray[np.float32]  # [E, D], what the last action led to
    terminated: NDArray[np.bool_]  # [E]
    deviation: NDArray[np.float64]  # [D]


def play(policy: Policy, conditions: Conditions, noise: NDArray[np.float64] | float, threads: int) -> Played:
    """Whole episodes of a policy, equal to the bit every time; noise: of each observed number [D], standard deviations.

    One thread makes the products: small ones are no faster on more, and their bits may depend on how many there are.
    """
    spec, episodes = policy.spec, conditions.episodes
    sampled = conditions.sampled or ALGORITHMS[spec.algorithm].scored_by == "sample"
    starts = derived_seeds(spec.seed, "examination/environments", 0, episodes)
    if conditions.mass is None:
        pool = Pool(spec.env, starts, threads)
    else:
        pool = Pool(with_masses(spec.env), starts, wrapper=partial(heavier, factor=conditions.mass))
    acting, on_action, on_observation = (
        np.random.default_rng(derived_seeds(spec.seed, f"examination/{purpose}", 0, 1))
        for purpose in ("acting", "action noise", "observation noise")
    )
    observation = pool.reset()
    returns, last = np.zeros(episodes), observation.copy()
    terminated, running = np.zeros(episodes, dtype=bool), np.ones(episodes, dtype=bool)
    observed = []
    with _same_bits():
        while running.any():
            observed.append(observation[running])
            seen = observation + noise * on_observation.standard_normal(observation.shape)
            actions = policy.sampled_and_mean(
                seen.astype(np.float32), acting.standard_normal((episodes, policy.noise_dim))
            )
            action = actions[0 if sampled else 1]
            action = action + conditions.action_noise * on_action.standard_normal(action.shape)
            step = pool.step(action)
            returns += np.where(running, step.reward, 0.0)
            ended = running & (step.terminated | step.truncated)
            last[ended], terminated[ended] = step.final_observation[ended], step.terminated[ended]
            running &= ~ended
            observation = step.observation
    pool.close()
    return Played(returns, last, terminated, np.concatenate(observed).std(0, dtype=np.float64))


@contextlib.contextmanager
def _same_bits() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Examined:
    """A policy under examination: what was played once is not played again."""

    def __init__(self, policy: Policy, threads: int = 1) -> None:
        self._policy, self._threads = policy, threads
        self._played: dict[Conditions, Played] = {}

    def played(self, conditions: Conditions) -> Played:
        if conditions not in self._played:
            noise: NDArray[np.float64] | float = 0.0
            if conditions.observation_noise:
                calm = self.played(replace(conditions, observation_noise=0.0))
                noise = conditions.observation_noise * calm.deviation
            self._played[conditions] = play(self._policy, conditions, noise, self._threads)
        return self._played[conditions]


def mean_return(conditions: Conditions, examined: Examined) -> float:
    return float(examined.played(conditions).returns.mean())


def lost_return(calm: Conditions, disturbed: Conditions, examined: Examined) -> float:
    return mean_return(calm, examined) - mean_return(disturbed, examined)


def goals(conditions: Conditions, examined: Examined) -> float:
    played = examined.played(conditions)
    return float((goal_shares(played.last, played.terminated) >= SHARE_OF_A_GOAL).sum())


def goal_entropy(conditions: Conditions, examined: Examined) -> float:
    played = examined.played(conditions)
    return entropy(goal_shares(played.last, played.terminated))


def entropy(shares: NDArray[np.float64]) -> float:
    """In nats, of shares that are first made to sum to 1; 0 when all are 0."""
    share = shares[shares > 0] / shares.sum()
    return float(-(share * np.log(share)).sum()) + 0.0  # no -0.0


@functools.cache
def with_masses(env_id: str) -> str:
    """The environment of the same name whose masses can be changed; InputError where Gymnasium has none."""
    name = env_id.removeprefix(GYMNASIUM_PREFIX)
    if name not in gymnasium.registry:
        raise InputError(f"{env_id}: masses are changed in Gymnasium's environments, and it has none of this name")
    found, own = describe(GYMNASIUM_PREFIX + name), describe(env_id)
    if (found.observation_dim, found.action_dim) != (own.observation_dim, own.action_dim):
        raise InputError(f"{env_id}: masses are changed in Gymnasium's environments, and its {name} observes otherwise")
    Pool(found.id, [0], wrapper=partial(heavier, factor=1.0)).close()
    return found.id


def only_multigoal(env_id: str) -> None:
    if env_id != f"{GYMNASIUM_PREFIX}MultiGoal-v0":
        raise InputError(f"{env_id}: goals are counted in gymnasium:MultiGoal-v0 only")


@dataclass(frozen=True)
class Examination:
    """`version` is raised when its numbers change; `check` raises InputError for environments it cannot be made in."""

    description: str
    unit: str
    measure: Callable[[Examined], float]
    check: Callable[[str], Any] = describe
    version: int = 1


SHARE_OF_A_GOAL = 0.1
CALM = Conditions()
NOISY_ACTIONS = Conditions(action_noise=0.3)
NOISY_OBSERVATIONS = Conditions(observation_noise=0.1)
UNCHANGED_MASS = Conditions(mass=1.0)
HEAVY = Conditions(mass=1.5)
SAMPLED = Conditions(episodes=100, sampled=True)

EXAMINATIONS = {
    "undisturbed": Examination("mean return of 10 episodes", "return", partial(mean_return, CALM)),
    "action-noise": Examination(
        "mean return of 10 episodes with Gaussian noise of standard deviation 0.3 on every action in [-1, 1]",
        "return",
        partial(mean_return, NOISY_ACTIONS),
    ),
    "observation-noise": Examination(
        "mean return of 10 episodes with Gaussian noise on what the policy sees, of 0.1 of the standard deviation that "
        "each number has in the policy's undisturbed episodes",
        "return",
        partial(mean_return, NOISY_OBSERVATIONS),
    ),
    "mass": Examination(
        "mean return of 10 episodes in Gymnasium's environment with the bodies' masses and inertias times 1.5",
        "return",
        partial(mean_return, HEAVY),
        with_masses,
    ),
    # EnvPool brings another MuJoCo, and the same seed starts elsewhere there: `mass` is compared with this.
    "unchanged-mass": Examination(
        "mean return of 10 episodes in Gymnasium's environment, undisturbed",
        "return",
        partial(mean_return, UNCHANGED_MASS),
        with_masses,
    ),
    "lost-to-action-noise": Examination(
        "return undisturbed less that under action-noise", "return", partial(lost_return, CALM, NOISY_ACTIONS)
    ),
    "lost-to-observation-noise": Examination(
        "return undisturbed less that under observation-noise", "return", partial(lost_return, CALM, NOISY_OBSERVATIONS)
    ),
    "lost-to-mass": Examination(
        "return with unchanged-mass less that with mass, both in Gymnasium's environment",
        "return",
        partial(lost_return, UNCHANGED_MASS, HEAVY),
        with_masses,
    ),
    "goals": Examination(
        "how many of the four goals at least a tenth of 100 episodes by sampled actions end at",
        "goals",
        partial(goals, SAMPLED),
        only_multigoal,
    ),
    "goal-entropy": Examination(
        "entropy of the goals' shares in those of 100 episodes by sampled actions that end at one; 0 where none does",
        "nats",
        partial(goal_entropy, SAMPLED),
        only_multigoal,
    ),
}


def check(names: Sequence[str], env_id: str) -> None:
    """InputError unless there are these examinations and they can be made in the environment."""
    for name in names:
        if name not in EXAMINATIONS:
            raise InputError(f"no examination {name!r}{nearest(name, EXAMINATIONS)}")
        try:
            EXAMINATIONS[name].check(env_id)
        except InputError as error:
            raise InputError(f"examination {name!r}: {error}") from None


def examine(store: Store, run_id: str, names: Sequence[str], threads: int = 1) -> dict[str, float]:
    """A finished run's examinations {name: value}: what was measured of the same policy before, and what is missing.

    NaN for all when the run diverged. Raises InputError when it has not ended, is damaged, or an examination is
    unknown or cannot be made in the run's environment.
    """
    run = store.run(run_id)
    status = run.status()
    if status["status"] not in ("finished", "diverged"):
        raise InputError(f"run {run_id} cannot be examined: {status.get('reason') or 'it has not finished'}")
    spec = run.spec()
    check(names, spec.env)
    if changed := sources.differences(
        read_json(run.path / "spec.json").get("env_definition", {}), describe(spec.env).definition
    ):
        raise InputError(f"run {run_id} cannot be examined: it was trained with {' and '.join(changed)}")
    if status["status"] == "diverged":
        return dict.fromkeys(names, math.nan)
    policy = fingerprint(run.policy)["sha256"]
    found = _measured(run, policy)
    if not found.keys() >= set(names):
        with locks.locked(store.locks / "examinations" / run_id):
            found = _measured(run, policy)
            examined = Examined(load_policy(run_id, store.root), threads)
            for name in names:
                if name not in found:
                    with captured(f"run {run_id}, examination {name}"):
                        value, version = EXAMINATIONS[name].measure(examined), EXAMINATIONS[name].version
                    found[name] = {"value": value, "policy": policy, "version": version}
                    write_json(run.path / "examinations.json", found)
    return {name: math.nan if found[name]["value"] is None else found[name]["value"] for name in names}


def _measured(run: RunDirectory, policy: str) -> dict[str, dict[str, Any]]:
    """What is known of the policy with this SHA-256; what is known of another, or damaged, is measured again."""
    try:
        known = read_json(run.path / "examinations.json")
        return {
            name: known[name]
            for name, examination in EXAMINATIONS.items()
            if name in known and (known[name]["policy"], known[name]["version"]) == (policy, examination.version)
        }
    except (FileNotFoundError, InputError, TypeError, KeyError):
        return {}
