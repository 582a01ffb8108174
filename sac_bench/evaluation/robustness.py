"""Robustness: measures of a trained policy, one number per run (spec/measures.py names them).

All measures of a run start from the same states, drawn from its seed, so a disturbed policy is compared with itself,
undisturbed, from the same start. Unless a measure says otherwise, a policy acts as it is scored: by its mean action, or
by sampled actions if its algorithm has no mean action.

    results/runs/<run_id>/robustness.json     {name: {value, policy: SHA-256 of its file, version}}
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs import sources
from sac_bench.envs.heavy import heavier, with_masses
from sac_bench.envs.multigoal import goal_shares
from sac_bench.envs.output import captured
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import Policy, load_policy
from sac_bench.spec.measures import ROBUSTNESS, check_robustness
from sac_bench.store import locks
from sac_bench.store.atomic import fingerprint, read_json, write_json
from sac_bench.store.run import RunDirectory
from sac_bench.store.store import Store
from sac_bench.training.random import derived_seeds

FILE = "robustness.json"


@dataclass(frozen=True)
class Conditions:
    """The conditions under which a policy is played.

    action_noise: standard deviation of Gaussian noise on each action in [-1, 1], which is then clipped.
    observation_noise: standard deviation of Gaussian noise on each observed number, in units of that number's standard
    deviation over the same policy's episodes without noise.
    mass: factor on the masses and inertias of the bodies. Uses Gymnasium's environment of the same name, because
    EnvPool's cannot be changed. None: the run's own environment.
    sampled: act by sampled actions, whichever actions score the policy.
    """

    episodes: int = 10
    action_noise: float = 0.0
    observation_noise: float = 0.0
    mass: float | None = None
    sampled: bool = False


class Played(NamedTuple):
    """E episodes with undiscounted returns."""

    returns: NDArray[np.float64]  # [E]
    last: NDArray[np.float32]  # [E, D], the observation after the last action
    terminated: NDArray[np.bool_]  # [E]
    deviation: NDArray[np.float64]  # [D], standard deviation over all observations that preceded an action


def play(policy: Policy, conditions: Conditions, noise: NDArray[np.float64] | float, threads: int) -> Played:
    """Play whole episodes of a policy, reproducible to the bit. noise: standard deviations on the observed numbers [D].

    Matrix products use one thread: small ones are no faster with more, and their bits may depend on the number.
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


class MeasuredPolicy:
    """A policy and its episodes by conditions, so that none are played twice."""

    def __init__(self, policy: Policy, threads: int = 1) -> None:
        self._policy, self._threads = policy, threads
        self._played: dict[Conditions, Played] = {}

    def played(self, conditions: Conditions) -> Played:
        """Return the episodes under some conditions, playing them if necessary."""
        if conditions not in self._played:
            noise: NDArray[np.float64] | float = 0.0
            if conditions.observation_noise:
                calm = self.played(replace(conditions, observation_noise=0.0))
                noise = conditions.observation_noise * calm.deviation
            self._played[conditions] = play(self._policy, conditions, noise, self._threads)
        return self._played[conditions]


def mean_return(conditions: Conditions, policy: MeasuredPolicy) -> float:
    return float(policy.played(conditions).returns.mean())


def lost_return(calm: Conditions, disturbed: Conditions, policy: MeasuredPolicy) -> float:
    return mean_return(calm, policy) - mean_return(disturbed, policy)


def goals(conditions: Conditions, policy: MeasuredPolicy) -> float:
    played = policy.played(conditions)
    return float((goal_shares(played.last, played.terminated) >= SHARE_OF_A_GOAL).sum())


def goal_entropy(conditions: Conditions, policy: MeasuredPolicy) -> float:
    played = policy.played(conditions)
    return entropy(goal_shares(played.last, played.terminated))


def entropy(shares: NDArray[np.float64]) -> float:
    """Return the entropy in nats of shares, normalised to sum to 1; 0 if all are 0."""
    share = shares[shares > 0] / shares.sum()
    return float(-(share * np.log(share)).sum()) + 0.0  # no -0.0


SHARE_OF_A_GOAL = 0.1
CALM = Conditions()
NOISY_ACTIONS = Conditions(action_noise=0.3)
NOISY_OBSERVATIONS = Conditions(observation_noise=0.1)
UNCHANGED_MASS = Conditions(mass=1.0)
HEAVY = Conditions(mass=1.5)
SAMPLED = Conditions(episodes=100, sampled=True)

MEASURING: dict[str, Callable[[MeasuredPolicy], float]] = {
    "undisturbed": partial(mean_return, CALM),
    "action-noise": partial(mean_return, NOISY_ACTIONS),
    "observation-noise": partial(mean_return, NOISY_OBSERVATIONS),
    "mass": partial(mean_return, HEAVY),
    "unchanged-mass": partial(mean_return, UNCHANGED_MASS),
    "lost-to-action-noise": partial(lost_return, CALM, NOISY_ACTIONS),
    "lost-to-observation-noise": partial(lost_return, CALM, NOISY_OBSERVATIONS),
    "lost-to-mass": partial(lost_return, UNCHANGED_MASS, HEAVY),
    "goals": partial(goals, SAMPLED),
    "goal-entropy": partial(goal_entropy, SAMPLED),
}
"""{name of a measure in spec/measures.py's ROBUSTNESS: the function that measures it}."""


def measure(store: Store, run_id: str, names: Sequence[str], threads: int = 1) -> dict[str, float]:
    """Return a finished run's robustness measures {name: value}, measuring what is not stored yet.

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
        return dict.fromkeys(names, math.nan)
    policy = fingerprint(run.policy)["sha256"]
    stored = _stored(run, policy)
    if not stored.keys() >= set(names):
        with locks.locked(store.locks / "robustness" / run_id):
            stored = _stored(run, policy)
            measured = MeasuredPolicy(load_policy(run_id, store.root), threads)
            for name in names:
                if name not in stored:
                    with captured(f"run {run_id}, robustness measure {name}"):
                        value, version = MEASURING[name](measured), ROBUSTNESS[name].version
                    stored[name] = {"value": value, "policy": policy, "version": version}
                    write_json(run.path / FILE, stored)
    return {name: math.nan if stored[name]["value"] is None else stored[name]["value"] for name in names}


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
