"""Robustness: measures of a trained policy, one number per run (spec/measures.py names them).

All measures of a run start from the same states, drawn from its seed, so a disturbed policy is compared with itself,
undisturbed, from the same start. All policies of an environment get disturbances of the same size. Unless a measure's
name ends in "-sampled", a policy acts as it is scored: by its mean action, or by sampled actions if its algorithm has
no mean action.

    results/runs/<run_id>/robustness.json     {name: {value, reason, policy: SHA-256 of its file, version}}
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs import multigoal, sources
from sac_bench.envs.heavy import heavier, with_masses
from sac_bench.envs.multigoal import from_origin
from sac_bench.envs.output import captured
from sac_bench.envs.pool import Pool, Wrapper, describe
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import Policy, policy_of_run
from sac_bench.evaluation.random_policy import measured_random_policy
from sac_bench.spec.measures import ROBUSTNESS, check_robustness
from sac_bench.store import locks
from sac_bench.store.atomic import fingerprint, read_json, write_json
from sac_bench.store.run import RunDirectory
from sac_bench.store.store import Store
from sac_bench.training.random import derived_seeds

FILE = "robustness.json"


@dataclass(frozen=True)
class World:
    """Where a policy is played.

    env: returns the environment's id, given that of the run's. wrapper: changes the environment; None: unchanged.
    """

    env: Callable[[str], str] = str
    wrapper: Wrapper | None = None


OWN_WORLD = World()
FROM_ORIGIN = World(wrapper=from_origin)
# Gymnasium's environment of the same name, because EnvPool's masses cannot be changed.
UNCHANGED_MASS = World(with_masses, partial(heavier, factor=1.0))
HEAVY_WORLD = World(with_masses, partial(heavier, factor=1.5))


@dataclass(frozen=True)
class Conditions:
    """The conditions under which a policy is played.

    action_noise: standard deviation of Gaussian noise on each action in [-1, 1], which is then clipped.
    observation_noise: standard deviation of Gaussian noise on each observed number, in units of that number's standard
    deviation over a random policy's episodes. A number that never changes there gets no noise.
    sampled: act by sampled actions, whichever actions score the policy.
    """

    episodes: int = 10
    action_noise: float = 0.0
    observation_noise: float = 0.0
    world: World = OWN_WORLD
    sampled: bool = False


class Played(NamedTuple):
    """E episodes with undiscounted returns."""

    returns: NDArray[np.float64]  # [E]
    last: NDArray[np.float32]  # [E, D], the observation after the last action
    terminated: NDArray[np.bool_]  # [E]


def play(policy: Policy, conditions: Conditions, noise: NDArray[np.float64] | float, threads: int) -> Played:
    """Play whole episodes of a policy, reproducible to the bit. noise: standard deviations on the observed numbers [D].

    Matrix products use one thread: small ones are no faster with more, and their bits may depend on the number.
    """
    spec, episodes = policy.spec, conditions.episodes
    sampled = conditions.sampled or ALGORITHMS[spec.algorithm].scored_by == "sample"
    starts = derived_seeds(spec.seed, "examination/environments", 0, episodes)
    pool = Pool(conditions.world.env(spec.env), starts, threads, conditions.world.wrapper)
    acting, on_action, on_observation = (
        np.random.default_rng(derived_seeds(spec.seed, f"examination/{purpose}", 0, 1))
        for purpose in ("acting", "action noise", "observation noise")
    )
    observation = pool.reset()
    returns, last = np.zeros(episodes), observation.copy()
    terminated, running = np.zeros(episodes, dtype=bool), np.ones(episodes, dtype=bool)
    with _same_bits():
        while running.any():
            seen = observation + noise * on_observation.standard_normal(observation.shape)
            actions = policy.sampled_and_mean(
                seen.astype(np.float32), acting.standard_normal((episodes, policy.noise_dim))
            )
            action = actions[0 if sampled else 1]
            action = action + conditions.action_noise * on_action.standard_normal(action.shape)
            step = pool.play(action, running)
            returns += step.reward
            ended = step.terminated | step.truncated
            last[ended], terminated[ended] = step.final_observation[ended], step.terminated[ended]
            running &= ~ended
            observation = step.observation
    pool.close()
    return Played(returns, last, terminated)


@contextlib.contextmanager
def _same_bits() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Measured(NamedTuple):
    """A measure's value, and the reason why it is NaN, if it is."""

    value: float
    reason: str = ""


