"""Soft policy iteration on a small continuous chain: the algorithm that Soft Actor-Critic approximates.

Haarnoja et al., arXiv 1801.01290, section 4.1, for a reader who wants to see it without networks and samples.

The chain. A state is a number x in [-1, 1], an action a number a in [-1, 1], and one leads to the other:

    x' = (x + a) / 2,        r(x, a) = 1 - 2 (x' - 1/2)^2.

The best place is x' = 1/2; from x < 0 it is out of reach in one step. Episodes do not end.

The maximum-entropy objective (eq. 1) adds alpha times the policy's entropy to every reward. Its soft values obey

    Q(x, a) = r(x, a) + gamma V(x'),        V(x) = E_{a ~ pi(.|x)} [Q(x, a) - alpha log pi(a|x)]      (eq. 2, 3)

and soft policy iteration alternates
  - policy evaluation: find the V that satisfies both for the policy pi (Lemma 1);
  - policy improvement: in every state, the policy of the class that is closest, in Kullback-Leibler divergence,
    to the density exp(Q(x, .) / alpha) / Z(x) (eq. 4). It improves Q in every state and action (Lemma 2), and
    repeated it converges to the best policy of the class (Theorem 1).

How it becomes arithmetic. V is kept at S states and interpolated linearly between them; the expectation over actions
is a Gauss-Hermite sum over the nodes of u in a = tanh(u), u ~ N(mean, std^2), which is the policy class of SAC. Both
are averages with weights that are not negative and sum to one, so Lemmas 1 and 2 hold for the sums as they do for the
integrals, not only in the limit of a fine grid. Theorem 1 asks in addition that each improvement is the best in its
class; the search for it here is a local one, which a test compares with a fine grid of the whole class.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from tests.answers.squashed_gaussian import WEIGHTS, actions, entropy

Array = np.ndarray


def next_state(x: Array, a: Array) -> Array:
    return (x + a) / 2


def reward(x: Array, a: Array) -> Array:
    return 1 - 2 * (next_state(x, a) - 0.5) ** 2


@dataclass(frozen=True)
class Chain:
    """The problem: its discount, its temperature, and the states [S] at which V is kept."""

    gamma: float
    alpha: float
    states: Array = field(default_factory=lambda: np.linspace(-1, 1, 41))


class Policy(NamedTuple):
    """A squashed Gaussian in every state: mean and standard deviation of u, [S] each."""

    mean: Array
    std: Array


def interpolation(chain: Chain, x: Array) -> Array:
    """Weights [..., S] with which V at the states gives V(x) for x [...]; each row is positive and sums to one."""
    place = (x + 1) / 2 * (len(chain.states) - 1)
    below = np.clip(np.floor(place).astype(int), 0, len(chain.states) - 2)
    share = place - below
    weights = np.zeros((*np.shape(x), len(chain.states)))
    np.put_along_axis(weights, below[..., None], (1 - share)[..., None], -1)
    np.put_along_axis(weights, below[..., None] + 1, share[..., None], -1)
    return weights


def q_values(chain: Chain, v: Array, x: Array, a: Array) -> Array:
    """Q(x, a) = r(x, a) + gamma V(x') (eq. 2), for x and a that broadcast."""
    return reward(x, a) + chain.gamma * (interpolation(chain, next_state(x, a)) @ v)


def soft_value(chain: Chain, v: Array, x: Array, mean: Array, std: Array) -> Array:
    """E_a [Q(x, a) - alpha log pi(a|x)] (eq. 3) = E_a Q(x, a) + alpha H(pi(.|x)); x, mean and std broadcast."""
    a = actions(mean, std)
    return q_values(chain, v, np.asarray(x)[..., None], a) @ WEIGHTS + chain.alpha * entropy(mean, std)


def soft_backup(chain: Chain, policy: Policy, v: Array) -> Array:
    """The soft Bellman operator of a policy on V [S] (eq. 2 put into eq. 3); it contracts by gamma."""
    return soft_value(chain, v, chain.states, *policy)


def policy_evaluation(chain: Chain, policy: Policy) -> Array:
    """V [S] of a policy: the fixed point of its soft backup, V = b + gamma P V, solved as a linear system."""
    follow = next_state(chain.states[:, None], actions(*policy))
    transitions = np.einsum("n,sno->so", WEIGHTS, interpolation(chain, follow))
    gained = soft_backup(chain, policy, np.zeros(len(chain.states)))
    return np.linalg.solve(np.eye(len(chain.states)) - chain.gamma * transitions, gained)


def policy_improvement(chain: Chain, v: Array, policy: Policy) -> Policy:
    """In every state, a search for the squashed Gaussian closest to exp(Q / alpha) / Z (eq. 4).

    KL(pi || exp(Q / alpha) / Z) = log Z - (E_a Q + alpha H(pi)) / alpha, so the closest one has the largest soft
    value. The search starts at the old policy and keeps the best it saw, so no state gets worse: all Lemma 2 asks.
    """
    found = []
    for x, mean, std in zip(chain.states, *policy, strict=True):

        def lost(p, x=x):
            return -float(soft_value(chain, v, x, p[0], np.exp(p[1])))

        best = minimize(lost, [mean, np.log(std)], method="Nelder-Mead", options={"xatol": 1e-6, "fatol": 1e-12})
        found.append((best.x[0], np.exp(best.x[1])))
    return Policy(*np.array(found).T)


def soft_policy_iteration(chain: Chain, start: Policy, tolerance: float = 1e-6) -> list[tuple[Policy, Array]]:
    """The policies and their V [S], from `start` until no state's value grows by more than `tolerance`."""
    history = [(start, policy_evaluation(chain, start))]
    while len(history) < 2 or (history[-1][1] - history[-2][1]).max() > tolerance:
        policy, v = history[-1]
        improved = policy_improvement(chain, v, policy)
        history.append((improved, policy_evaluation(chain, improved)))
    return history


def soft_value_iteration(chain: Chain, grid: int = 2001) -> Array:
    """V [S] of the best policy of all, V(x) = alpha log integral exp(Q(x, a) / alpha) da (arXiv 1702.08165, eq. 5).

    No policy of any class can do better, but for the error of the sums.
    """
    a = np.linspace(-1, 1, grid)
    weights = np.full(grid, 2 / (grid - 1))
    weights[[0, -1]] /= 2
    x, v = chain.states[:, None], np.zeros(len(chain.states))
    while True:
        q = q_values(chain, v, x, a)
        top = q.max(1)
        new = top + chain.alpha * np.log(np.exp((q - top[:, None]) / chain.alpha) @ weights)
        if np.abs(new - v).max() < 1e-10:
            return new
        v = new
