"""One update of SAC's successors, transcribed from their papers and code into NumPy float64.

REDQ (arXiv 2101.05982), SimBa (2410.09754), BRO (2405.16158), XQC (2509.25174), SimbaV2 (2502.15280) and FlashSAC. As in
`paper`, nothing is shared with the package, and gradients are complex steps. `test_bodies` has the networks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tests.algorithms.paper import Array, gradient
from tests.algorithms.test_bodies import PAPERS, BatchNorm, relu
from tests.algorithms.test_heads import projection_in_numpy

Leaves = list[Array]
"""A network's parameters or running statistics, in order."""
TINY = 1e-8
"""Added to norms before a division, as in SimbaV2's code."""


def plain(p: Leaves, x: Array, bn: BatchNorm) -> Array:
    for i in range(0, len(p) - 2, 2):
        x = relu(x @ p[i] + p[i + 1])
    return x @ p[-2] + p[-1]


NETWORKS: dict[str, Callable[..., Array]] = PAPERS | {"plain": plain}


def flat(leaves: Leaves) -> Array:
    return np.concatenate([leaf.ravel() for leaf in leaves])


def parts(vector: Array, like: Leaves) -> Leaves:
    """The inverse of `flat`."""
    bounds = np.cumsum([leaf.size for leaf in like])[:-1]
    return [part.reshape(leaf.shape) for part, leaf in zip(np.split(vector, bounds), like, strict=True)]


class Trained:
    """Parameters, running statistics, and the moments of Adam (arXiv 1412.6980) or AdamW (1711.05101)."""

    def __init__(self, leaves: Leaves, running: Leaves) -> None:
        self.leaves, self.running = [leaf.copy() for leaf in leaves], [leaf.copy() for leaf in running]
        self.m = self.v = np.zeros_like(flat(leaves))
        self.t = 0

    def step(self, g: Array, c: dict[str, Any], rate: float, decay: float) -> None:
        b1, b2 = c["adam_beta1"], c["adam_beta2"]
        old = flat(self.leaves)
        if c["decoupled_decay"]:
            old = old - rate * decay * old
        self.t += 1
        self.m, self.v = b1 * self.m + (1 - b1) * g, b2 * self.v + (1 - b2) * g**2
        m, v = self.m / (1 - b1**self.t), self.v / (1 - b2**self.t)
        self.leaves = parts(old - rate * m / (np.sqrt(v) + c["adam_epsilon"]), self.leaves)

    def project(self, body: str, how: str) -> None:
        """Every output's weights have norm 1; with norms, gains and shifts together have norm sqrt(units)."""
        if how == "none":
            return
        self.leaves = [p / (np.sqrt((p**2).sum(0)) + TINY) if p.ndim == 2 else p for p in self.leaves]
        if how == "weights-and-norms":
            assert body == "batch-norm-residual"
            for i in (0, 4, 7, 10, 13):  # the gains of batch norms, each before its shift
                gain, shift = self.leaves[i : i + 2]
                factor = np.sqrt(len(gain)) / (np.sqrt((gain**2 + shift**2).sum()) + TINY)
                self.leaves[i : i + 2] = gain * factor, shift * factor
            gain = self.leaves[15]  # of the RMS norm
            self.leaves[15] = gain * np.sqrt(len(gain)) / (np.sqrt((gain**2).sum()) + TINY)