class MeasuredPolicy:
    """A policy and its episodes by conditions, so that none are played twice.

    random: what a random policy does in an environment, given its id (random_policy.py).
    """

    def __init__(self, policy: Policy, random: Callable[[str], Mapping[str, Any]], threads: int = 1) -> None:
        self.policy, self._random, self._threads = policy, random, threads
        self._played: dict[Conditions, Played] = {}

    def played(self, conditions: Conditions) -> Played:
        """Return the episodes under some conditions, playing them if necessary."""
        if conditions not in self._played:
            noise: NDArray[np.float64] | float = 0.0
            if conditions.observation_noise:
                noise = conditions.observation_noise * self._random_policy(conditions, "observation_std")
            self._played[conditions] = play(self.policy, conditions, noise, self._threads)
        return self._played[conditions]

    def mean_return(self, conditions: Conditions) -> float:
        """Return the mean return of the episodes under some conditions."""
        return float(self.played(conditions).returns.mean())

    def random_return(self, conditions: Conditions) -> float:
        """Return a random policy's mean return in the world of some conditions, undisturbed; NaN if not finite."""
        return float(self._random_policy(conditions, "return_mean"))

    def _random_policy(self, conditions: Conditions, name: str) -> NDArray[np.float64]:
        return np.array(self._random(conditions.world.env(self.policy.spec.env))[name], dtype=float)  # None: NaN


def mean_return(conditions: Conditions, policy: MeasuredPolicy) -> Measured:
    """Return the mean return of the episodes under some conditions."""
    return Measured(policy.mean_return(conditions))


def lost_share(calm: Conditions, disturbed: Conditions, policy: MeasuredPolicy) -> Measured:
    """Return (undisturbed - disturbed) / (undisturbed - random), NaN unless the denominator is positive."""
    undisturbed, random = policy.mean_return(calm), policy.random_return(calm)
    if not undisturbed > random:
        reason = f"no gain that could be lost: {undisturbed:.1f} undisturbed, and {random:.1f} by a random policy"
        return Measured(math.nan, reason)
    return Measured((undisturbed - policy.mean_return(disturbed)) / (undisturbed - random))


def goals(conditions: Conditions, policy: MeasuredPolicy) -> Measured:
    """Count the multigoal environment's goals that at least a tenth of the episodes (`SHARE_OF_A_GOAL`) reach."""
    played = policy.played(conditions)
    return Measured(float((multigoal.goal_shares(played.last, played.terminated) >= SHARE_OF_A_GOAL).sum()))


def goal_entropy(conditions: Conditions, policy: MeasuredPolicy) -> Measured:
    """Return the entropy, in nats, of the goals that episodes reach, among those that reach one."""
    played = policy.played(conditions)
    return Measured(entropy(multigoal.goal_shares(played.last, played.terminated)))


def entropy(shares: NDArray[np.float64]) -> float:
    """Return the entropy in nats of shares, normalised to sum to 1; 0 if all are 0."""
    share = shares[shares > 0] / shares.sum()
    return float(-(share * np.log(share)).sum()) + 0.0  # no -0.0


def modes(samples: int, measured: MeasuredPolicy) -> Measured:
    """Count the goals in whose directions actions that are sampled at the origin have modes."""
    policy = measured.policy
    generator = np.random.default_rng(derived_seeds(policy.spec.seed, "examination/modes", 0, 1))
    noise = generator.standard_normal((samples, policy.noise_dim))
    with _same_bits():
        actions, _ = policy.sampled_and_mean(np.zeros((samples, 2), np.float32), noise)
    return Measured(float(multigoal.modes(np.clip(actions, -1, 1))))


Measuring = Callable[[MeasuredPolicy], Measured]


