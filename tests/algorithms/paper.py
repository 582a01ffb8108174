"""Soft Actor-Critic transcribed from the papers into NumPy float64, as a reference for our update.

[1] arXiv 1801.01290, Algorithm 1 (V network, fixed temperature). [2] arXiv 1812.05905, Algorithm 1. [3] arXiv 2101.05982
(REDQ): random critics in the target. [4] arXiv 2110.02034 (DroQ): critics with dropout and layer normalisation.

Nothing is shared with the package: losses are written as the papers print them, for one learner, and no derivative
is written by anyone. A gradient is taken by the complex step, f'(x) = Im f(x + ih) / h, a finite difference without
cancellation and so exact to rounding at h = 1e-30 (Squire & Trapp, SIAM Review 40, 1998). It asks that every
function here takes complex numbers; comparisons look at the real part.

Parameters are a flat vector: for each layer its weights [in, out] row by row, then its biases [out], then, where it
normalises, gains [out] and shifts [out]; of a policy whose deviation is its own, log sigma [A] comes last.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from scipy.special import erf
from scipy.stats import norm

Array = np.ndarray

ACTIVATIONS: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.where(x.real > 0, x, 0),
    "tanh": np.tanh,
    "elu": lambda x: np.where(x.real > 0, x, np.exp(x) - 1),
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2))),
}


def gradient(loss: Callable[[Array], Any], parameters: Array) -> Array:
    """d loss / d parameters [P], one complex step per parameter."""
    found = np.empty(len(parameters))
    for i in range(len(parameters)):
        moved = parameters.astype(complex)
        moved[i] += 1e-30j
        found[i] = loss(moved).imag / 1e-30
    return found


def network(
    parameters: Array,
    sizes: tuple[int, ...],
    x: Array,
    activation: str,
    normalises: bool = False,
    masks: list[Array] | None = None,
) -> Array:
    """x [B, in] -> [B, out]; a hidden layer is its product, dropout, normalisation and activation ([4] section 3)."""
    start = 0

    def take(*shape: int) -> Array:
        nonlocal start
        start += math.prod(shape)
        return parameters[start - math.prod(shape) : start].reshape(shape)

    for i, (rows, columns) in enumerate(pairwise(sizes)):
        weight, bias = take(rows, columns), take(columns)
        x = x @ weight + bias
        if i == len(sizes) - 2:
            break
        if masks:
            x = x * masks[i]
        if normalises:
            gain, shift = take(columns), take(columns)
            mean = x.mean(1, keepdims=True)
            x = gain * (x - mean) / np.sqrt(((x - mean) ** 2).mean(1, keepdims=True) + 1e-5) + shift
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

    def __init__(
        self, c: dict[str, Any], dims: tuple[int, int], actor: Array, critics: list[Array], value: Array | None
    ) -> None:
        d, a = dims
        self.c, self.action_dim = c, a
        self.actor, self.critics, self.value = actor.copy(), [q.copy() for q in critics], value
        self.first_alpha = c["temperature"] * (c["reward_scale"] if c["scale_temperature"] else 1.0)
        self.log_alpha = np.log(self.first_alpha) if self.first_alpha else 0.0
        self.targets = [value.copy()] if value is not None else [q.copy() for q in critics]
        k = c["mixture"]
        self.average_actor = actor.copy()  # [2] has none; it moves as the targets do
        self.seen: list[Array] = []
        self.of_policy: dict[str, Any] = {}  # figures of the policy's last update
        self.actor_sizes, self.q_sizes, self.v_sizes = (
            (d, *c["layers"], k * (2 * a + 1) if k > 1 else 2 * a if c["state_dependent_std"] else a),
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
        return float(np.exp(self.log_alpha)) if self.c["learn_temperature"] else self.first_alpha

    # -- the functions of the papers ----------------------------------------------------------------------------

    def gaussians(self, actor: Array, s: Array) -> tuple[Array, Array, Array]:
        """The policy at states s before its tanh: weights [B, K], mu and sigma [B, K, A] of K Gaussians."""
        c, k, a = self.c, self.c["mixture"], self.action_dim
        own = [] if c["state_dependent_std"] else actor[-a:]
        out = network(actor[: len(actor) - len(own)], self.actor_sizes, s, c["activation"], c["layer_norm"] == "all")
        weights = np.ones((len(s), 1))
        if k > 1:
            weights, out = np.exp(out[:, :k]) / np.exp(out[:, :k]).sum(1, keepdims=True), out[:, k:]
        out = out.reshape(len(s), k, -1)
        mu, log_sigma = (out, np.tile(own, (len(s), 1, 1))) if len(own) else (out[..., :a], out[..., a:])
        low, high = c["log_std_min"], c["log_std_max"]
        if low is None:
            low = -5 if c["log_std_form"] == "tanh" else -20
        if c["log_std_form"] == "tanh":
            log_sigma = low + (high - low) * (np.tanh(log_sigma) + 1) / 2
        else:
            log_sigma = np.where(log_sigma.real < low, low, np.where(log_sigma.real > high, high, log_sigma))
        return weights, mu, np.exp(log_sigma)

    def pi(self, actor: Array, s: Array, epsilon: Array) -> tuple[Array, Array]:
        """a = tanh(mu + sigma epsilon) and log pi(a|s): [1] eq. 20, 21. In a mixture, the last number of epsilon chooses the component."""
        weights, mu, sigma = self.gaussians(actor, s)
        k = self.choose(weights, epsilon)
        at = np.arange(len(s))
        u = mu[at, k] + sigma[at, k] * epsilon[:, : self.action_dim]
        return np.tanh(u), self.log_density(actor, s, u) - np.log(1 - np.tanh(u) ** 2).sum(1)

    def choose(self, weights: Array, epsilon: Array) -> Array:
        """The components [B] that normal numbers choose: the first whose cumulated weight exceeds the number's Phi."""
        if self.c["mixture"] == 1:
            return np.zeros(len(weights), dtype=int)
        return (np.cumsum(weights.real, axis=1) > norm.cdf(epsilon[:, -1:])).argmax(1)

    def log_density(self, actor: Array, s: Array, u: Array) -> Array:
        """log sum_k w_k N(u; mu_k, sigma_k) [B], u [B, A] before the tanh."""
        weights, mu, sigma = self.gaussians(actor, s)
        normal = np.exp(-(((u[:, None] - mu) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
        return np.log((weights * normal.prod(2)).sum(1))

    def q(self, parameters: Array, s: Array, a: Array, masks: list[Array] | None = None) -> Array:
        normalises = self.c["layer_norm"] != "none"
        return network(parameters, self.q_sizes, np.hstack([s, a]), self.c["activation"], normalises, masks)[:, 0]

    def v(self, parameters: Array, s: Array) -> Array:
        return network(parameters, self.v_sizes, s, self.c["activation"], self.c["layer_norm"] != "none")[:, 0]

    def masks(self, noise: dict[str, Array], name: str, critic: int) -> list[Array]:
        """Factors of a critic's hidden units in a pass: 0 with probability rate, else 1 / (1 - rate)."""
        rate, drawn = self.c["dropout_rate"], [u[critic] for key, u in noise.items() if f"dropout/{name}/" in key]
        return [np.where(u < rate, 0, 1 / (1 - rate)) for u in drawn]

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
        if c["normalize_observations"]:
            self.seen.append(s)
            mean, var = np.concatenate(self.seen).mean(0), np.concatenate(self.seen).var(0)
            s, s_next = (np.clip((x - mean) / np.sqrt(var + 1e-8), -10, 10) for x in (s, s_next))
        backup_alpha = alpha if c["entropy_in_backup"] else 0.0
        losses = {}

        value_before = self.value  # the baseline: V after its step has seen the same actions
        # The value of the states that follow: by the target V ([1] eq. 8), or by target Qs and entropy ([2] eq. 3).
        if self.value is not None:
            v_next = self.v(self.targets[0], s_next)
            sampled, log_pi = self.pi(self.actor, s, noise["policy"])
            v_target = (
                self.pool([self.q(q, s, sampled, self.masks(noise, "target", i)) for i, q in enumerate(self.critics)])
                - backup_alpha * log_pi
            )

            def j_v(psi):
                return np.mean((self.v(psi, s) - v_target) ** 2) / 2  # [1] eq. 5

            losses |= {"value_loss": j_v(self.value), "v": np.mean(self.v(self.value, s))}
            self.value = self.adam_value.step(self.value, gradient(j_v, self.value))
        else:
            actor = self.average_actor if c["target_policy"] else self.actor
            sampled, log_pi = self.pi(actor, s_next, noise["next_policy"])
            few = range(c["critics"])
            if c["target_critics"]:  # [3] Algorithm 1, line 7
                few = sorted(few, key=lambda i: noise["target_critics"][i])[: c["target_critics"]]
            qs = [self.q(self.targets[i], s_next, sampled, self.masks(noise, "target", k)) for k, i in enumerate(few)]
            v_next = self.pool(qs) - backup_alpha * log_pi

        # J_Q of each critic: [1] eq. 7 and 8, [2] eq. 5; a window of k rewards bootstraps after k steps, or never.
        y = np.zeros(len(s))
        for b in range(len(s)):
            k = int(batch["length"][b])
            for j in range(k):
                y[b] += c["gamma"] ** j * c["reward_scale"] * batch["reward"][b, j]
            cut = batch["truncated"][b] and not c["bootstrap_truncated"]
            if not batch["terminated"][b] and not cut:
                y[b] += c["gamma"] ** k * v_next[b]

        def j_q(theta, i):
            return np.mean((self.q(theta, s, a, self.masks(noise, "critic", i)) - y) ** 2) / 2

        before = self.critics
        losses["critic_loss"] = sum(j_q(q, i) for i, q in enumerate(before))
        losses["q"] = np.mean([self.q(q, s, a, self.masks(noise, "critic", i)) for i, q in enumerate(before)])
        self.critics = [
            adam.step(q, gradient(lambda theta, i=i: j_q(theta, i), q))
            for i, (adam, q) in enumerate(zip(self.adam_critics, before, strict=True))
        ]

        # J_pi on the critics just updated, the noise reparameterised: [1] eq. 12, [2] eq. 9.
        states, actions = s, len(noise["policy"]) // len(s)  # where choices have no path: several actions per state
        s = np.tile(s, (actions, 1))

        def cost(phi: Array) -> Any:
            sampled, log_pi = self.pi(phi, s, noise["policy"])
            qs = [self.q(q, s, sampled, self.masks(noise, "actor", i)) for i, q in enumerate(self.critics)]
            climbed = {"first": qs[0], "mean": sum(qs) / len(qs), "pooled": self.pool(qs)}[c["actor_objective"]]
            return alpha * log_pi - climbed

        # What has no path from noise to action: costs, less -V(s) or the mean of the state's others, times a
        # log-probability.
        f, weights = cost(self.actor), self.gaussians(self.actor, s)[0]
        if self.value is not None:
            less = f + self.v(value_before, s)
        else:
            b = len(states)
            less = np.array(
                [
                    f[i] - sum(f[j] for j in range(len(f)) if j % b == i % b and j != i) / max(1, actions - 1)
                    for i in range(len(f))
                ]
            )
        k, drawn = self.choose(weights, noise["policy"]), np.arctanh(self.pi(self.actor, s, noise["policy"])[0])

        def surrogate(phi: Array) -> Any:
            if c["gradient_estimator"] == "score-function":
                return np.mean(less * self.log_density(phi, s, drawn))
            choice = np.log(self.gaussians(phi, s)[0][np.arange(len(s)), k])
            return np.mean(cost(phi) + less * choice)

        sampled, log_pi = self.pi(self.actor, s, noise["policy"])
        self.updates += 1
        moves = self.updates % c["actor_delay"] == 0
        cools = self.updates % (c["temperature_delay"] or c["actor_delay"]) == 0
        if moves or cools:
            self.of_policy |= {"saturation": np.mean(np.abs(sampled) > 0.99), "entropy": float(-np.mean(log_pi))}
        if moves:
            self.of_policy["actor_loss"] = np.mean(f)
            self.actor = self.adam_actor.step(self.actor, gradient(surrogate, self.actor))

        # J(alpha): [2] eq. 18, as printed or with log alpha in the place of alpha, as the authors' code.
        if c["learn_temperature"] and cools:
            target_entropy = c["target_entropy"]
            if target_entropy is None:
                target_entropy = -c["target_entropy_scale"] * self.action_dim
            form = np.exp if c["temperature_objective"] == "alpha" else lambda x: x

            def j_alpha(x):
                return np.mean(-form(x[0]) * (log_pi + target_entropy))

            now = np.array([self.log_alpha])
            self.of_policy["temperature_loss"] = j_alpha(now)
            self.log_alpha = float(self.adam_alpha.step(now, gradient(j_alpha, now))[0])

        # The moving average, or a copy at every nth update: [1] section 5.2 and appendix E.
        if self.updates % c["target_period"] == 0:
            online = self.critics if self.value is None else [self.value]
            tau = c["tau"]
            self.targets = [tau * new + (1 - tau) * old for new, old in zip(online, self.targets, strict=True)]
            self.average_actor = tau * self.actor + (1 - tau) * self.average_actor
        return losses | self.of_policy | {"q_target": float(np.mean(y)), "temperature": alpha}