class Successor:
    """One learner; `c` holds the settings under the names of `SACConfig`, with resets by number of update."""

    def __init__(self, c: dict[str, Any], actor: Trained, critics: list[Trained], action_dim: int) -> None:
        self.c, self.action_dim, self.number = c, action_dim, 0
        self.start = [(one.leaves, one.running) for one in (actor, *critics)]
        self.seen: list[Array] = []
        self.returns: list[float] = []
        self.restart()

    def restart(self) -> None:
        self.actor, *self.critics = [Trained(*one) for one in self.start]
        self.targets = [[leaf.copy() for leaf in q.leaves] for q in self.critics]
        self.log_alpha = Trained([np.log([self.c["temperature"]])], [])

    @property
    def alpha(self) -> float:
        return float(np.exp(self.log_alpha.leaves[0][0]))

    def collect(self, rewards: list[float], gamma: float) -> None:
        """Add an episode's rewards: the return so far, discounted, after each."""
        g = 0.0
        for reward in rewards:
            g = gamma * g + reward
            self.returns.append(g)

    def normalised(self, batch: dict[str, Array]) -> tuple[Array, Array, Array]:
        s, s_next, r = batch["observation"], batch["next_observation"], batch["reward"][:, 0]
        if self.c["normalize_observations"]:
            self.seen.append(s)
            every = np.concatenate(self.seen)
            s, s_next = (np.clip((x - every.mean(0)) / np.sqrt(every.var(0) + 1e-8), -10, 10) for x in (s, s_next))
        if self.c["normalize_rewards"]:
            divisor = np.sqrt(np.var(self.returns) + 1e-8)
            if self.c["return_bound"]:
                divisor = max(divisor, np.abs(self.returns).max() / self.c["return_bound"])
            r = r / divisor
        return s, s_next, r

    # -- networks -------------------------------------------------------------------------------------------------

    def pi(self, leaves: Leaves, running: Leaves, s: Array, epsilon: Array, by_batch: bool) -> tuple[Array, ...]:
        """Actions, their log-densities, and the norms with the statistics of this batch."""
        bn = BatchNorm(running, by_batch)
        out = NETWORKS[self.c["actor_body"] or self.c["body"]](leaves, s, bn)
        mu, log_sigma = out[:, : self.action_dim], out[:, self.action_dim :]
        low, high = self.c["log_std_min"], self.c["log_std_max"]
        if self.c["log_std_form"] == "tanh":
            low = -5.0 if low is None else low
            log_sigma = low + (high - low) * (np.tanh(log_sigma) + 1) / 2
        else:
            low = -20.0 if low is None else low
            log_sigma = np.where(log_sigma.real < low, low, np.where(log_sigma.real > high, high, log_sigma))
        u = mu + np.exp(log_sigma) * epsilon
        size = np.where(u.real < 0, -u, u)
        slope = np.log(4) - 2 * size - 2 * np.log(1 + np.exp(-2 * size))  # log(1 - tanh(u)^2), also where a is almost 1
        log_pi = (-(epsilon**2) / 2 - log_sigma - np.log(2 * np.pi) / 2 - slope).sum(1)
        return np.tanh(u), log_pi, bn

    def outputs(self, leaves: Leaves, running: Leaves, x: Array, by_batch: bool) -> tuple[Array, BatchNorm]:
        bn = BatchNorm(running, by_batch)
        return NETWORKS[self.c["body"]](leaves, x, bn), bn

    @property
    def atoms(self) -> Array:
        return np.linspace(self.c["v_min"], self.c["v_max"], self.c["atoms"])

    def log_probabilities(self, logits: Array) -> Array:
        return logits - np.log(np.exp(logits).sum(1, keepdims=True))

    def expectation(self, outputs: Array) -> Array:
        if self.c["critic_head"] == "categorical":
            return np.exp(self.log_probabilities(outputs)) @ self.atoms
        return outputs.mean(1)  # of one output, or of quantiles

    # -- one update -----------------------------------------------------------------------------------------------

    def update(self, batch: dict[str, Array], noise: dict[str, Array]) -> dict[str, float]:
        c = self.c
        self.number += 1
        if self.number in c["resets"]:
            self.restart()
        done = c["updates_start"] + (self.number - 1) / c["utd"]
        left = max(0.0, 1 - done / c["anneal_steps"]) if c["anneal_steps"] else 1.0
        if c["lr_schedule"] == "cosine":
            left = (1 + np.cos(np.pi * (1 - left))) / 2
        self.share = c["anneal_to"] + (1 - c["anneal_to"]) * left
        s, s_next, r = self.normalised(batch)
        moves, alpha, before = (
            self.number % c["actor_delay"] == 0,
            self.alpha,
            [(q.leaves, q.running) for q in self.critics],
        )
        losses = {"temperature": alpha}
        if c["update_order"] == "policy-first" and moves:
            losses |= self.move_policy(s, noise["policy"], before, alpha)
        losses |= self.move_critics(s, s_next, r, batch, noise)
        if c["update_order"] != "policy-first" and moves:
            after = [(q.leaves, q.running) for q in self.critics]
            losses |= self.move_policy(s, noise["policy"], before if c["update_order"] == "together" else after, alpha)
        tau = c["tau"]
        for target, q in zip(self.targets, self.critics, strict=True):
            target[:] = [tau * new + (1 - tau) * old for new, old in zip(q.leaves, target, strict=True)]
        return losses

    def descend(self, of: Trained, name: str, loss: Callable[[Leaves], Any], decay: float) -> None:
        g = gradient(lambda vector: loss(parts(vector, of.leaves)), flat(of.leaves))
        of.step(g, self.c, self.c[f"{name}_lr"] * self.share, decay)

    def move_critics(
        self, s: Array, s_next: Array, r: Array, batch: dict[str, Array], noise: dict[str, Array]
    ) -> dict[str, float]:
        c, n = self.c, len(s)
        a_next, log_pi, _ = self.pi(self.actor.leaves, self.actor.running, s_next, noise["next_policy"], False)
        now, later = np.hstack([s, batch["action"]]), np.hstack([s_next, a_next])
        x = np.vstack([now, later]) if c["joint_pass"] else now
        chosen = range(c["critics"])
        if c["target_critics"]:
            chosen = np.argsort(noise["target_critics"])[: c["target_critics"]]
        of_targets = x if c["joint_pass"] else later
        following = [self.outputs(self.targets[i], self.critics[i].running, of_targets, True)[0][-n:] for i in chosen]
        bootstrap = c["gamma"] * (1 - batch["terminated"])

        def backup(z: Array) -> Array:
            return r + bootstrap * (z - self.alpha * log_pi)

        if c["critic_head"] == "categorical":
            lowest = np.argmin([self.expectation(one) for one in following], axis=0)
            p = np.exp(self.log_probabilities(np.array([following[i][b] for b, i in enumerate(lowest)])))
            y = np.array([backup(z) for z in self.atoms]).T
            m = np.array([projection_in_numpy(y[b], p[b], self.atoms) for b in range(n)])
            q_target = (y * p).sum(1)

            def each(outputs: Array) -> Array:
                return -(m * self.log_probabilities(outputs)).sum(1)

        elif c["critic_head"] == "quantile":  # of the mean or the minimum of the critics' quantiles
            pool = (1 - c["pessimism"]) * np.mean(following, axis=0) + c["pessimism"] * np.min(following, axis=0)
            y = np.array([backup(z) for z in pool.T]).T
            levels = (np.arange(c["atoms"]) + 0.5) / c["atoms"]
            q_target = y.mean(1)

            def each(outputs: Array) -> Array:
                u = y[:, None, :] - outputs[:, :, None]
                k = c["kappa"]
                size = np.where(u.real < 0, -u, u)
                huber = np.where(size.real <= k, u**2 / 2, k * (size - k / 2)) / k
                return (np.abs(levels[:, None] - (u.real < 0)) * huber).mean((1, 2))

        else:
            q_target = y = backup(np.min([one[:, 0] for one in following], axis=0))

            def each(outputs: Array) -> Array:
                return (outputs[:, 0] - y) ** 2 / 2

        total, values = 0.0, []
        for q in self.critics:
            running = q.running

            def loss(leaves: Leaves, running: Leaves = running) -> Any:
                return each(self.outputs(leaves, running, x, True)[0][:n]).mean()

            outputs, bn = self.outputs(q.leaves, running, x, True)
            total, values = total + loss(q.leaves), [*values, self.expectation(outputs[:n]).mean()]
            self.descend(q, "critic", loss, c["critic_weight_decay"])
            q.project(c["body"], c["project"])
            q.running = bn.moved(c["norm_momentum"])
        return {"critic_loss": total, "q": np.mean(values), "q_target": q_target.mean()}

    def move_policy(
        self, s: Array, epsilon: Array, critics: list[tuple[Leaves, Leaves]], alpha: float
    ) -> dict[str, float]:
        c, running = self.c, self.actor.running

        def loss(leaves: Leaves) -> Any:
            a, log_pi, _ = self.pi(leaves, running, s, epsilon, True)
            each = [self.expectation(self.outputs(*q, np.hstack([s, a]), False)[0]) for q in critics]
            smallest = each[0]
            for one in each[1:]:
                smallest = np.where(one.real < smallest.real, one, smallest)
            mean = sum(each) / len(each)
            pool = mean if c["actor_objective"] == "mean" else (1 - c["pessimism"]) * mean + c["pessimism"] * smallest
            return (alpha * log_pi - pool).mean()

        _, log_pi, bn = self.pi(self.actor.leaves, running, s, epsilon, True)
        value = loss(self.actor.leaves)
        self.descend(self.actor, "actor", loss, c["actor_weight_decay"])
        self.actor.project(c["actor_body"] or c["body"], c["project"])
        self.actor.running = bn.moved(c["norm_momentum"])
        target = c["target_entropy"]
        error = (log_pi + (-c["target_entropy_scale"] * self.action_dim if target is None else target)).mean()
        self.descend(self.log_alpha, "temperature", lambda leaves: -leaves[0][0] * error, 0.0)
        return {"actor_loss": value, "entropy": -log_pi.mean()}
