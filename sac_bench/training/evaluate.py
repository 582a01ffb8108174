"""Evaluation of a cohort's policies: whole episodes in separate environments."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from sac_bench.envs.guard import Fails, raise_at_once
from sac_bench.envs.known import EnvSpec
from sac_bench.envs.output import captured
from sac_bench.envs.pool import Pool
from sac_bench.training.cohort import Cohort
from sac_bench.training.q_bias import QBiasTracker
from sac_bench.training.random import Draws, Moment, WordsAhead, derived_seeds

POLICIES = ("mean", "sample")
"""The mean action, and actions sampled from the policy, as each algorithm's `act` defines them."""


class Episodes(NamedTuple):
    """Undiscounted returns and lengths [M, policies, episodes], and the bias of Q on them, {name: [M]}."""

    policies: tuple[str, ...]
    returns: np.ndarray
    lengths: np.ndarray
    bias: dict[str, Tensor]
    not_finite: dict[int, str]
    """{member: the first non-finite quantity, "observation", "action" or "reward"} of members that had one."""

    def of_first(self, members: int) -> Episodes:
        """Return the episodes of the first `members` members."""
        bias = {name: values[:members] for name, values in self.bias.items()}
        return self._replace(returns=self.returns[:members], lengths=self.lengths[:members], bias=bias)


def evaluate(
    cohort: Cohort,
    env: EnvSpec,
    seeds: list[int],
    steps: int,
    episodes: int,
    threads: int,
    idle: Collection[int] = (),
    fails: Fails = raise_at_once,
    policies: Collection[str] = POLICIES,
) -> Episodes:
    """Play `episodes` episodes of every member by each of `policies`, after `steps` transitions.

    Both policies start from the same states, drawn from (run seed, steps). An evaluation depends on no earlier one, so
    nothing of it needs saving. Its pool is created for it and then closed. The acting program always has rows for both
    policies, so an episode's numbers do not depend on which others are played. The bias of Q is NaN unless the policy
    of which Q is the value is played.

    Members in `idle` are skipped. A member whose environment raises is skipped from then on, and `fails` is called with
    its index.
    """
    m, e = cohort.size, episodes
    starts = [derived_seeds(seed, "evaluation environments", steps, e) * len(POLICIES) for seed in seeds]
    played = tuple(name for name in POLICIES if name in policies)
    running = np.tile(np.repeat([name in played for name in POLICIES], e), m)
    of_member = running.reshape(m, 2 * e)
    of_member[list(idle)] = False
    not_finite: dict[int, str] = {}

    def check(what: str, values: np.ndarray) -> None:
        if not np.isfinite(values).all():
            for k in np.flatnonzero(running & ~np.isfinite(values.reshape(len(running), -1)).all(1)):
                not_finite.setdefault(int(k) // (2 * e), what)

    def failed(place: int, method: str, error: BaseException) -> None:
        of_member[place // (2 * e)] = False
        fails(place // (2 * e), method, error)

    pool = Pool(
        env.id, list(itertools.chain(*starts)), threads, idle=set(np.flatnonzero(~running).tolist()), fails=failed
    )
    draws = Draws({f"evaluation/{steps}": (e, cohort.learner.noise_dim)}, cohort.dtype, cohort.device)
    words = WordsAhead(draws, cohort.seeds)
    returns, lengths = np.zeros(m * 2 * e), np.zeros(m * 2 * e, dtype=np.int64)
    terminated = np.zeros(m * 2 * e, dtype=bool)
    value = cohort.learner.value
    tracker, half = (
        (QBiasTracker(cohort, e, env.max_episode_steps), POLICIES.index(value.policy)) if value else (None, 0)
    )

    def of_value(x: np.ndarray) -> np.ndarray:  # the episodes of the policy whose Q is measured
        return x.reshape(m, 2, e)[:, half]

    observation = pool.reset()
    while running.any():
        check("observation", observation)
        one = Moment(draws, words.at(int(lengths.max()))).normal(f"evaluation/{steps}")
        both = one.repeat(1, 2, 1)
        shaped = torch.as_tensor(observation, device=cohort.device).unflatten(0, (m, 2 * e))
        sampled, mean = cohort.act(shaped, both)
        action = torch.cat([mean[:, :e], sampled[:, e:]], dim=1).flatten(0, 1).cpu().numpy()
        check("action", action)
        step = pool.play(np.nan_to_num(action), running)
        check("reward", step.reward)
        returns += step.reward
        lengths += running
        terminated |= step.terminated
        running &= ~(step.terminated | step.truncated)
        if tracker and POLICIES[half] in played:
            tracker.add(shaped.unflatten(1, (2, e))[:, half], one, of_value(step.reward))
        observation = step.observation
    pool.close()
    bias = tracker.bias(of_value(lengths), of_value(terminated)) if tracker else {}
    rows = [POLICIES.index(name) for name in played]
    shape = (m, len(POLICIES), e)
    return Episodes(played, returns.reshape(shape)[:, rows], lengths.reshape(shape)[:, rows], bias, not_finite)


class RandomEpisodes(NamedTuple):
    """E episodes of uniformly random actions."""

    returns: np.ndarray  # [E], undiscounted
    deviation: np.ndarray  # [D], standard deviation over all observations that preceded an action


def random_episodes(env: EnvSpec, episodes: int = 100) -> RandomEpisodes:
    """Play episodes of uniformly random actions, from fixed seeds."""
    seeds = derived_seeds(0, "random policy environments", 0, episodes)
    generator = np.random.default_rng(0)
    returns, running = np.zeros(episodes), np.ones(episodes, dtype=bool)
    count, total, squares = 0, np.zeros(env.observation_dim), np.zeros(env.observation_dim)
    with (
        contextlib.chdir("."),  # the environment may change the working directory
        captured(f"{env.id}, random policy"),
        contextlib.closing(Pool(env.id, seeds, threads=1)) as pool,
    ):
        observation = pool.reset()
        about = observation[0].astype(np.float64)  # squares of differences from it lose fewer digits
        while running.any():
            difference = observation[running] - about
            count, total, squares = count + len(difference), total + difference.sum(0), squares + (difference**2).sum(0)
            step = pool.play(generator.uniform(-1, 1, (episodes, env.action_dim)), running)
            returns += step.reward
            running &= ~(step.terminated | step.truncated)
            observation = step.observation
    variance = squares / count - (total / count) ** 2
    return RandomEpisodes(returns, np.sqrt(np.maximum(variance, 0.0)))
