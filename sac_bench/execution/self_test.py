"""A short test of a device: a small SAC cohort, compared with float64 on the CPU and with itself, and timed.

`sac-bench doctor` starts it as `python -m sac_bench.execution.self_test DEVICE`, in a process of its own, because an
error of a GPU can end the process. It prints its result as a line of JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms.hyperparameters import dtype_of
from sac_bench.algorithms.sac import learner
from sac_bench.envs.pool import Step
from sac_bench.execution.machine import cannot_compile
from sac_bench.execution.worker import prepare_process
from sac_bench.options.sac import SACConfig
from sac_bench.training.cohort import Cohort
from sac_bench.training.replay import Replay, sample

DIMS = (11, 3)
MEMBERS, STEPS, UPDATES = 3, 100, 10
TIMED_SECONDS = 1.0
MAX_ERROR = 1e-3
"""Largest distance to float64 of the changes that updates make, relative to their length.

It was 1e-5 on a CPU, eager and compiled. Adam amplifies rounding where gradients are near zero.
"""
MAX_ACTION_ERROR = 1e-3
"""Largest difference of an action, which is in [-1, 1], from float64."""
CONFIG = {"layers": (64, 64), "batch_size": 64}


class Trained(NamedTuple):
    """What a cohort was at first, after ten updates, and how it then acts."""

    before: Tensor
    """All parameters, float64 [P] on the CPU."""
    after: Tensor
    action: Tensor
    state: list[Tensor]
    """All tensors of the state, on the CPU."""


def self_test(device: str, compiled: bool) -> dict[str, Any]:
    """Return what the test of a device found: errors, whether two equal runs were equal, updates/s, bytes, problems."""
    exact = trained(*made("cpu", "float64", compiled=False))
    cohort, replay = made(device, "float32", compiled)
    first = trained(cohort, replay)
    again = trained(*made(device, "float32", compiled))
    error = float((first.after - exact.after).norm() / (exact.after - exact.before).norm())
    action_error = float((first.action - exact.action).abs().max())
    equal = all(torch.equal(one, other) for one, other in zip(first.state, again.state, strict=True))
    found: dict[str, Any] = {
        "compiled": compiled,
        "error": error,
        "action_error": action_error,
        "equal": equal,
        "updates_per_second": updates_per_second(cohort, replay),
        "peak_bytes": peak_bytes(device),
    }
    return found | {"problems": problems(found)}


def problems(found: dict[str, Any]) -> list[str]:
    """Return why a device is not trusted with training; nothing if it is."""
    what = []
    if not found["error"] <= MAX_ERROR:  # also if it is NaN
        what.append(f"ten updates differ from float64 by {found['error']:.2g} of their length (at most {MAX_ERROR:g})")
    if not found["action_error"] <= MAX_ACTION_ERROR:
        what.append(f"actions differ from float64 by {found['action_error']:.2g} (at most {MAX_ACTION_ERROR:g})")
    if not found["equal"]:
        what.append("two equal runs ended in different bytes")
    return what


def made(device: str, precision: str, compiled: bool) -> tuple[Cohort, Replay]:
    """Return a cohort with initial weights, and a replay with made-up transitions, the same ones every time."""
    config = SACConfig.model_validate(CONFIG | {"precision": precision})
    hyper, gather = [config.hyperparameters()] * MEMBERS, partial(sample, n_step=1)
    cohort = Cohort(learner(config, *DIMS), hyper, range(MEMBERS), gather, 1, dtype_of(config), device, compiled)
    replay, numbers = Replay(MEMBERS, 1, *DIMS, 2 * STEPS, device), np.random.default_rng(0)

    def normal(*shape: int) -> np.ndarray:
        return numbers.standard_normal((MEMBERS, *shape)).astype(np.float32)

    replay.start(normal(DIMS[0]))
    for t in range(STEPS):
        terminated, truncated = np.full(MEMBERS, t % 20 == 9), np.full(MEMBERS, t % 20 == 19)
        step = Step(normal(DIMS[0]), normal(DIMS[0]), normal(), terminated, truncated)
        replay.add(np.tanh(normal(DIMS[1])), step)
    return cohort, replay


def trained(cohort: Cohort, replay: Replay) -> Trained:
    """Make ten updates and choose one action of each member."""
    before = parameters(cohort)
    for number in range(UPDATES):
        cohort.update(replay.memory(), number)
    warm = torch.ones((), dtype=torch.bool, device=cohort.device)
    newest = replay.newest.clone(memory_format=torch.contiguous_format)
    action = cohort.explore(newest, replay.started(), replay.written, warm)
    state = [leaf.to("cpu", copy=True) for leaf in tree_leaves(cohort.state)]
    return Trained(before, parameters(cohort), action.double().cpu(), state)


def parameters(cohort: Cohort) -> Tensor:
    """Return all parameters of a cohort as float64 [P] on the CPU."""
    return torch.cat([leaf.double().cpu().flatten() for leaf in tree_leaves(cohort.state["params"])])


def updates_per_second(cohort: Cohort, replay: Replay) -> float:
    """Return the updates of all members per second; they have made UPDATES before."""
    data, done = replay.memory(), 0
    began = time.perf_counter()
    while time.perf_counter() - began < TIMED_SECONDS:
        cohort.update(data, UPDATES + done)
        done += 1
    cohort.finite()  # waits for the device
    return cohort.size * done / (time.perf_counter() - began)


def peak_bytes(device: str) -> int:
    """Return the most bytes that this process has held on a GPU, or in memory."""
    if device == "cuda":
        return torch.cuda.max_memory_allocated()
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def main() -> None:
    """Test the device that the command line names."""
    device = sys.argv[1]
    prepare_process(device, 1)
    print(json.dumps(self_test(device, cannot_compile() is None)), flush=True)


if __name__ == "__main__":
    main()
