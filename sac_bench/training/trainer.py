"""The training loop: environments -> replay -> updates -> evaluation, for one cohort, one segment at a time.

All members are in lock-step: a vector step is one transition of every environment of every member. The result of a
segment depends only on the runs' specs, so a trainer restored from a checkpoint produces the same bytes.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.algorithms.pytree import named_tensors, with_tensors
from sac_bench.envs.guard import Fails, Stop, diverged, failed
from sac_bench.envs.pool import Pool, describe
from sac_bench.errors import InputError
from sac_bench.options.config import ReplayConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.cohort import Cohort, Gather, training_width
from sac_bench.training.evaluate import POLICIES, Episodes, evaluate
from sac_bench.training.explosion import Explosions
from sac_bench.training.random import derived_seeds
from sac_bench.training.replay import Replay, rows_of, sample
from sac_bench.training.rollout import minibatch

Chunks = Sequence[tuple[int, Callable[[], dict[str, Tensor]]]]


@dataclass
class Segment:
    """The results of a segment for every member."""

    steps: int
    episodes: Episodes
    metrics: dict[str, Tensor]
    """{name: [M]}: means over the segment's finite updates (NaN if there are none), and measures of its evaluation."""
    training_returns: list[list[float]]
    stops: dict[int, Stop]
    """Members that diverged or failed in it, and why. Their later results do not count."""


@dataclass
class Progress:
    """A cohort's progress, which is saved with it."""

    vector_steps: int = 0
    updates: int = 0
    wall_seconds: float = 0.0
    share_seconds: float = 0.0
    """A member's share of `wall_seconds`: each second divided by the cohort's width at that time."""
    evaluation_seconds: float = 0.0
    saving_seconds: float = 0.0
    stopped: list[bool] = field(default_factory=list)


