"""One process that trains one cohort: from its directory to its runs' directories.

Started by its guardian (execution/guardian.py) as `python -m sac_bench.execution.worker`, with the cohort's lock held
for as long as it lives. It reports progress as JSON lines on standard output, and everything else on standard error.
Exit code: 0; STOPPED after SIGTERM; NO_RESTART when a restart would not help.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import errno
import importlib
import json
import math
import os
import platform
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn, TextIO

import numpy as np
import torch
from safetensors.torch import save

from sac_bench.algorithms.pytree import named_tensors
from sac_bench.envs import sources
from sac_bench.envs.guard import Stop, in_full
from sac_bench.errors import InputError
from sac_bench.execution import warm_start
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.machine import cannot_compile, fastest_float32_products, keep_freed_memory
from sac_bench.store.atomic import finite, write_atomically
from sac_bench.store.store import ENDED, RunDirectory, Store
from sac_bench.training.evaluate import POLICIES
from sac_bench.training.trainer import Segment, Trainer

NO_RESTART = 2
STOPPED = 128 + signal.SIGTERM
STORAGE_FAULTS = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG)


class Termination:
    """SIGTERM ends the process at once, but not in the middle of saving."""

    def __init__(self) -> None:
        self._wait = self._asked = False

    def __call__(self, *_: Any) -> None:
        if not self._wait:
            os._exit(STOPPED)
        self._asked = True

    @contextmanager
    def waits(self) -> Iterator[None]:
        """Let it wait until what is begun is done."""
        self._wait = True
        yield
        self._wait = False
        if self._asked:
            os._exit(STOPPED)


termination = Termination()


class Worker:
    """Trains a cohort to `steps`, from its newest whole checkpoint if it has one."""

    def __init__(
        self, store: Store, cohort_id: str, steps: int, device: str, threads: int, progress: TextIO | None = None
    ) -> None:
        self.store, self.steps, self._progress = store, steps, progress
        self.directory = CohortDirectory(store.cohort(cohort_id))
        self.runs = [store.run(run_id) for run_id in self.directory.plan()["runs"]]
        # One that was trained again in another cohort keeps its slot here, and nothing of it is written.
        self._here = [run for run in self.runs if run.status().get("cohort", cohort_id) == cohort_id]
        compiled = cannot_compile() is None
        self._about = {"cohort": cohort_id, "cohort_size": len(self.runs), "target_steps": steps}
        self._conditions = _conditions(device, compiled, threads)
        self._specs = [run.spec() for run in self.runs]
        for run, spec in zip(self.runs, self._specs, strict=True):
            if spec.id != run.id:
                raise InputError(_changed(run))
        self.trainer = Trainer(self._specs, steps, device, compiled=compiled, threads=threads)

    def train(self) -> None:
        """Segment by segment to the end; what is saved is never lost."""
        trainer = self.trainer
        saved = self._begin()
        self._tell(None)
        done = saved and self._is_done()
        if done:
            self._finish()
        while not done:
            segment = trainer.train(lambda steps, last: self._tell(last))
            with termination.waits():
                self._save(segment)
                if done := self._is_done():
                    self._finish()
            alive = [not stopped for stopped in trainer.progress.stopped]
            last = float(np.mean(segment.episodes.returns[alive, 0])) if any(alive) else None
            self._tell(last, saved=trainer.steps)
        trainer.close()

    def _begin(self) -> bool:
        """Continue from what is saved, or start with empty tables; whether there was something."""
        trainer, saved = self.trainer, self.directory.saved()
        if saved:
            for complaint in self.directory.restore(trainer, self._here):
                self._log(f"{complaint}; goes on from the checkpoint before, at step {trainer.steps}")
        else:
            for run in self._here:
                if (status := run.status())["status"] in (*ENDED, "damaged") or status["steps"]:
                    raise InputError(f"{run.path} was trained, and its replay is gone; --retrain trains it again")
            for m, (run, spec) in enumerate(zip(self.runs, self._specs, strict=True)):
                if spec.start and run in self._here:
                    trainer.start(m, *warm_start.read(self.store, spec.start))
        trainer.progress.stopped = [
            stopped or run not in self._here for run, stopped in zip(self.runs, trainer.progress.stopped, strict=True)
        ]
        for run in self._alive():
            stages = run.status().get("conditions", []) if saved else []
            if not stages or stages[-1] | {"since": 0} != self._conditions | {"since": 0}:
                stages = [*stages, {"since": trainer.steps} | self._conditions]
            run.update(
                **self._about, status="started", conditions=stages, reason=None, raised_at=None, **self._standing()
            )
        if saved:  # only now: until it is started again, a run that had ended must have what it ended with
            self.directory.go_on(self._here)
        else:
            for run in self._here:
                run.cut_back({})
        return saved

    def _save(self, segment: Segment) -> None:
        began = time.perf_counter()
        for m, run in enumerate(self.runs):
            if not self.trainer.progress.stopped[m]:
                self._record(m, run, segment)
        self.directory.save(self.trainer, self._here)
        for run in self._alive():
            run.update(**self._standing())
        self.trainer.progress.saving_seconds += time.perf_counter() - began

    def _is_done(self) -> bool:
        return self.trainer.steps >= self.steps or not self._alive()

    def _finish(self) -> None:
        for m, run in enumerate(self.runs):
            if not self.trainer.progress.stopped[m]:
                tensors, steps = self.trainer.cohort.weights(m), str(self.trainer.steps)
                write_atomically(run.weights, save(tensors, metadata={"steps": steps}))
        with self.store.planning():  # who asks for more steps does so before or after, not meanwhile
            for run in self._alive():
                run.end("finished")
            plan = self.directory.plan()
            if not plan["keep_replay"] and self.steps >= plan["furthest"]:
                self.directory.drop_replay()

    def _alive(self) -> list[RunDirectory]:
        return [run for run, stopped in zip(self.runs, self.trainer.progress.stopped, strict=True) if not stopped]

    def _standing(self) -> dict[str, Any]:
        progress = self.trainer.progress
        seconds = ("wall_seconds", "share_seconds", "evaluation_seconds", "saving_seconds")
        return {"steps": self.trainer.steps} | {name: round(getattr(progress, name), 3) for name in seconds}

    def _record(self, m: int, run: RunDirectory, segment: Segment) -> None:
        """Append a segment's rows to a run's tables, or end it where it stopped."""
        metrics = {name: float(values[m]) for name, values in segment.metrics.items()}
        figures = {name: value if math.isfinite(value) else "" for name, value in metrics.items()}
        wall = round(self.trainer.progress.wall_seconds, 3)
        if stop := segment.stops.get(m):
            self._stop(run, stop, figures)
            self.trainer.progress.stopped[m] = True
            return
        evaluations, episodes = [], []
        for p, policy in enumerate(POLICIES):
            returns, lengths = segment.episodes.returns[m, p], segment.episodes.lengths[m, p]
            evaluations.append(
                {
                    "step": segment.steps,
                    "policy": policy,
                    "return_mean": float(returns.mean()),
                    "return_std": float(returns.std()),
                    "length_mean": float(lengths.mean()),
                    "episodes": len(returns),
                    "wall_seconds": wall,
                }
            )
            episodes += [
                {"step": segment.steps, "policy": policy, "episode": e, "return": float(returns[e]), "length": int(n)}
                for e, n in enumerate(lengths)
            ]
        finished = segment.training_returns[m]
        training: dict[str, Any] = {"step": segment.steps, "episodes": len(finished)}
        training["return_mean"] = float(np.mean(finished)) if finished else ""
        run.append("evaluations", evaluations)
        run.append("episodes", episodes)
        run.append("training", [training | figures])
        mean, sampled = (row["return_mean"] for row in evaluations)
        run.log(
            f"{_now()} step {segment.steps}: return {mean:.1f} (mean action), {sampled:.1f} (sampled); {wall:.0f} s"
        )
        policy = self.trainer.cohort.learner.policy(self.trainer.cohort.state)
        tensors = {name: leaf[m].cpu().contiguous() for name, leaf in named_tensors(policy).items()}
        write_atomically(run.policy, save(tensors, metadata={"steps": str(segment.steps)}))

    def _stop(self, run: RunDirectory, stop: Stop, figures: dict[str, Any]) -> None:
        """End a run whose cohort goes on: one that failed is left at its last segment."""
        run.log(f"{_now()} {stop.status}: {stop.reason}\n{stop.log}".rstrip())
        if stop.status == "failed":
            print(f"run {run.id} failed: {stop.reason}\n{stop.log}", file=sys.stderr, flush=True)
            run.update(status="failed", reason=stop.reason, raised_at=stop.step)
            return
        run.append("training", [{"step": stop.step, "episodes": "", "return_mean": ""} | figures])
        last = run.table("training").drop(columns=["step", "episodes"]).ffill().iloc[-1].dropna().to_dict()
        run.end("diverged", **self._standing() | {"steps": stop.step}, reason=stop.reason, last_finite=last)

    def _log(self, line: str) -> None:
        print(line, file=sys.stderr, flush=True)
        for run in self._here:
            run.log(f"{_now()} {line}")

    def _tell(self, last_return: float | None, **more: Any) -> None:
        event = {"steps": self.trainer.steps, "last_return": last_return, **more}
        if self._progress is not None:
            print(json.dumps(finite(event), allow_nan=False), file=self._progress, flush=True)


def _changed(run: RunDirectory) -> str:
    """Why a run cannot be trained by what is there now."""
    words = " and ".join(run.differences()) or "another version of what it starts from"
    hint = "" if ".py" in words else f"; a file that the environment itself writes must end in {sources.LOG}"
    return (
        f"run {run.id} was planned with {words}, and is not continued with what is there now; start the command again "
        f"to train with that, or undo the change to continue{hint}"
    )


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")


def _conditions(device: str, compiled: bool, threads: int) -> dict[str, Any]:
    """What the bytes depend on beside spec and cohort (docs/reliability.md)."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "envpool", "gymnasium", "mujoco", "numpy"))
    return {
        "device": _device_name(device),
        "compiled": compiled,
        "threads": threads,
        "products": f"{torch.get_float32_matmul_precision()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"{packages}, python {platform.python_version()}",
        "commit": _commit(),
    }


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "cpu"


