"""Measure one cohort on a device: what benchmarks/device.py starts, in a process of its own.

    python benchmarks/device_subject.py '{"env": "HalfCheetah-v5", "members": 64, "precision": "tf32", "device":"cuda"}'

Says {"ready": ...} when everything is compiled. A line "measure SECONDS" is answered by rates per second of all members
together, with and without CUDA graphs; "profile FILE" writes where the time of some vector steps goes.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from speed_ours import WARM_UP, count_flops, fill, made, peak_bytes, say
from torch.profiler import ProfilerActivity, profile
from torch.utils._pytree import tree_leaves

from sac_bench.execution.machine import use_precision
from sac_bench.execution.worker import prepare_process
from sac_bench.training.trainer import Trainer

PROFILED_STEPS = 20
COPIED_BYTES = {"cuda": 2**30, "cpu": 2**24}


def main() -> None:
    options = {"algorithm": "sac", "compiled": True, "fill": 1024, "steps": 20_000} | json.loads(sys.argv[1])
    device, members = options["device"], options["members"]
    prepare_process(device, 1)
    use_precision(options["precision"], device)
    flops = count_flops(made(options | {"members": 1}))
    trainer = made(options)
    trainer._open_pool()
    fill(trainer, options["fill"])
    finished: list[list[float]] = [[] for _ in trainer.seeds]
    train = partial(vector_step, trainer, finished)
    while trainer.progress.updates < WARM_UP:
        train()
    wait(device)
    state_bytes = sum(leaf.numel() * leaf.element_size() for leaf in tree_leaves(trainer.cohort.state)) // members
    say({"ready": True, "flops": flops, "state_bytes": state_bytes})
    for line in sys.stdin:
        what, argument = line.split(maxsplit=1)
        if what == "profile":
            Path(argument.strip()).write_text(profiled(train, device), encoding="utf-8")
            say({})
        else:
            say(measured(trainer, train, float(argument), options))


def vector_step(trainer: Trainer, finished: list[list[float]]) -> None:
    trainer._vector_step(finished)
    trainer._update()


def measured(trainer: Trainer, train: Callable[[], None], seconds: float, options: dict[str, Any]) -> dict[str, float]:
    device, members, cohort = options["device"], options["members"], trainer.cohort
    data, number = trainer.replay.memory(), iter(range(10**6, 10**9))
    assert trainer._pool is not None
    actions = np.zeros((members, trainer.env.action_dim), dtype=np.float32)
    found = {"environment_steps": members * rate(partial(trainer._pool.step, actions), seconds / 2, device)}
    for name, records in {"graphs": True, "no graphs": False}.items() if device == "cuda" else [("no graphs", False)]:
        cohort.records = records
        for _ in range(5):  # so that everything is recorded before it is timed
            train()
        found[f"updates, {name}"] = members * rate(lambda: cohort.update(data, next(number)), seconds, device)
        found[f"steps, {name}"] = members * rate(train, seconds, device)
    cohort.records = device == "cuda"
    found["product_flops"] = products_per_second(members, options["precision"], seconds / 2, device)
    found["copied_bytes"] = copied_bytes_per_second(seconds / 2, device)
    return found | {"peak_bytes": peak_bytes()}


def rate(action: Callable[[], Any], seconds: float, device: str) -> float:
    """Return calls per second. The device may lag behind by at most 50 calls while they are counted."""
    wait(device)
    began, count = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        action()
        count += 1
        if count % 50 == 0:
            wait(device)
    wait(device)
    return count / (time.perf_counter() - began)


def products_per_second(members: int, precision: str, seconds: float, device: str) -> float:
    """Return floating-point operations per second of the hidden products of two critics of every member."""
    dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
    a, b, out = (torch.randn(2 * members, 256, 256, device=device, dtype=dtype) for _ in range(3))
    return rate(lambda: torch.bmm(a, b, out=out), seconds, device) * 2 * members * 2 * 256**3


def copied_bytes_per_second(seconds: float, device: str) -> float:
    """Return bytes read and written per second by copies of a large tensor."""
    a, b = (torch.zeros(COPIED_BYTES[device] // 4, device=device) for _ in range(2))
    return rate(lambda: a.copy_(b), seconds, device) * 2 * COPIED_BYTES[device]


def profiled(train: Callable[[], None], device: str) -> str:
    """Return a table of operations and kernels by their time in some vector steps with updates."""
    cuda = device == "cuda"
    with profile(activities=[ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]) as found:
        for _ in range(PROFILED_STEPS):
            train()
        wait(device)
    order = "self_cuda_time_total" if cuda else "self_cpu_time_total"
    return f"{PROFILED_STEPS} vector steps\n{found.key_averages().table(sort_by=order, row_limit=40)}\n"


def wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


if __name__ == "__main__":
    main()
