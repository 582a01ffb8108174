"""When functions are recorded and replayed. CUDA is imitated on the CPU: a replay repeats operations on the same tensors.

This shows that recordings read current values from tensors that stay where they are. It proves nothing about CUDA.
"""

from contextlib import contextmanager, nullcontext
from functools import partial
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.envs.pool import Step
from sac_bench.training.cohort import UPDATES_AT_ONCE, Cohort
from sac_bench.training.cuda_graph import CudaGraphFunction, Graphs
from sac_bench.training.replay import Replay, sample
from tests.conftest import tiny


class Graph:
    """What torch.cuda.CUDAGraph is: operations with the tensors that they read and write."""

    made: ClassVar = []

    def __init__(self):
        self.operations, self.replays = [], 0
        self.made.append(self)

    def replay(self):
        self.replays += 1
        for function, arguments, options, results in self.operations:
            again = function(*arguments, **options)
            for old, new in zip(tree_leaves(results), tree_leaves(again), strict=True):
                if old is not new and old.data_ptr() != new.data_ptr():
                    old.copy_(new)


class Recorder(TorchDispatchMode):
    """Records operations into a graph. Afterwards, tensors from outside are as they were: recording runs nothing."""

    def __init__(self, graph):
        super().__init__()
        self.graph, self.before, self.own = graph, {}, set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        for leaf in tree_leaves((arguments, options)):
            if isinstance(leaf, torch.Tensor) and leaf.untyped_storage().data_ptr() not in self.own:
                storage = leaf.untyped_storage()
                self.before.setdefault(storage.data_ptr(), (storage, storage.clone()))
        results = function(*arguments, **(options or {}))
        assert all(isinstance(leaf, torch.Tensor) for leaf in tree_leaves(results)), f"{function} waits for the device"
        new = {leaf.untyped_storage().data_ptr() for leaf in tree_leaves(results)}
        self.own |= new - self.before.keys()
        self.graph.operations.append((function, arguments, options or {}, results))
        return results

    def __exit__(self, *error):
        super().__exit__(*error)
        for storage, content in self.before.values():
            storage.copy_(content)


class Stream:
    def wait_stream(self, other):
        pass


@pytest.fixture
def cuda(monkeypatch):
    """CUDA's graphs and streams on the CPU; returns the graphs that are made."""

    @contextmanager
    def record(graph, stream):
        with Recorder(graph):
            yield

    monkeypatch.setattr(Graph, "made", [])
    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", record)
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "current_stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", nullcontext)
    return Graph.made


def test_a_recorded_function_has_the_same_effect_on_every_call(cuda):
    x, graphed = torch.zeros(3), CudaGraphFunction(lambda x: x.add_(1))
    for count in range(1, 9):
        graphed(0, x)
        assert x.tolist() == [count] * 3
    assert [graph.replays for graph in cuda] == [8 - CudaGraphFunction.WARM_UP]


def test_a_function_is_recorded_again_when_its_tensors_have_moved(cuda):
    graphed = CudaGraphFunction(lambda x: x.add_(1))
    for version in range(2):
        x = torch.zeros(3)
        for count in range(1, 7):
            graphed(version, x)
            assert x.tolist() == [count] * 3
    assert [graph.replays for graph in cuda] == [3, 3]


def test_a_function_whose_recording_fails_is_not_replayed(cuda):
    runs = []

    def function(x):
        runs.append(1)
        if len(runs) == CudaGraphFunction.WARM_UP + 1:
            raise RuntimeError("operation not permitted when stream is capturing")
        x.add_(1)

    x, graphed = torch.zeros(3), CudaGraphFunction(function)
    for _ in range(CudaGraphFunction.WARM_UP):
        graphed(0, x)
    with pytest.raises(RuntimeError, match="capturing"):
        graphed(0, x)
    assert x.tolist() == [3] * 3
    graphed(0, x)
    assert x.tolist() == [4] * 3
    assert [graph.replays for graph in cuda] == [0, 1]


