"""The process that trains one cohort: it reads the cohort's directory and writes its runs' directories.

Its guardian (execution/guardian.py) starts it as `python -m sac_bench.execution.worker`. It holds the cohort's lock
until it ends. It reports progress as JSON lines on standard output, and everything else on standard error.
Exit code: 0; 1 after an exception; STOPPED after SIGTERM; NO_RESTART when a restart would not help; TAKEN_OVER when
another process has taken the cohort over; OUT_OF_TIME when the next segment would not end in time.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import math
import os
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn, TextIO

import torch

from sac_bench.algorithms import ALGORITHMS
from sac_bench.envs import sources
from sac_bench.envs.guard import in_full
from sac_bench.errors import InputError
from sac_bench.execution import warm_start
from sac_bench.execution.budget import TimeLimit
from sac_bench.execution.calibration import SEGMENTS, Stopwatch
from sac_bench.execution.checkpoint import CohortDirectory, TakenOver
from sac_bench.execution.launch import NO_RESTART, OUT_OF_TIME, STOPPED, TAKEN_OVER
from sac_bench.execution.machine import cannot_compile, fastest_float32_products, keep_freed_memory, use_precision
from sac_bench.execution.provenance import conditions
from sac_bench.execution.recorder import Recorder
from sac_bench.store.atomic import STORAGE_FAULTS, finite
from sac_bench.store.leases import Lease
from sac_bench.store.run import RunDirectory
from sac_bench.store.status import ENDED
from sac_bench.store.store import Store
from sac_bench.training.trainer import Segment, Trainer


class Termination:
    """Ends the process at once on SIGTERM, or after saving if it arrives then."""

    def __init__(self) -> None:
        self._deferred = self._requested = False

    def __call__(self, *_: Any) -> None:
        """Stop the process at once, or after a deferred part."""
        if not self._deferred:
            os._exit(STOPPED)
        self._requested = True

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Defer the end of the process until the block is done."""
        self._deferred = True
        yield
        self._deferred = False
        if self._requested:
            os._exit(STOPPED)


termination = Termination()