class Trainer:
    """One cohort of runs that share structure, environment and algorithm."""

    def __init__(
        self,
        specs: Sequence[RunSpec],
        steps: int,
        device: torch.device | str = "cpu",
        compiled: bool = True,
        threads: int = 1,
    ) -> None:
        spec = specs[0]
        self.config, self.env, self._evaluated_by = spec.config, describe(spec.env), spec.evaluated_by
        self.target_steps, self.compiled, self.threads = steps, compiled, threads
        m, n = len(specs), self.config.num_envs
        learner = ALGORITHMS[spec.algorithm].learner(self.config, self.env.observation_dim, self.env.action_dim)
        width = training_width(m, device, compiled)
        copied = [*specs, *[spec] * (width - m)]
        self.members, self.seeds = m, [s.seed for s in copied]
        """The number of runs, and the seeds of all members: a single run may train with a copy."""
        hyperparameters = [s.config.hyperparameters() for s in copied]
        if isinstance(self.config, ReplayConfig):
            gather: Gather = partial(sample, n_step=self.config.n_step)
        else:
            gather = partial(minibatch, size=learner.batch_size)
        self.cohort = Cohort(learner, hyperparameters, self.seeds, gather, n, dtype_of(self.config), device, compiled)
        self.replay = Replay(
            width, n, self.env.observation_dim, self.env.action_dim, min(self.config.capacity, steps), device
        )
        self.progress = Progress(stopped=[False] * m)
        self.explosions = Explosions(self.cohort, m)
        self._pool_rows = self.config.pool_episodes * self.env.max_episode_steps
        self._pool: Pool | None = None
        self._stops: dict[int, Stop] = {}  # members that stopped in this segment
        self._returns = np.zeros(m * n)
        self._saved_rows = 0

    @property
    def steps(self) -> int:
        """Transitions per run so far."""
        return self.progress.vector_steps * self.config.num_envs

    def next_stop(self) -> int:
        """Return the step at which the current segment ends: the next multiple of `eval_every`, or the last step."""
        every = self.config.eval_every
        return min(self.target_steps, (self.steps // every + 1) * every)

    def train(self, report: Callable[[], None] = lambda: None) -> Segment:
        """Train to the end of the segment and evaluate. Before the first step, only evaluate.

        `report` is called about twice a second.
        """
        finished: list[list[float]] = [[] for _ in range(self.members)]
        began, updates = time.perf_counter(), self.progress.updates
        if self._pool is None:
            self._open_pool()
            if self.steps == 0:
                return self._evaluate(finished, began, updates)
        stop = self.next_stop()
        reported = time.perf_counter()
        while self.steps < stop and not (self._stops and all(self._stopped())):
            self._vector_step(finished)
            self._update()
            if time.perf_counter() - reported > 0.5:
                reported = time.perf_counter()
                report()
        return self._evaluate(finished, began, updates)

    # -- one vector step ----------------------------------------------------------------------------------------

    def _vector_step(self, finished: list[list[float]]) -> None:
        assert self._pool is not None
        action = self._actions()
        self.progress.vector_steps += 1
        step = self._pool.step(action)
        self._returns += step.reward
        for k in np.flatnonzero(step.terminated | step.truncated):
            finished[k // self.config.num_envs].append(float(self._returns[k]))
            self._returns[k] = 0.0
        if self.progress.vector_steps % self._pool_rows == 0:
            # Recreating the pool bounds the replay of actions on resume. The cut is a truncation.
            self._pool.close()
            self._pool = self._make_pool()
            step = step._replace(observation=self._pool.reset(), truncated=~step.terminated)
            self._returns[:] = 0.0
        self._check_finite("observation", step.observation)
        if step.truncated.any():
            self._check_finite("observation", np.where(step.truncated[:, None], step.final_observation, 0.0))
        self._check_finite("reward", step.reward)
        self.explosions.add(step.reward)
        self.replay.add(action, step)
        if self.cohort.learner.collect is not None:
            self.cohort.collect(*self.replay.last_rewards())

    def _actions(self) -> np.ndarray:
        """Return actions [M*N, A]: uniform for `warmup_steps`, then the policies', which count the observations."""
        warm = self.replay.clock() >= self.config.warmup_steps // self.config.num_envs
        observation = self.replay.newest.clone(memory_format=torch.contiguous_format)
        self.cohort.observe(observation)
        action = self.cohort.explore(observation, self.replay.started(), self.replay.written, warm)
        return action[: self.members].flatten(0, 1).cpu().numpy()

    def _update(self) -> None:
        due = self.config.updates_due(self.steps) - self.progress.updates
        data = self.cohort.prepare(self.replay.memory(), self.progress.updates) if due else {}
        self.cohort.update(data, self.progress.updates, due)
        self.progress.updates += due

    def _evaluate(self, finished: list[list[float]], began: float, updates_before: int) -> Segment:
        started = time.perf_counter()
        metrics, finite_updates = self.cohort.pop_metrics()
        finite = self.cohort.finite()[: self.members].numpy()
        for m in np.flatnonzero(~finite & ~np.array(self.progress.stopped)).tolist():
            first = min(updates_before + int(finite_updates[m]) + 1, self.progress.updates)
            at, names = self.config.steps_of_update(first), self.cohort.not_finite(m)
            if m not in self._stops or at < self._stops[m].step:
                self._stops[m] = diverged(at, ", ".join(names[:3]) + (" and others" if len(names) > 3 else ""))
        episodes = evaluate(
            self.cohort,
            self.env,
            self.seeds,
            self.steps,
            self.config.eval_episodes,
            self.threads,
            idle=[*np.flatnonzero(self._stopped()).tolist(), *range(self.members, self.cohort.size)],
            fails=self._fails("evaluation"),
            policies=[policy for policy in POLICIES if self._evaluated_by(policy, self.steps, self.target_steps)],
        )
        for m, what in episodes.not_finite.items():
            self._stops.setdefault(m, diverged(self.steps, f"{what} in evaluation"))
        measured = self._measured(episodes)
        now = time.perf_counter()
        self.progress.evaluation_seconds += now - started
        self.progress.wall_seconds += now - began
        self.progress.share_seconds += (now - began) / self.members
        stops, self._stops = {m: stop for m, stop in self._stops.items() if m < self.members}, {}
        recorded = {name: values[: self.members] for name, values in (metrics | measured).items()}
        running = np.array([m not in stops for m in range(self.members)]) & ~np.array(self.progress.stopped)
        recorded |= self.explosions.check(self.steps, recorded, running)
        return Segment(self.steps, episodes.of_first(self.members), recorded, finished, stops)

    def _measured(self, episodes: Episodes) -> dict[str, Tensor]:
        """Return the bias of Q and the diagnoses {name: [M]} on the CPU; NaN for members that diverged."""
        finite, values = self.cohort.finite(), dict(episodes.bias)
        if diagnosis := self.cohort.learner.diagnosis:
            values |= dict.fromkeys(diagnosis.names, torch.full(finite.shape, torch.nan))
            if self.replay.written:
                values |= self.cohort.diagnose(self.replay.memory(), self.steps)
        return {name: torch.where(finite, value.cpu(), torch.nan) for name, value in values.items()}

    # -- members that stop while the others continue ------------------------------------------------------------

    def _stopped(self) -> list[bool]:
        """Return which members have stopped, in this segment or before."""
        return [stopped or m in self._stops for m, stopped in enumerate(self.progress.stopped)]

    def _fails(self, where: str, width: int = 1) -> Fails:
        """Return a function that stops the member whose environment raises; each member has `width` environments."""

        def fails(place: int, method: str, error: BaseException) -> None:
            self._stops.setdefault(place // width, failed(error, method, self.steps, where))

        return fails

    def _check_finite(self, what: str, values: np.ndarray) -> None:
        """Stop members whose environments returned non-finite values [M*N, ...]."""
        if not np.isfinite(values).all():
            for m in np.flatnonzero(~np.isfinite(values.reshape(self.members, -1)).all(1)).tolist():
                self._stops.setdefault(m, diverged(self.steps, what))

    # -- environments -------------------------------------------------------------------------------------------

    def _pool_start(self) -> int:
        return self.progress.vector_steps // self._pool_rows * self._pool_rows

    def _make_pool(self) -> Pool:
        generation = self.progress.vector_steps // self._pool_rows
        n = self.config.num_envs
        members = self.seeds[: self.members]
        seeds = [derived_seeds(seed, "training environments", generation, n) for seed in members]
        idle = set(np.flatnonzero(np.repeat(self._stopped(), n)).tolist())
        return Pool(
            self.env.id, list(itertools.chain(*seeds)), self.threads, idle=idle, fails=self._fails("training", n)
        )

    def _open_pool(self) -> None:
        self._pool = self._make_pool()
        observation = self._pool.reset()
        self._check_finite("observation", observation)
        self.replay.start(observation)

    # -- saving -------------------------------------------------------------------------------------------------

    def checkpoint(self) -> tuple[dict[str, Tensor], dict[str, Tensor], dict[str, Any]]:
        """Return state tensors by name, the rows added since the last checkpoint, and progress as plain values."""
        state = named_tensors(self._without_copies(self.cohort.state))
        state["observation"] = self._without_copies(self.replay.newest).flatten(0, 1)
        tensors = {name: leaf.to("cpu", copy=True).contiguous() for name, leaf in state.items()}
        tensors["returns"] = torch.as_tensor(self._returns).clone()
        tensors["explosions"] = self.explosions.state()
        rows = {}
        if self.replay.written > self._saved_rows:
            rows = self.replay.slice(max(self._saved_rows, self.replay.written - self.replay.rows), self.replay.written)
            rows = rows_of(rows, range(self.members))
        self._saved_rows = self.replay.written
        return tensors, rows, asdict(self.progress)

    def rows_needed_from(self) -> int:
        """Return the oldest row that restoring reads: one in the replay, or an action of the current pool."""
        return min(self.replay.written - self.replay.filled, self._pool_start())

    def restore(self, tensors: dict[str, Tensor], chunks: Chunks, progress: dict[str, Any]) -> None:
        """Continue from a checkpoint; `chunks` are (first row, loader) of the saved rows, oldest first.

        The environments are recreated and their actions replayed, since their state is a function of seeds and actions.
        Raises InputError if they reach another state.
        """
        try:
            self.progress = Progress(**progress)
        except TypeError:
            raise InputError("saved by another version of sac_bench: its progress has other fields") from None
        self.cohort.healthy.copy_(~torch.tensor(self.progress.stopped))
        saved = with_tensors(self._without_copies(self.cohort.state), tensors)
        tree_map(lambda leaf, value: leaf.copy_(value), self.cohort.state, saved)
        m, n, copies = self.members, self.config.num_envs, self.cohort.size // self.members
        pool = self._make_pool()
        observation = pool.reset()
        newest = tensors["observation"].reshape(m, n, -1)
        self.replay.written = chunks[0][0] if chunks else 0
        for first, load in chunks:
            rows = load()
            twice = {name: torch.cat([part] * copies) for name, part in rows.items()} if copies > 1 else rows
            self.replay.extend(twice, newest)
            parts = (rows[name].transpose(0, 1).flatten(1, 2).numpy() for name in ("action", "observation"))
            for t, (action, recorded) in enumerate(zip(*parts, strict=True)):
                if first + t >= self._pool_start():
                    self._check_replayed(observation, recorded)
                    observation = pool.step(action).observation
        if not chunks:
            self.replay.start(tensors["observation"].numpy())
        if self.replay.written != self.progress.vector_steps:
            raise InputError(f"{self.replay.written} of {self.progress.vector_steps} rows were saved")
        self._returns = tensors["returns"].numpy().copy()
        self.explosions.restore(tensors.get("explosions"))
        self._check_replayed(observation, tensors["observation"].numpy())
        self._pool, self._saved_rows = pool, self.replay.written

    def _check_replayed(self, observation: np.ndarray, recorded: np.ndarray) -> None:
        """Compare the observations of running members; those of an environment that raised are zeros."""
        if (observation == recorded).all():
            return
        alive = ~np.repeat(self._stopped(), self.config.num_envs)
        if not np.array_equal(observation[alive], recorded[alive], equal_nan=True):
            raise InputError(
                f"{self.env.id} did not replay to the same state: it depends on more than seeds and actions"
            )

    def start(self, m: int, weights: Mapping[str, Tensor], temperature: float | None, q_bound: float) -> None:
        """Start member m, and its copies, from another learner's weights (`Cohort.start`), whose |Q| has this bound."""
        self.explosions.bound[m] = q_bound
        for place in range(m, self.cohort.size, self.members):
            self.cohort.start(place, weights, temperature)

    def _without_copies(self, tree: Any) -> Any:
        """Return tensors without the members that are copies."""
        return tree_map(lambda leaf: leaf[: self.members], tree)

    def close(self) -> None:
        """Close the environments."""
        if self._pool is not None:
            self._pool.close()