def _disturbed(sampled: bool) -> dict[str, Measuring]:
    """Return {name: measure} of a policy under disturbance, by sampled actions or by those that score it."""
    calm = Conditions(sampled=sampled)
    noisy_actions, noisy_observations = replace(calm, action_noise=0.3), replace(calm, observation_noise=0.1)
    unchanged, heavy = replace(calm, world=UNCHANGED_MASS), replace(calm, world=HEAVY_WORLD)
    return {
        "undisturbed": partial(mean_return, calm),
        "action-noise": partial(mean_return, noisy_actions),
        "observation-noise": partial(mean_return, noisy_observations),
        "mass": partial(mean_return, heavy),
        "unchanged-mass": partial(mean_return, unchanged),
        "lost-to-action-noise": partial(lost_share, calm, noisy_actions),
        "lost-to-observation-noise": partial(lost_share, calm, noisy_observations),
        "lost-to-mass": partial(lost_share, unchanged, heavy),
    }


SHARE_OF_A_GOAL = 0.1
TO_GOALS = Conditions(episodes=100, world=FROM_ORIGIN, sampled=True)

MEASURING: dict[str, Measuring] = {
    **_disturbed(sampled=False),
    **{f"{name}-sampled": measuring for name, measuring in _disturbed(sampled=True).items()},
    "goals": partial(goals, TO_GOALS),
    "goal-entropy": partial(goal_entropy, TO_GOALS),
    "modes": partial(modes, 10_000),
}
"""{name of a measure in spec/measures.py's ROBUSTNESS: the function that measures it}."""


def measure(store: Store, run_id: str, names: Sequence[str], threads: int = 1) -> dict[str, float]:
    """Return the values of `measurements`."""
    return {name: one.value for name, one in measurements(store, run_id, names, threads).items()}


def measurements(store: Store, run_id: str, names: Sequence[str], threads: int = 1) -> dict[str, Measured]:
    """Return a finished run's robustness measures {name: value and reason}, measuring what is not stored yet.

    All are NaN if the run diverged. Raises InputError if the run has not ended or is damaged, or if a measure is
    unknown or cannot be measured in the run's environment.
    """
    run = store.run(run_id)
    status = run.status()
    if status["status"] not in ("finished", "diverged"):
        raise InputError(f"run {run_id} cannot be measured: {status.get('reason') or 'it has not finished'}")
    spec = run.spec()
    check_robustness(names, spec.env)
    trained_with = read_json(run.path / "spec.json").get("env_definition", {})
    if changed := sources.differences(trained_with, describe(spec.env).definition):
        raise InputError(f"run {run_id} cannot be measured: it was trained with {' and '.join(changed)}")
    if status["status"] == "diverged":
        return dict.fromkeys(names, Measured(math.nan, "the run diverged"))
    policy = fingerprint(run.policy)["sha256"]
    stored = _stored(run, policy)
    if not stored.keys() >= set(names):
        with locks.locked(store.locks / "robustness" / run_id):
            stored = _stored(run, policy)
            random = partial(measured_random_policy, store)
            measured = MeasuredPolicy(policy_of_run(run_id, store.root), random, threads)
            for name in names:
                if name not in stored:
                    with captured(f"run {run_id}, robustness measure {name}"):
                        one = MEASURING[name](measured)
                    stored[name] = one._asdict() | {"policy": policy, "version": ROBUSTNESS[name].version}
                    write_json(run.path / FILE, stored)
    return {name: _plain(stored[name]) for name in names}


def _plain(stored: Mapping[str, Any]) -> Measured:
    """Return a stored measurement, whose NaN is null."""
    value = stored["value"]
    return Measured(math.nan if value is None else value, stored["reason"])


def _stored(run: RunDirectory, policy: str) -> dict[str, dict[str, Any]]:
    """Return the stored measures of the policy with this SHA-256. Those of another policy, or damaged, do not count."""
    try:
        known = read_json(run.path / FILE)
        return {
            name: known[name]
            for name, one in ROBUSTNESS.items()
            if name in known and (known[name]["policy"], known[name]["version"]) == (policy, one.version)
        }
    except (FileNotFoundError, InputError, TypeError, KeyError):
        return {}