def _commit() -> str:
    """The commit of this package's checkout ("+" when it is changed), or its version."""
    here = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--exclude=*"]
        if (here / ".git").exists():
            return subprocess.run(git, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return version("sac_bench")


def prepare_process(device: str, threads: int) -> None:
    """Settings of the whole process that a worker computes fast with."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # Adam's moments decay into numbers that CPUs are slow at
    keep_freed_memory()
    fastest_float32_products(device)


def main() -> None:
    """The process's entry."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("cohort")
    parser.add_argument("steps", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--import", dest="imports", action="append", default=[])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, termination)
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # whatever a library prints goes to the log
    store = Store(Path(arguments.results).absolute())  # environments may change the folder that they are in
    try:
        for module in arguments.imports:
            importlib.import_module(module)
        prepare_process(arguments.device, arguments.threads)
        Worker(store, arguments.cohort, arguments.steps, arguments.device, arguments.threads, progress).train()
    except BrokenPipeError:
        sys.exit("nobody listens any more: what is saved is saved")
    except InputError as error:
        _give_up(str(error), NO_RESTART, progress)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
            _give_up(f"{error.filename or arguments.results}: {error.strerror}", NO_RESTART, progress)
        _give_up(in_full(error), 1, progress)


def _give_up(reason: str, code: int, progress: TextIO) -> NoReturn:
    """Say why by the pipe too: the log may lie on the disk that is full."""
    print(json.dumps({"error": reason}), file=progress, flush=True)
    with contextlib.suppress(OSError):
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
