"""When a function is recorded and when it is replayed; CUDA itself is replaced here."""

from contextlib import contextmanager

import pytest
import torch

from sac_bench.training.cuda_graph import CudaGraphFunction


class Recording:
    """Plays back, on replay, the calls made while it was recording."""

    current = None

    def __init__(self):
        self.calls, self.replays = [], 0

    def replay(self):
        self.replays += 1
        for call in self.calls:
            call()


@pytest.fixture
def cuda(monkeypatch):
    @contextmanager
    def graph(recording):
        Recording.current = recording
        yield
        Recording.current = None

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Recording)
    monkeypatch.setattr(torch.cuda, "graph", graph)


def add_one(runs):
    def function(state):
        def call():
            state["x"] += 1

        if Recording.current is not None:  # a recording runs nothing
            Recording.current.calls.append(call)
        else:
            runs.append(state["x"].data_ptr())
            call()

    return function


def test_a_graphed_function_has_the_same_effect_on_every_call(cuda):
    runs, state = [], {"x": torch.zeros(3)}
    graphed = CudaGraphFunction(add_one(runs))
    for count in range(1, 9):
        graphed(state)
        assert state["x"].tolist() == [count] * 3
    assert len(runs) == CudaGraphFunction.WARM_UP


def test_a_graphed_function_is_recorded_again_when_a_buffer_moves(cuda):
    runs, state = [], {"x": torch.zeros(3)}
    graphed = CudaGraphFunction(add_one(runs))
    for _ in range(6):
        graphed(state)
    state = {"x": torch.zeros(3)}
    for count in range(1, 9):
        graphed(state)
        assert state["x"].tolist() == [count] * 3
    assert len(runs) == 2 * CudaGraphFunction.WARM_UP
