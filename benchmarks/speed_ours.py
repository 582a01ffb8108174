"""Train some of our runs on command: what benchmarks/speed.py starts, in a process of its own.

    python benchmarks/speed_ours.py '{"env": "HalfCheetah-v5", "members": 4, "precision": "bfloat16"}'
    python benchmarks/speed_ours.py '{"env": "HalfCheetah-v5", "algorithm": "ppo", "num_envs": 8}'

Says {"ready": ...} when everything is compiled, then answers each line "train SECONDS" or "update SECONDS" with
what it did in that time, counted over all members.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from sac_bench.algorithms import ALGORITHMS
from sac_bench.execution.machine import cores, fastest_float32_products, keep_freed_memory
from sac_bench.options.config import ReplayConfig
from sac_bench.spec.run import RunSpec
from sac_bench.training.trainer import Trainer

WARM_UP = 30


def main() -> None:
    options = {
        "algorithm": "sac",
        "members": 1,
        "compiled": True,
        "device": "cpu",
        "fill": 0,
        "steps": 1_000_000,
    } | json.loads(sys.argv[1])
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    keep_freed_memory()
    fastest_float32_products(options["device"])
    trainer = made(options)
    flops = count_flops(trainer) if isinstance(trainer.config, ReplayConfig) else 0
    trainer = made(options)
    trainer._open_pool()
    finished: list[list[float]] = [[] for _ in trainer.seeds]

    def train() -> None:
        trainer._vector_step(finished)
        trainer._update()

    while trainer.progress.updates < WARM_UP:
        train()
    fill(trainer, options["fill"])

    def update() -> None:
        trainer.cohort.update(trainer.replay.memory(), trainer.progress.updates)

    actions = {"train": train, "update": update}
    say({"ready": True, "flops": flops})
    for line in sys.stdin:
        name, seconds = line.split()
        say(repeat(actions[name], float(seconds), trainer))


def made(options: dict[str, Any]) -> Trainer:
    config_type = ALGORITHMS[options["algorithm"]].config
    settings = {"learning_starts": 1024, "eval_every": options["steps"]} | options
    config = config_type.model_validate({k: v for k, v in settings.items() if k in config_type.model_fields})
    specs = [RunSpec(options["algorithm"], config, options["env"], seed) for seed in range(options["members"])]
    threads = 1 if options["device"] == "cpu" else cores()
    return Trainer(specs, options["steps"], options["device"], compiled=options["compiled"], threads=threads)


def count_flops(trainer: Trainer) -> int:
    """Additions and multiplications of one member's products in one update, counted by torch as it runs eagerly."""
    config, cohort = trainer.config, trainer.cohort
    fill(trainer, config.batch_size)
    rows, words = trainer.replay.memory(), cohort._update_words.at(0)
    with FlopCounterMode(display=False) as counter:
        cohort._update_all(cohort.learner.update, cohort.state, cohort.hyper, words, cohort.record, rows)
    return counter.get_total_flops() // cohort.size


def fill(trainer: Trainer, rows: int) -> None:
    """Make up rows where the replay has fewer, so that samples come from as much memory as in a long run."""
    replay = trainer.replay
    if rows <= replay.written:
        return
    for start in range(0, rows, 10_000):
        replay._ring[:, start : min(rows, start + 10_000)] = 0.1
    replay.terminated[:, :rows], replay.final_slot[:, :rows] = 0, -1
    replay.written = rows
    replay.newest.fill_(0.1)


def repeat(action: Callable[[], None], seconds: float, trainer: Trainer) -> dict[str, float]:
    steps, updates, began, count = trainer.steps, trainer.progress.updates, time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        action()
        count += 1
    if trainer.cohort.device.type == "cuda":
        torch.cuda.synchronize()
    members, done = trainer.cohort.size, trainer.progress.updates - updates
    return {
        "seconds": time.perf_counter() - began,
        "steps": members * (trainer.steps - steps),
        "updates": members * (done or count),
        "peak_bytes": peak_bytes(),
    }


def peak_bytes() -> int:
    """The most memory this process has held, on the device where there is one."""
    if torch.cuda.is_initialized():
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