class Worker:
    """Trains a cohort to `steps`, from its newest intact checkpoint if it has one.

    lease: the lease on the cohort. Without it, only exclusive commits keep another process from saving the same steps.
    receipts: gives a line whenever the files have been copied that were written last. Nothing is written before.
    """

    def __init__(
        self,
        store: Store,
        cohort_id: str,
        steps: int,
        device: str,
        threads: int,
        progress: TextIO | None = None,
        lease: Lease | None = None,
        limit: TimeLimit | None = None,
        receipts: TextIO | None = None,
    ) -> None:
        self.store, self.steps, self._progress, self._receipts = store, steps, progress, receipts
        self._limit = limit or TimeLimit()
        self._durations: deque[float] = deque(maxlen=SEGMENTS)  # of the last segments, in seconds
        self.directory = CohortDirectory(store.cohort(cohort_id), lease.renew if lease else _always)
        self.runs = [store.run(run_id, self.directory.check_owner) for run_id in self.directory.plan()["runs"]]
        self._own_runs = [run for run in self.runs if run.status().get("cohort", cohort_id) == cohort_id]
        compiled = cannot_compile() is None
        self._specs = [run.spec() for run in self.runs]
        use_precision(self._specs[0].config.precision, device)
        self._about = {"cohort": cohort_id, "cohort_size": len(self.runs), "target_steps": steps}
        self._conditions = conditions(device, compiled, threads)
        for run, spec in zip(self.runs, self._specs, strict=True):
            if spec.id != run.id:
                raise InputError(_spec_has_changed(run))
        self.trainer = Trainer(self._specs, steps, device, compiled=compiled, threads=threads)
        self._recorder = Recorder(self.trainer, self.runs, self._own_runs, self.directory)

    def train(self) -> bool:
        """Train segment by segment, and save each. Return whether it went to the end: False if there is no time.

        Raises TakenOver if another process has taken the cohort over, InputError if files are missing or damaged.
        """
        try:
            return self._train()
        except InputError:
            self.directory.check_owner()  # another owner changes files, too
            raise

    def _train(self) -> bool:
        trainer = self.trainer
        resumed = self._start()
        self._stopwatch = Stopwatch(trainer.progress.updates)
        self._report()
        done = resumed and self._is_done()
        if done:
            self._wait_for_receipt()
            self._finish()
        while not done and max(self._durations, default=0.0) <= self._limit.left:
            began = self._limit.clock()
            segment = trainer.train(self._report)
            self._wait_for_receipt()
            with termination.deferred():
                self._save(segment)
                speed = self._measure()
                if done := self._is_done():
                    self._finish()
            self._report(saved=trainer.steps, speed=speed, returns=self._returns(segment))
            self._durations.append(self._limit.clock() - began)
        trainer.close()
        return done

    def _start(self) -> bool:
        """Resume from a checkpoint, or start with empty tables. Return whether there was a checkpoint."""
        trainer, resumed = self.trainer, self.directory.saved()
        if resumed:
            for problem in self.directory.restore(trainer, self._own_runs):
                self._recorder.log(f"{problem}; resumes from the previous checkpoint, at step {trainer.steps}")
        else:
            for run in self._own_runs:
                if (status := run.status())["status"] in (*ENDED, "damaged") or status["steps"]:
                    raise InputError(f"{run.path} was trained, and its replay is gone; --retrain trains it again")
            for m, (run, spec) in enumerate(zip(self.runs, self._specs, strict=True)):
                if spec.start and run in self._own_runs:
                    weights, q_bound = warm_start.read(self.store, spec.start)
                    trainer.start(m, weights, spec.start.temperature, q_bound)
        trainer.progress.stopped = [
            stopped or run not in self._own_runs
            for run, stopped in zip(self.runs, trainer.progress.stopped, strict=True)
        ]
        self._recorder.start(self._conditions, resumed, self._about)
        if resumed:  # only now: a run that had ended must keep all of its results until it is marked as started
            self._recorder.publish_again(self.directory.drop_later(self._own_runs))
        else:
            self.directory.cut_back(self._own_runs)
        return resumed

    def _save(self, segment: Segment) -> None:
        start = time.perf_counter()
        record = self._recorder.record(segment)
        self.directory.save(self.trainer, self._own_runs, record)
        self.directory.write_tables(self._own_runs)
        self.directory.check_owner()
        self._recorder.publish(record)
        self.trainer.progress.saving_seconds += time.perf_counter() - start

    def _wait_for_receipt(self) -> None:
        """Wait until what was written last has been copied. Raises BrokenPipeError if no process copies it any more."""
        if self._receipts is not None and not self._receipts.readline():
            raise BrokenPipeError

    def _measure(self) -> dict[str, Any] | None:
        """Write how long the last segments took, and return it; None if it is not known yet."""
        measured = self._stopwatch.end_segment(self.trainer.steps, self.trainer.progress.updates)
        if measured is None:
            return None
        machine = {name: self._conditions[name] for name in ("device", "device_kind", "compiled")}
        spec = self._specs[0]
        speed = {"run": spec.id, "env": spec.env, "runs": len(self.runs), **measured, **machine}
        self.directory.write_speed(speed)
        return speed

    def _is_done(self) -> bool:
        return self.trainer.steps >= self.steps or not self._recorder.active_runs()

    def _finish(self) -> None:
        self._recorder.write_weights()
        with self.store.planning():  # a command that needs more steps plans them before or after, not in between
            self.directory.check_owner()
            self._recorder.finish()
            if not self.directory.needs_replay(self.steps):
                self.store.check_planning()
                self.directory.check_owner()
                self.directory.drop_replay()

    def _returns(self, segment: Segment) -> dict[str, float]:
        """Return {run id: mean return by the policy that scores it} of an evaluation, of the runs that go on.

        If no run goes on, there is no evaluation.
        """
        policy, played = ALGORITHMS[self._specs[0].algorithm].scored_by, segment.episodes.policies
        if policy not in played:
            return {}
        means = segment.episodes.returns[:, played.index(policy)].mean(axis=1).tolist()
        of_runs = zip(self.runs, means, self.trainer.progress.stopped, strict=True)
        return {run.id: mean for run, mean, stopped in of_runs if not stopped}

    def _report(self, **more: Any) -> None:
        """Write a JSON line for the engine."""
        self._stopwatch.pass_by(self.trainer.steps, self.trainer.progress.updates)
        starting = "compiling" if self.trainer.compiled else "starting"
        phase = "training" if self._stopwatch.runs else starting
        event = {"steps": self.trainer.steps, "phase": phase, **more}
        if self._progress is not None:
            print(json.dumps(finite(event), allow_nan=False), file=self._progress, flush=True)


