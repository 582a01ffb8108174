"""One process that trains one cohort: from its directory to its runs' directories.

Started by `execution.local` as `python -m sac_bench.execution.worker`; tells its progress as JSON lines on
the file descriptor it was started with as standard output, and everything else on standard error.
"""

from __future__ import annotations

import argparse
import datetime
import importlib
import json
import os
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import torch
from safetensors.torch import save

from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.machine import cannot_compile, fastest_float32_products, keep_freed_memory
from sac_bench.store import RunDirectory, Store, write_atomically
from sac_bench.training.evaluate import POLICIES
from sac_bench.training.naming import named_tensors
from sac_bench.training.trainer import Segment, Trainer


def train_cohort(store: Store, cohort_id: str, device: str, threads: int, keep_replay: bool, progress: TextIO) -> None:
    """Train a cohort to its planned steps, from its last checkpoint if there is one."""
    directory = CohortDirectory(store.cohort(cohort_id))
    with directory.owned():
        _train_owned(store, directory, device, threads, keep_replay, progress)


def _train_owned(
    store: Store, directory: CohortDirectory, device: str, threads: int, keep_replay: bool, progress: TextIO
) -> None:
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # Adam's moments decay into numbers that CPUs are slow at
    keep_freed_memory()
    fastest_float32_products(device)
    compiled = cannot_compile() is None
    plan = directory.plan()
    runs = [store.run(run_id) for run_id in plan["runs"]]
    trainer = Trainer([run.spec() for run in runs], plan["steps"], device, compiled=compiled, threads=threads)
    about = {
        "cohort": directory.path.name,
        "cohort_size": len(runs),
        "device": _device_name(device),
        "compiled": compiled,
        "versions": ", ".join(f"{name} {version(name)}" for name in ("torch", "envpool", "gymnasium", "mujoco")),
        "commit": _commit(),
        "target_steps": plan["steps"],
    }
    saved = directory.saved()
    if saved:
        directory.restore(trainer)
    for run, alive in zip(runs, _alive(trainer), strict=True):
        run.drop_after(trainer.steps if saved else -1)
        if alive:
            run.update(**about, status="running", steps=trainer.steps, reason=None)
    tell = _teller(progress)
    tell(steps=trainer.steps, last_return=None)
    while (not saved or trainer.steps < plan["steps"]) and any(_alive(trainer)):
        segment = trainer.train(lambda steps, last: tell(steps=steps, last_return=last))
        saved = True
        _record(runs, trainer, segment)
        directory.save(trainer)
        for run, alive in zip(runs, _alive(trainer), strict=True):
            if alive:
                run.update(steps=segment.steps, wall_seconds=round(segment.wall_seconds, 3),
                           evaluation_seconds=round(segment.evaluation_seconds, 3))  # fmt: skip
        tell(steps=segment.steps, last_return=float(np.mean(segment.episodes.returns[:, 0])))
    trainer.close()
    for run, alive in zip(runs, _alive(trainer), strict=True):
        if alive:
            run.update(status="finished")
    if not keep_replay and plan["steps"] >= plan["furthest"]:
        directory.drop_replay()


def _alive(trainer: Trainer) -> list[bool]:
    return [not stopped for stopped in trainer.progress.stopped]


def _record(runs: list[RunDirectory], trainer: Trainer, segment: Segment) -> None:
    """Append a segment's rows to every run that still counts."""
    wall = round(segment.wall_seconds, 3)
    for m, run in enumerate(runs):
        if trainer.progress.stopped[m]:
            continue
        evaluations, episodes = [], []
        for p, policy in enumerate(POLICIES):
            returns, lengths = segment.episodes.returns[m, p], segment.episodes.lengths[m, p]
            evaluations.append(
                {"step": segment.steps, "policy": policy, "return_mean": float(returns.mean()),
                 "return_std": float(returns.std()), "length_mean": float(lengths.mean()),
                 "episodes": len(returns), "wall_seconds": wall}
            )  # fmt: skip
            episodes += [
                {"step": segment.steps, "policy": policy, "episode": e, "return": float(returns[e]), "length": int(n)}
                for e, n in enumerate(lengths)
            ]
        finished = segment.training_returns[m]
        training: dict[str, Any] = {
            "step": segment.steps,
            "episodes": len(finished),
            "return_mean": float(np.mean(finished)) if finished else "",
        }
        metrics = {name: float(values[m]) for name, values in segment.metrics.items()}
        training |= {name: metrics.get(name, "") for name in trainer.cohort.learner.metrics}
        run.append("evaluations", evaluations)
        run.append("episodes", episodes)
        run.append("training", [training])
        mean, sampled = (row["return_mean"] for row in evaluations)
        run.log(
            f"{_now()} step {segment.steps}: return {mean:.1f} (mean action), {sampled:.1f} (sampled); {wall:.0f} s"
        )
        if segment.finite[m]:
            actor = {"actor": trainer.cohort.state["params"]["actor"]}
            tensors = {name: leaf[m].cpu().contiguous() for name, leaf in named_tensors(actor).items()}
            write_atomically(run.path / "policy.safetensors", save(tensors, metadata={"steps": str(segment.steps)}))
        else:
            trainer.progress.stopped[m] = True
            run.log(f"{_now()} diverged by step {segment.steps}: parameters hold NaN or infinity")
            run.update(status="diverged", steps=segment.steps, wall_seconds=wall, last_metrics=repr(metrics))


def _teller(progress: TextIO) -> Any:
    def tell(**event: Any) -> None:
        print(json.dumps(event), file=progress, flush=True)

    return tell


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "cpu"


def _commit() -> str:
    """The commit of this package's checkout ("+" when it is changed), or its version."""
    here = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        if (here / ".git").exists():
            return subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return version("sac_bench")


def main() -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("cohort")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep-replay", action="store_true")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    arguments = parser.parse_args()
    progress = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    for module in arguments.imports:
        importlib.import_module(module)
    store = Store(arguments.results)
    train_cohort(store, arguments.cohort, arguments.device, arguments.threads, arguments.keep_replay, progress)


if __name__ == "__main__":
    main()
