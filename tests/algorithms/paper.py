"""Soft Actor-Critic transcribed from the papers into NumPy float64: what our update is checked against.

[1] arXiv 1801.01290, Algorithm 1 (V network, fixed temperature). [2] arXiv 1812.05905, Algorithm 1.

Nothing is shared with the package: losses are written as the papers print them, for one learner, and no derivative
is written by anyone. A gradient is taken by the complex step, f'(x) = Im f(x + ih) / h, a finite difference without
cancellation and so exact to rounding at h = 1e-30 (Squire & Trapp, SIAM Review 40, 1998). It asks that every
function here takes complex numbers; comparisons look at the real part.

Parameters are a flat vector: for each layer its weights [in, out] row by row, then its biases [out].
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import erf

Array = np.ndarray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x.real > 0, x, np.exp(x) - 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
}


def gradient(loss: Callable[[Array], Any], parameters: Array) -> Array:
    """d loss / d parameters [P], one complex step a parameter."""
    found = np.empty(len(parameters))
    for i in range(len(parameters)):
        moved = parameters.astype(complex)
        moved[i] += 1e-30j
        found[i] = loss(moved).imag / 1e-30
    return found


def network(parameters: Array, sizes: tuple[int, ...], x: Array, activation: str) -> Array:
    """x [B, in] -> [B, out]."""
    start = 0
    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weight = parameters[start : start + rows * columns].reshape(rows, columns)
        bias = parameters[start + rows * columns : start + rows * columns + columns]
        start += rows * columns + columns
        x = x @ weight + bias
        if i < len(sizes) - 2:
            x = ACTIVATIONS[activation](x)
    assert start == len(parameters)
    return x


class Adam:
    """arXiv 1412.6980, Algorithm 1."""

    def __init__(self, size: int, rate: float) -> None:
        self.m, self.v, self.t, self.rate = np.zeros(size), np.zeros(size), 0, rate

    def step(self, parameters: Array, g: Array) -> Array:
        self.t += 1
        self.m = 0.9 * self.m + 0.1 * g
        self.v = 0.999 * self.v + 0.001 * g**2
        m_hat, v_hat = self.m / (1 - 0.9**self.t), self.v / (1 - 0.999**self.t)
        return parameters - self.rate * m_hat / (np.sqrt(v_hat) + 1e-8)


class SoftActorCritic:
    """One learner; `c` holds the settings under the names of `SACConfig`.

    Parameters: actor [P], critics C x [P'], value [P''] or None, log_alpha. `targets` are the critics' or the value's.
    """

    def __init__(self, c: dict[str, Any], dims: tuple[int, int], actor: Array, critics: list[Array],
                 value: Array | None) -> None:  # fmt: skip
        d, a = dims
        self.c, self.action_dim = c, a
        self.actor, self.critics, self.value = actor.copy(), [q.copy() for q in critics], value
        self.log_alpha = np.log(c["temperature"]) if c["temperature"] else 0.0
        self.targets = [value.copy()] if value is not None else [q.copy() for q in critics]
        self.actor_sizes, self.q_sizes, self.v_sizes = (
            (d, *c["layers"], 2 * a),
            (d + a, *c["layers"], 1),
            (d, *c["layers"], 1),
        )
        self.adam_actor = Adam(len(actor), c["actor_lr"])
        self.adam_critics = [Adam(len(q), c["critic_lr"]) for q in critics]
        self.adam_value = None if value is None else Adam(len(value), c["value_lr"])
        self.adam_alpha = Adam(1, c["temperature_lr"])
        self.updates = 0

    @property
    def alpha(self) -> float:
        return float(np.exp(self.log_alpha)) if self.c["learn_temperature"] else self.c["temperature"]

    # -- the functions of the papers ----------------------------------------------------------------------------

    def pi(self, actor: Array, s: Array, epsilon: Array) -> tuple[Array, Array]:
        """a = tanh(mu + sigma epsilon) and log pi(a|s) = log N(u; mu, sigma) - sum log(1 - a^2): [1] eq. 20, 21."""
        out = network(actor, self.actor_sizes, s, self.c["activation"])
        mu, log_sigma = out[:, : self.action_dim], out[:, self.action_dim :]
        low, high = self.c["log_std_min"], self.c["log_std_max"]
        log_sigma = np.where(log_sigma.real < low, low, np.where(log_sigma.real > high, high, log_sigma))
        sigma = np.exp(log_sigma)
        u = mu + sigma * epsilon
        log_normal = -(((u - mu) / sigma) ** 2) / 2 - np.log(sigma * np.sqrt(2 * np.pi))
        return np.tanh(u), (log_normal - np.log(1 - np.tanh(u) ** 2)).sum(1)

    def q(self, parameters: Array, s: Array, a: Array) -> Array:
        return network(parameters, self.q_sizes, np.hstack([s, a]), self.c["activation"])[:, 0]

    def v(self, parameters: Array, s: Array) -> Array:
        return network(parameters, self.v_sizes, s, self.c["activation"])[:, 0]

    def pool(self, values: list[Array]) -> Array:
        """The minimum of the critics, their mean, or between."""
        smallest = values[0]
        for value in values[1:]:
            smallest = np.where(value.real < smallest.real, value, smallest)
        p = self.c["pessimism"]
        return p * smallest + (1 - p) * sum(values) / len(values)

    # -- one update ---------------------------------------------------------------------------------------------

    def update(self, batch: dict[str, Array], noise: dict[str, Array]) -> dict[str, float]:
        c, alpha = self.c, self.alpha
        if not c["stochastic_updates"]:  # mean actions everywhere: [1] section 5.2
            noise = {name: 0 * drawn for name, drawn in noise.items()}
        s, a, s_next = batch["observation"], batch["action"], batch["next_observation"]
        backup_alpha = alpha if c["entropy_in_backup"] else 0.0
        losses = {}

        # The value of the states that follow: by the target V ([1] eq. 8), or by target Qs and entropy ([2] eq. 3).
        if self.value is not None:
            v_next = self.v(self.targets[0], s_next)
            sampled, log_pi = self.pi(self.actor, s, noise["policy"])
            v_target = self.pool([self.q(q, s, sampled) for q in self.critics]) - backup_alpha * log_pi
            j_v = lambda psi: np.mean((self.v(psi, s) - v_target) ** 2) / 2  # [1] eq. 5
            losses |= {"value_loss": j_v(self.value), "v": np.mean(self.v(self.value, s))}
            self.value = self.adam_value.step(self.value, gradient(j_v, self.value))
        else:
            sampled, log_pi = self.pi(self.actor, s_next, noise["next_policy"])
            v_next = self.pool([self.q(q, s_next, sampled) for q in self.targets]) - backup_alpha * log_pi

        # J_Q of each critic: [1] eq. 7 and 8, [2] eq. 5; a window of k rewards bootstraps after k steps, or never.
        y = np.zeros(len(s))
        for b in range(len(s)):
            k = int(batch["length"][b])
            for j in range(k):
                y[b] += c["gamma"] ** j * c["reward_scale"] * batch["reward"][b, j]
            cut = batch["truncated"][b] and not c["bootstrap_truncated"]
            if not batch["terminated"][b] and not cut:
                y[b] += c["gamma"] ** k * v_next[b]
        j_q = lambda theta: np.mean((self.q(theta, s, a) - y) ** 2) / 2
        losses["critic_loss"] = sum(j_q(q) for q in self.critics)
        losses["q"] = np.mean([self.q(q, s, a) for q in self.critics])
        self.critics = [adam.step(q, gradient(j_q, q)) for adam, q in zip(self.adam_critics, self.critics, strict=True)]

        # J_pi on the critics just updated, the noise reparameterised: [1] eq. 12, [2] eq. 9.
        def j_pi(phi: Array) -> Any:
            sampled, log_pi = self.pi(phi, s, noise["policy"])
            qs = [self.q(q, s, sampled) for q in self.critics]
            return np.mean(alpha * log_pi - (qs[0] if c["actor_objective"] == "first" else self.pool(qs)))

        losses["actor_loss"] = j_pi(self.actor)
        sampled, log_pi = self.pi(self.actor, s, noise["policy"])
        losses["saturation"] = np.mean(np.abs(sampled) > 0.99)
        self.actor = self.adam_actor.step(self.actor, gradient(j_pi, self.actor))

        # J(alpha) with log alpha in the place of alpha, as the authors' code: [2] eq. 18.
        if c["learn_temperature"]:
            target_entropy = -c["target_entropy_scale"] * self.action_dim
            j_alpha = lambda x: np.mean(-x[0] * (log_pi + target_entropy))
            now = np.array([self.log_alpha])
            losses["temperature_loss"] = j_alpha(now)
            self.log_alpha = float(self.adam_alpha.step(now, gradient(j_alpha, now))[0])

        # The moving average, or a copy every so many updates: [1] section 5.2 and appendix E.
        self.updates += 1
        if self.updates % c["target_period"] == 0:
            online = self.critics if self.value is None else [self.value]
            tau = c["tau"]
            self.targets = [tau * new + (1 - tau) * old for new, old in zip(online, self.targets, strict=True)]
        return losses | {"q_target": float(np.mean(y)), "entropy": float(-np.mean(log_pi)), "temperature": alpha}
