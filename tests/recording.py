"""Pools that record their steps, to replace those of training and evaluation."""

from __future__ import annotations

import numpy as np
import pytest

from sac_bench.envs.pool import Pool
from sac_bench.training import evaluate, trainer


class Recording(Pool):
    """A pool that records its seeds, observations [K, D], actions [K, A], rewards [K], and who is `running`."""

    made: list[Recording]

    def __init__(self, env_id, seeds, threads=1, **more):
        super().__init__(env_id, seeds, threads, **more)
        self.seeds, self.shown, self.sent, self.paid, self.running = list(seeds), [], [], [], []
        self.made.append(self)

    def reset(self):
        self.shown.append(super().reset())
        return self.shown[-1]

    def step(self, action):
        return self._record(action, super().step(action))

    def play(self, action, running):
        self.running.append(running.copy())
        return self._record(action, super().play(action, running))

    def _record(self, action, step):
        self.sent.append(np.array(action))
        self.shown.append(step.observation)
        self.paid.append(step.reward)
        return step


@pytest.fixture
def recorded(monkeypatch):
    """Return the pools that training and evaluation create, in two lists."""
    lists = []
    for module in (trainer, evaluate):
        lists.append([])
        monkeypatch.setattr(module, "Pool", type("Recorder", (Recording,), {"made": lists[-1]}))
    return lists