def _always() -> bool:
    """Return that the cohort is still this process's."""
    return True


def _spec_has_changed(run: RunDirectory) -> str:
    """Return why a run cannot be trained by the current code."""
    differences = " and ".join(run.differences()) or "another version of the run it starts from"
    hint = "" if ".py" in differences else f"; a file that the environment itself writes must end in {sources.LOG}"
    return (
        f"run {run.id} was planned with {differences}, so it is not continued with the current version; run the "
        f"command again to train with the current version, or undo the change to continue{hint}"
    )


def prepare_process(device: str, threads: int) -> None:
    """Apply the settings of the whole process that make a worker fast."""
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)  # Adam's moments decay to denormal numbers, which are slow on CPUs
    keep_freed_memory()
    fastest_float32_products(device)


def main() -> None:
    """Run the worker's process."""
    began = time.monotonic()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results")
    parser.add_argument("cohort")
    parser.add_argument("steps", type=int)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--lease", metavar="TOKEN")
    parser.add_argument("--seconds", type=float, default=math.inf, help="the time that is left")
    parser.add_argument("--receipts", action="store_true", help="wait for a line on standard input before each save")
    parser.add_argument("--import", dest="imports", action="append", default=[])
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, termination)
    progress = os.fdopen(os.dup(1), "w", encoding="utf-8")
    receipts = os.fdopen(os.dup(0), encoding="utf-8") if arguments.receipts else None
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # so environments read no receipts
    os.dup2(2, 1)  # so what libraries print goes to the log
    store = Store(Path(arguments.results).absolute())  # environments may change the working directory
    try:
        for module in arguments.imports:
            importlib.import_module(module)
        prepare_process(arguments.device, arguments.threads)
        lease = store.lease_of(arguments.cohort, arguments.lease) if arguments.lease else None
        limit = TimeLimit(began + arguments.seconds)
        trained = (store, arguments.cohort, arguments.steps, arguments.device, arguments.threads)
        worker = Worker(*trained, progress, lease, limit, receipts)
        if not worker.train():
            sys.exit(OUT_OF_TIME)
    except BrokenPipeError:
        sys.exit("the command is gone: stopped; what was saved is kept")
    except TakenOver as error:
        _give_up(str(error), TAKEN_OVER, progress)
    except InputError as error:
        _give_up(str(error), NO_RESTART, progress)
    except Exception as error:
        if isinstance(error, OSError) and error.errno in STORAGE_FAULTS:
            _give_up(f"{error.filename or arguments.results}: {error.strerror}", NO_RESTART, progress)
        _give_up(in_full(error), 1, progress)


def _give_up(reason: str, code: int, progress: TextIO) -> NoReturn:
    """Report the reason through the pipe too, since the log may be on a disk that is full, and exit."""
    print(json.dumps({"error": reason}), file=progress, flush=True)
    with contextlib.suppress(OSError):
        traceback.print_exc()
        sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    main()
