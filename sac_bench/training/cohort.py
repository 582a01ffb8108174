"""Runs of one structure as one program: every tensor has a leading member axis M.

The number of operations of an update does not depend on M. Members never mix: a member's tensors are a function of its
own hyperparameters, seed and data.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves, tree_map

from sac_bench.algorithms.protocol import Batch, Hyperparameters, Learner, State, Update
from sac_bench.algorithms.pytree import named_tensors, with_tensors
from sac_bench.training import inductor
from sac_bench.training.cuda_graph import Graphs
from sac_bench.training.random import Draws, Moment, WordsAhead, uniform
from sac_bench.training.rollout import whole

Data = Any
"""Training data: a pytree of tensors."""
Gather = Callable[[Moment, Data], Batch]


MEMBERS_AT_ONCE = 16
"""Members that are measured at once where all are not measured one by one: a diagnosis holds many gradients of each."""


UPDATES_AT_ONCE = 32
"""At most so many updates of a vector step are one CUDA graph."""


def training_width(members: int, device: torch.device | str, compiled: bool) -> int:
    """Return how many members a cohort of `members` runs trains: at least two in compiled code for a CPU.

    That code sums in another order for one member than for two or more, which agree (docs/correctness.md). A single run
    therefore trains beside a copy of itself, so that its bytes do not depend on the cohort's width.
    """
    return max(2, members) if compiled and torch.device(device).type == "cpu" else members


class Cohort:
    """M learners of one structure, their hyperparameters and seeds, on one device.

    state: pytree of [M, ...], whose tensors are updated in place; hyper: {name: [M]}; seeds: [M].
    gather(moment, data) -> batches {name: [M, B, ...]} of an update, from the training data and the update's draws, of
    which "replay" is [M, B]. With `compiled`, an update, including draws and batches, is one program, and so is acting.
    Eager execution is the reference in tests. On CUDA, both are recorded as CUDA graphs, unless `records` is False.
    """

    def __init__(
        self,
        learner: Learner,
        hyperparameters: Sequence[dict[str, float]],
        seeds: Sequence[int],
        gather: Gather,
        num_envs: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        compiled: bool = True,
    ) -> None:
        self.learner, self.dtype, self.device = learner, dtype, torch.device(device)
        self.records = self.device.type == "cuda"
        self._graphs = Graphs()
        self.seeds = torch.tensor(list(seeds), dtype=torch.int64, device=self.device)
        self.hyper: Hyperparameters = {
            name: torch.tensor([values[name] for values in hyperparameters], dtype=dtype, device=self.device)
            for name in hyperparameters[0]
        }
        members = [
            learner.init(partial(_initial_draw, seed, dtype), {name: values[m] for name, values in self.hyper.items()})
            for m, seed in enumerate(seeds)
        ]
        self._state: State = tree_map(lambda *leaves: torch.stack(leaves).to(self.device), *members)
        self.healthy = torch.ones(self.size, dtype=torch.bool, device=self.device)
        """Members [M] none of whose metrics was ever NaN or infinite."""
        self._sums = torch.zeros(self.size, len(learner.metrics), dtype=dtype, device=self.device)
        self._counts = torch.zeros(self.size, dtype=torch.int64, device=self.device)
        self._last = torch.zeros_like(self._sums)  # the last metrics, or the first non-finite ones
        self.record = (self._sums, self._counts, self.healthy, self._last)
        self._gather = gather
        update_draws = {f"update/{name}": shape for name, shape in learner.update_noise.items()}
        update_draws |= {f"update/{name}": shape for name, shape in learner.update_uniforms.items()}
        self._update_draws = Draws({"replay": (learner.batch_size,), **update_draws}, dtype, device)
        self._order_draws = Draws({"order": (learner.epochs, max(1, learner.rollout))}, dtype, device)
        self._explore_draws = Draws(
            {"explore": (num_envs, learner.noise_dim), "warmup": (num_envs, learner.action_dim)}, dtype, device
        )
        self._update_words = WordsAhead(self._update_draws, self.seeds)
        self._explore_words = WordsAhead(self._explore_draws, self.seeds)
        self._act: Callable[..., Any] = self._act_all
        self._explore: Callable[..., Tensor] = self._explore_all
        self._observe: Callable[..., None] = self._observe_all
        self._collect: Callable[..., None] = self._collect_all
        self._prepare: Callable[..., Data] = self._prepare_all
        self._stages: list[tuple[Callable[..., Data], int]]
        self._stages = [(partial(self._stage_all, stage), times) for stage, times in learner.stages]
        self._samples: Data = None
        self._data: Data = None  # of the last update
        self._action = torch.empty(self.size, num_envs, learner.action_dim, device=self.device)
        self._compiled = compiled
        self._programs: dict[Update, Callable[..., None]] = {}
        if compiled:
            self._act = inductor.compiled(self._act_all, self.device, dynamic=True)
            self._explore = inductor.compiled(self._explore_all, self.device)
            self._observe = inductor.compiled(self._observe_all, self.device)
            self._collect = inductor.compiled(self._collect_all, self.device)
            self._prepare = inductor.compiled(self._prepare_all, self.device)
            self._stages = [(inductor.compiled(stage, self.device), times) for stage, times in self._stages]

    @property
    def size(self) -> int:
        """Number of members M, copies included."""
        return len(self.seeds)

    @property
    def state(self) -> State:
        """The members' tensors, a pytree of [M, ...]. Updates change them in place."""
        return self._state

    @state.setter
    def state(self, state: State) -> None:
        self._state = state
        self._graphs.have_moved()

    def weights(self, m: int) -> dict[str, Tensor]:
        """Return the weights of member m from which another run can start, by name, on the CPU."""
        weights = named_tensors(self.learner.weights(self._of_member(m)))
        return {name: leaf.cpu().clone() for name, leaf in weights.items()}

    def start(self, m: int, weights: Mapping[str, Tensor], temperature: float | None = None) -> None:
        """Set the initial weights of member m to another learner's, with this temperature in place of their own.

        Call it before the first update. Raises InputError if the weights do not fit.
        """
        state = self._of_member(m)
        converted = {name: leaf.to(self.device, self.dtype) for name, leaf in weights.items()}
        initial = with_tensors(self.learner.weights(state), converted)
        if temperature is not None:
            assert self.learner.with_temperature is not None
            alpha = torch.tensor(temperature, dtype=self.dtype, device=self.device)
            initial = self.learner.with_temperature(initial, alpha)
        hyper = {name: values[m] for name, values in self.hyper.items()}
        assert self.learner.start is not None
        new = self.learner.start(state, initial, hyper)
        tree_map(lambda old, new: old.copy_(new), state, new)

    def _of_member(self, m: int) -> State:
        """Return views of one member's tensors."""
        return tree_map(lambda leaf: leaf[m], self.state)

    def act(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return sampled and mean actions [M, N, A] of observation [M, N, D], normal noise [M, N, noise_dim]."""
        return self._act(self.learner.policy(self.state), self.hyper, observation, noise)

    def observe(self, observation: Tensor) -> None:
        """Add the observations of a vector step [M, N, D] to the members' statistics, if their algorithm has any."""
        if self.learner.observe is not None:
            self._observe(self.state["normalizer"], observation)

    def collect(self, reward: Tensor, done: Tensor) -> None:
        """Add the rewards of a vector step [M, N], and where episodes ended, for an algorithm that collects them."""
        self._collect(self.state["returns"], self.hyper, reward, done)

    def explore(self, observation: Tensor, started: Tensor, step: int, warm: Tensor) -> Tensor:
        """Return the actions of training, float32 [M, N, A], of observation [M, N, D] at a vector step.

        They are the policies' if `warm` [] is true, else uniform; `started` [M, N] is 1 where an episode begins. The
        actions of a diverged member are zeros: it keeps its place, but its results no longer count.
        """
        words = self._explore_words.at(step)
        if not self.records:
            return self._explored(words, observation, started, warm)
        inputs = self._graphs.inputs("explore", observation, started, warm)
        self._graphs.run("explore", self._record_action, words, *inputs)
        return self._action

    def _record_action(self, *inputs: Tensor) -> None:
        self._action.copy_(self._explored(*inputs))

    def _explored(self, words: Tensor, observation: Tensor, started: Tensor, warm: Tensor) -> Tensor:
        carried, policy = self.state.get("exploration", ()), self.learner.policy(self.state)
        return self._explore(policy, carried, self.hyper, words, observation, started, warm)

    def _program(self, update: Update) -> Callable[..., None]:
        """Return the program that makes an update of all members by this function."""
        if update not in self._programs:
            program: Callable[..., None] = partial(self._update_all, update)
            if self._compiled:
                program = inductor.compiled(program, self.device)
                program = program if self.records else inductor.Repeated(program)
            self._programs[update] = program
        return self._programs[update]

    def prepare(self, memory: Data, number: int) -> Data:
        """Return the data of the updates that are due, of which `number` is the first (counted from 0).

        It is the memory, or what `Learner.prepare` makes of a rollout.
        """
        if self.learner.data == "replay":
            return memory
        samples = self._prepare(self.state, self.hyper, self._order_draws.words(self.seeds, number)[0], memory)
        for stage, times in self._stages:
            for _ in range(times):
                samples = samples | {"samples": stage(self.state, self.hyper, samples["samples"])}
        if self._samples is None:
            self._samples = samples
        tree_map(lambda old, new: old.copy_(new), self._samples, samples)  # the same tensors every time
        return self._samples

    def update(self, data: Data, first: int, count: int = 1) -> None:
        """Make `count` updates, of which `first` is the first (counted from 0), of every member on its own batches.

        `data` is the same object as before unless its tensors have moved.
        """
        if data is not self._data and self._data is not None:
            self._graphs.have_moved()
        self._data = data
        at_once = UPDATES_AT_ONCE if self.records else 1
        for at in range(first, first + count, at_once):
            numbers = range(at, min(at + at_once, first + count))
            made_by = tuple(self.learner.update_of(number + 1) for number in numbers)
            words = self._update_words.of(at, len(numbers))
            if self.records:
                self._graphs.run(made_by, partial(self._update_in_turn, made_by), words, data)
            else:
                self._update_in_turn(made_by, words, data)

    def _update_in_turn(self, made_by: Sequence[Update], words: Sequence[Tensor], data: Data) -> None:
        for function, own in zip(made_by, words, strict=True):
            self._program(function)(self.state, self.hyper, own, self.record, data)

    def value(self, observation: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return Q and bonus [M, N] (`Value.of`) of observation [M, N, D], normal noise [M, N, noise_dim]."""
        assert self.learner.value is not None
        return self._each(self.learner.value.of, observation.to(self.dtype), noise)

    def diagnose(self, data: Data, steps: int) -> dict[str, Tensor]:
        """Return the diagnosis {name: [M]} after `steps` transitions, on separately drawn batches and noise."""
        diagnosis = self.learner.diagnosis
        assert diagnosis is not None
        drawn = partial(Draws, dtype=self.dtype, device=self.device, prefix="diagnosis/")
        moment = drawn(diagnosis.noise).at(self.seeds, steps)
        noise = {name: moment.normal(name) for name in diagnosis.noise}
        batch = self._gather(drawn({"replay": (self.learner.batch_size,)}).at(self.seeds, steps), data)
        batch = {name: part.to(self.dtype) for name, part in batch.items()}
        return self._each(diagnosis.of, batch, noise)

    def _each(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Return function(state, hyper, *arguments) of each member, stacked.

        On a CPU, members are computed separately: no bit depends on the width. Elsewhere that is not promised, and they
        are one program.
        """
        everything = (self.state, self.hyper, *arguments)
        with torch.no_grad():
            if self.device.type != "cpu":
                return torch.func.vmap(function, chunk_size=MEMBERS_AT_ONCE)(*everything)
            results = [function(*tree_map(partial(_of_member, m), everything)) for m in range(self.size)]
        return tree_map(lambda *leaves: torch.stack(leaves), *results)

    def pop_metrics(self) -> tuple[dict[str, Tensor], Tensor]:
        """Return the metrics' means {name: [M]} since the last call, and the number of updates [M], on the CPU.

        Updates count while a member is healthy. A mean over no updates is NaN.
        """
        counts = self._counts.to("cpu", copy=True)
        means = self._sums.cpu() / counts[:, None]
        self._sums.zero_()
        self._counts.zero_()
        return dict(zip(self.learner.metrics, means.unbind(1), strict=True)), counts

    def finite(self) -> Tensor:
        """Return which members are healthy and have finite parameters: bool [M] on the CPU."""
        ok = [p.reshape(self.size, -1).isfinite().all(1) for p in tree_leaves(self.state["params"])]
        return torch.stack([*ok, self.healthy]).all(0).cpu()

    def not_finite(self, m: int) -> list[str]:
        """Return the names of member m's first non-finite metrics, or of its non-finite parameters."""
        values = dict(zip(self.learner.metrics, self._last[m], strict=True))
        if self.healthy[m]:
            values = {f"parameter {name}": leaf[m] for name, leaf in named_tensors(self.state["params"]).items()}
        return [name for name, value in values.items() if not value.isfinite().all()]

    def _prepare_all(self, state: State, hyper: Hyperparameters, words: Tensor, memory: Data) -> Data:
        order = Moment(self._order_draws, words).integers("order", 2**31)
        order = order.argsort(dim=-1, stable=True).flatten(1)
        newest = {name: part.to(self.dtype) for name, part in whole(memory, self.learner.rollout).items()}
        assert self.learner.prepare is not None
        new, samples = torch.func.vmap(self.learner.prepare)(state, hyper, newest)
        tree_map(lambda old, new: old.copy_(new), state, new)
        return {"samples": samples, "order": order}

    def _stage_all(self, stage: Callable[..., Any], state: State, hyper: Hyperparameters, samples: Data) -> Data:
        new, samples = torch.func.vmap(stage)(state, hyper, samples)
        tree_map(lambda old, new: old.copy_(new), state, new)
        return samples

    def _update_all(
        self,
        made_by: Callable[..., Any],
        state: State,
        hyper: Hyperparameters,
        words: Tensor,
        record: tuple[Tensor, Tensor, Tensor, Tensor],
        data: Data,
    ) -> None:
        moment = Moment(self._update_draws, words, state["updates"][0])
        batch = {name: part.to(self.dtype) for name, part in self._gather(moment, data).items()}
        noise = {name: moment.normal(f"update/{name}") for name in self.learner.update_noise}
        noise |= {name: moment.uniform(f"update/{name}") for name in self.learner.update_uniforms}
        new, metrics = torch.func.vmap(made_by)(state, hyper, batch, noise)
        tree_map(lambda old, new: old.copy_(new), state, new)
        sums, counts, healthy, last = record
        values = torch.stack([metrics[name] for name in self.learner.metrics], dim=1)
        last.copy_(torch.where(healthy[:, None], values, last))
        healthy &= values.isfinite().all(1)
        sums += torch.where(healthy[:, None], values, 0.0)
        counts += healthy

    def _observe_all(self, statistics: State, observation: Tensor) -> None:
        assert self.learner.observe is not None
        new = torch.func.vmap(self.learner.observe)(statistics, observation.to(self.dtype))
        tree_map(lambda old, new: old.copy_(new), statistics, new)

    def _collect_all(self, returns: State, hyper: Hyperparameters, reward: Tensor, done: Tensor) -> None:
        assert self.learner.collect is not None
        new = torch.func.vmap(self.learner.collect)(returns, hyper, reward.to(self.dtype), done.to(self.dtype))
        tree_map(lambda old, new: old.copy_(new), returns, new)

    def _explore_all(
        self,
        policy: Any,
        carried: Any,
        hyper: Hyperparameters,
        words: Tensor,
        observation: Tensor,
        started: Tensor,
        warm: Tensor,
    ):
        moment = Moment(self._explore_draws, words)
        noise = moment.normal("explore")
        if self.learner.explore is None:
            action, _ = self._act_all(policy, hyper, observation, noise)
        else:
            explore, observation = torch.func.vmap(self.learner.explore), observation.to(self.dtype)
            action, new = explore(policy, hyper, observation, noise, carried, started.to(self.dtype))
            tree_map(lambda old, new: old.copy_(new), carried, new)
        return torch.where(warm, action.nan_to_num(0.0), 2 * moment.uniform("warmup") - 1).to(torch.float32)

    def _act_all(self, policy: Any, hyper: Hyperparameters, observation: Tensor, noise: Tensor):
        return torch.func.vmap(self.learner.act)(policy, hyper, observation.to(self.dtype), noise)


def _of_member(member: int, leaf: Tensor) -> Tensor:
    """Return one member's tensor, [M, ...] -> [...], aligned to 64 bytes, since some libraries' sums depend on that."""
    own = leaf[member]
    return own if own.data_ptr() % 64 == 0 else own.clone()


def _initial_draw(seed: int, dtype: torch.dtype, name: str, shape: tuple[int, ...]) -> Tensor:
    return uniform(seed, f"init/{name}", shape, dtype)
