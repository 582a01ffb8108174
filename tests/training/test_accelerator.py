"""Cohorts on a pretended accelerator: no tensor is on another device, and only requested values wait for the device.

Tensors are fake: they have shapes and devices and no values. Operations between devices raise, and so does reading a
value. This proves nothing about CUDA graphs or numbers.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.envs.pool import Step
from sac_bench.options.config import ReplayConfig
from sac_bench.spec.includes import files
from sac_bench.spec.load import load
from sac_bench.training.cohort import Cohort
from sac_bench.training.replay import Replay, sample
from sac_bench.training.rollout import minibatch

EXPERIMENTS = files([Path(__file__).parents[2] / "experiments"])
PARTS = 4  # of the structures: all of them take four minutes
DIMS, MEMBERS, ENVS = (5, 3), 3, 2
SMALL = {"layers": (8, 8), "actor_layers": None, "critic_layers": None, "batch_size": 16, "num_envs": ENVS}


class Copies(TorchDispatchMode):
    """Records copies from the accelerator to the CPU."""

    def __init__(self):
        super().__init__()
        self.to_cpu = []

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        result = function(*arguments, **(options or {}))
        devices = {leaf.device.type for leaf in tree_leaves((arguments, options)) if isinstance(leaf, torch.Tensor)}
        if isinstance(result, torch.Tensor) and result.device.type == "cpu" and devices - {"cpu"}:
            self.to_cpu.append(str(function))
        return result


@pytest.fixture(scope="module")
def device():
    """A device without kernels, on which only fake tensors exist (conftest.py registers it)."""
    return torch.device("pretended")


@pytest.fixture
def fake(device, monkeypatch):
    """Fake tensors for the test's duration. Copies from and to the host, which require kernels, are imitated."""
    from_numbers = torch.tensor

    def tensor(data, *, device=None, **options):
        made = from_numbers(data, **options)
        return made if device is None else torch.empty(made.shape, dtype=made.dtype, device=device)

    monkeypatch.setattr(torch, "tensor", tensor)
    monkeypatch.setattr(torch.Tensor, "numpy", lambda tensor: np.ones(tuple(tensor.shape), dtype=np.float32))
    with FakeTensorMode():
        yield device


def cohort(config, device):
    learner = ALGORITHMS[config.algorithm].learner(config, *DIMS)
    of_replay = isinstance(config, ReplayConfig)
    gather = partial(sample, n_step=config.n_step) if of_replay else partial(minibatch, size=learner.batch_size)
    hyper = [config.hyperparameters()] * MEMBERS
    return Cohort(learner, hyper, range(MEMBERS), gather, ENVS, dtype_of(config), device, compiled=False)


def lives(config, device):
    """Let a cohort do everything that training does; return the copies to the CPU between two segments."""
    trained, copies = cohort(config, device), Copies()
    learner, every = trained.learner, lambda *shape: torch.empty(MEMBERS, *shape, device=device)
    replay = Replay(MEMBERS, ENVS, *DIMS, max(200 * ENVS, learner.rollout), device)
    observation, yes = np.zeros((MEMBERS * ENVS, DIMS[0])), torch.ones((), dtype=torch.bool, device=device)
    replay.start(observation)
    step = Step(observation, observation, *(np.zeros(MEMBERS * ENVS) for _ in range(3)))
    with copies:
        for _ in range(3):
            newest = replay.newest.clone()
            trained.observe(newest)
            action = trained.explore(newest, replay.started(), replay.written, yes)
            replay.add(np.zeros((MEMBERS * ENVS, DIMS[1])), step)
        replay.written = max(100, learner.rollout // ENVS)
        for number in range(3):
            trained.update(trained.prepare(replay.memory(), number), number)
        noise = every(ENVS, learner.noise_dim)
        measured = [trained.act(newest, noise)]
        measured += [trained.value(newest, noise)] if learner.value else []
        measured += [trained.diagnose(replay.memory(), 10)] if learner.diagnosis else []
    tensors = tree_leaves((trained.state, trained.record, action, measured))
    assert {leaf.device.type for leaf in tensors} == {device.type}
    assert {leaf.device.type for leaf in trained.pop_metrics()[0].values()} == {"cpu"}
    assert trained.finite().device.type == "cpu"
    trained.start(1, trained.weights(0)) if learner.start else None
    return copies.to_cpu


@pytest.mark.thorough
@pytest.mark.parametrize("name", sorted(ALGORITHMS))
def test_a_cohort_stays_on_its_device_and_never_waits_for_it(fake, name):
    config = ALGORITHMS[name].config
    assert lives(config.model_validate({k: v for k, v in SMALL.items() if k in config.model_fields}), fake) == []


@pytest.mark.thorough
@pytest.mark.parametrize("part", range(PARTS))
def test_cohorts_of_all_experiments_stay_on_their_device(part, request):
    configs = {}
    for path in EXPERIMENTS:
        for variant in load(path, quick="claims" in path.parts).variants.values():
            for config in variant.configs.values():
                own = {name: value for name, value in SMALL.items() if name in type(config).model_fields}
                reduced = type(config).model_validate(config.model_dump(exclude_unset=True) | own)
                configs[config.algorithm, str(reduced.structure())] = reduced
    device = request.getfixturevalue("fake")  # after the environments have been checked
    for config in list(configs.values())[part::PARTS]:
        assert lives(config, device) == [], config


def test_a_copy_to_the_host_and_a_mixture_of_devices_are_detected(fake):
    value = torch.ones(3, device=fake)
    with Copies() as copies:
        value.cpu()
    assert copies.to_cpu
    with pytest.raises(Exception, match="device"):
        value + torch.ones(3)
    with pytest.raises(Exception, match=r"item|scalar"):
        value.sum().item()