def test_functions_of_one_cohort_start_over_together(cuda):
    graphs, x = Graphs(), torch.zeros(3)
    for _ in range(2):
        for _ in range(5):
            graphs.run("one", x.add_, torch.ones(3))
            graphs.run("two", x.mul_, torch.ones(3))
        graphs.have_moved()
    assert [graph.replays for graph in cuda] == [2, 2, 2, 2]
    first = graphs.inputs("one", torch.ones(3))
    assert graphs.inputs("one", torch.zeros(3))[0] is first[0]
    assert first[0].tolist() == [0, 0, 0]


M, N, DIMS = 2, 2, (5, 3)


def made(algorithm, **settings):
    config = tiny(algorithm, num_envs=N, replay_capacity=1000, **settings)
    learner = ALGORITHMS[algorithm].learner(config, *DIMS)
    gather, hyper = partial(sample, n_step=1), [config.hyperparameters()] * M
    return Cohort(learner, hyper, range(M), gather, N, dtype_of(config), compiled=False)


def lives(cohort, steps, updates, all_truncated=False):
    """Train for some vector steps on made-up rewards; return the actions."""
    replay, numbers, actions = Replay(M, N, *DIMS, 1000), np.random.default_rng(0), []
    replay.start(numbers.standard_normal((M * N, DIMS[0])))
    none, number = np.zeros(M * N, dtype=bool), 0
    for t in range(steps):
        actions.append(cohort.explore(replay.newest.clone(), replay.started(), t, torch.tensor(t > 2)).clone())
        observation = numbers.standard_normal((M * N, DIMS[0]))
        truncated = ~none if all_truncated or t % 3 == 2 else none
        step = Step(observation, observation + 1, numbers.standard_normal(M * N), none, truncated)
        replay.add(actions[-1].flatten(0, 1).numpy(), step)
        if t > 2:
            cohort.update(replay.memory(), number, updates)
            number += updates
    return actions


STRUCTURES = [
    ("sac", {}, 1),
    ("sac", {"actor_delay": 2}, 3),
    ("td3", {}, 1),
    pytest.param("sql", {}, 2, marks=pytest.mark.thorough),
]


@pytest.mark.parametrize(("algorithm", "settings", "updates"), STRUCTURES)
def test_a_recorded_cohort_trains_the_same_bytes(cuda, algorithm, settings, updates):
    plain, recorded = made(algorithm, **settings), made(algorithm, **settings)
    recorded.records = True
    expected, actions = lives(plain, 20, updates), lives(recorded, 20, updates)
    assert all(torch.equal(one, other) for one, other in zip(expected, actions, strict=True))
    for one, other in zip(tree_leaves(plain.state), tree_leaves(recorded.state), strict=True):
        assert torch.equal(one, other)
    assert torch.equal(plain.record[0], recorded.record[0])
    assert sum(graph.replays for graph in cuda) > 20


def test_all_updates_of_a_vector_step_are_one_graph(cuda):
    cohort = made("sac")
    cohort.records = True
    lives(cohort, 10, UPDATES_AT_ONCE + 8)
    explore, *updates = sorted(cuda, key=lambda graph: len(graph.operations))
    assert [graph.replays for graph in updates] == [10 - 3 - CudaGraphFunction.WARM_UP] * 2
    assert len(updates[1].operations) == pytest.approx(UPDATES_AT_ONCE / 8 * len(updates[0].operations), rel=0.01)
    assert explore.replays == 10 - CudaGraphFunction.WARM_UP


def test_graphs_are_recorded_again_when_the_side_ring_grows_or_the_state_is_replaced(cuda):
    plain, recorded = made("sac"), made("sac")
    recorded.records = True
    for cohort in (plain, recorded):
        lives(cohort, 30, 1, all_truncated=True)  # more than 16 slots: the ring grows
    grown = len(cuda)
    assert grown > 2
    for cohort in (plain, recorded):
        cohort.state = tree_map_only(torch.Tensor, torch.clone, cohort.state)
        lives(cohort, 10, 1)
    assert len(cuda) > grown
    for one, other in zip(tree_leaves(plain.state), tree_leaves(recorded.state), strict=True):
        assert torch.equal(one, other)
