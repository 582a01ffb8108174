"""Kill tuners and workers until a small study has ended, then count its trials and compare its runs: `make soak-tune`.

Two `sac-bench tune` share the study. Every few seconds one of them, a worker, or everything is killed, and killed tuners
are restarted. Then every run is trained again, undisturbed, in another folder.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import pandas as pd
from rich.console import Console

from sac_bench.execution.worker_options import Workers
from sac_bench.store.store import Store
from sac_bench.tuning.search import Search
from sac_bench.tuning.study import Study, load
from sac_bench.tuning.training import Training
from sac_bench.tuning.trials import Trials
from tests.soak import comparable, differing
from tests.tuning.postgresql import serving

ROOT = Path(__file__).parents[2]
STUDY = """
name = "killed"
envs = ["Hopper-v5"]
seeds = 2
steps = 2400
rungs = [800, 1600]
trials = TRIALS
batch = 4
pruner = "successive-halving"
reduction = 2
[base]
layers = [64, 64]
batch_size = 64
learning_starts = 200
eval_every = 200
eval_episodes = 1
utd = 0.25
pool_episodes = 1
[space]
actor_lr = { type = "float", low = 1e-4, high = 1e-2, log = true }
tau = { type = "float", low = 1e-3, high = 5e-2, log = true }
[held_out]
top = 1
seeds = 2
"""
FATAL = ("numbers missing or duplicated", "trials not ended", "runs not finished", "differing bytes", "tracebacks")


class Disturbed:
    """The study's two tuners, and counts of what was done to them."""

    def __init__(self, folder: Path, storage: str | None, generator: random.Random) -> None:
        self.folder, self.random, self.counts = folder, generator, Counter[str]()
        self.command = [
            sys.executable,
            "-m",
            "sac_bench.cli.main",
            "tune",
            "killed.toml",
            "--workers",
            "1",
            "--device",
            "cpu",
        ]
        self.environment = os.environ | {"TORCH_COMPILE_DISABLE": "1"}
        if storage:
            self.environment["SAC_BENCH_STORAGE"] = storage
        self.tuners: list[subprocess.Popen[str]] = []

    def maintain(self) -> bool:
        """Keep two tuners running. Return whether one has ended by itself, which it does when all trials have ended."""
        ended = False
        for tuner in [tuner for tuner in self.tuners if tuner.poll() is not None]:
            self.read_errors(tuner)
            self.tuners.remove(tuner)
            ended |= tuner.returncode == 0
        while len(self.tuners) < 2 and not ended:
            self.tuners.append(
                subprocess.Popen(
                    self.command,
                    cwd=self.folder,
                    env=self.environment,
                    text=True,
                    start_new_session=True,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                )
            )
        return ended

    def read_errors(self, tuner: subprocess.Popen[str]) -> None:
        assert tuner.stderr is not None
        errors = tuner.stderr.read()
        if tuner.returncode not in (0, -signal.SIGKILL):
            self.counts[f"exit code {tuner.returncode}"] += 1
            print(errors, file=sys.stderr)
        self.counts["tracebacks"] += "Traceback" in errors

    def workers(self) -> list[int]:
        pids = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                is_worker = b"execution.worker" in (entry / "cmdline").read_bytes()
                if is_worker and (entry / "cwd").readlink() == self.folder:
                    pids.append(int(entry.name))
        return pids

    def saved(self) -> int:
        """Return the saved steps of all runs."""
        return sum(json.loads(path.read_text())["steps"] for path in self.folder.glob("results/runs/*/status.json"))

    def kill(self) -> None:
        """Kill a worker, a tuner, or everything."""
        tuners = [tuner.pid for tuner in self.tuners]
        workers = self.workers()
        target = self.random.choice(["a worker", "a tuner", "everything"] if workers else ["a tuner", "everything"])
        victims = {"a worker": workers[:1], "a tuner": tuners[:1], "everything": [*tuners, *workers]}[target]
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.random.shuffle(self.tuners)
        self.counts["kills"] += 1
        self.counts[f"SIGKILL to {target}"] += 1

    def run(self, kills: int) -> None:
        """Run until a tuner has ended by itself. Kill only if something was saved since the last kill."""
        saved = 0
        try:
            while not self.maintain():
                if self.counts["kills"] < kills and self.saved() > saved:
                    time.sleep(self.random.uniform(0.0, 3.0))
                    self.kill()
                    saved = self.saved()
                time.sleep(0.05)
            for tuner in self.tuners:
                tuner.wait()
            self.maintain()
        finally:
            for pid in [tuner.pid for tuner in self.tuners if tuner.poll() is None] + self.workers():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def undisturbed(study: Study, store: Store, trials: Trials, planner: str, other: Store) -> None:
    """Train the study's runs and its held-out runs, each variant on its own, in another folder."""
    search = Search(study, trials, Training(store, planner, Workers("cpu", 1), False, Console(quiet=True)))
    listed = search.listed()
    best = json.loads((store.experiment(study.name) / "study.json").read_text())["verdict"]["contenders"][1]["name"]
    held_out = [listed.variants["default"], listed.variants[best]]
    with other.planner() as own:
        training = Training(other, own, Workers("cpu", 1), False, Console(quiet=True))  # one thread: bytes depend on it
        training.train(listed, 0, splits=True)
        training.train(study.experiment(held_out, "held-out", study.held_out_seeds), 0, splits=True)


def soak(folder: Path, kills: int, trials: int, seed: int, storage: str | None = None) -> Counter[str]:
    """Run the test in an empty folder, and return counts of what was done and found."""
    (folder / "killed.toml").write_text(STUDY.replace("TRIALS", str(trials)))
    disturbed = Disturbed(folder, storage, random.Random(seed))
    disturbed.run(kills)
    counts, study, store = disturbed.counts, load(folder / "killed.toml"), Store(folder / "results")
    with store.planner() as planner:
        trials_in_storage = Trials(study, store, planner, storage)
        found = trials_in_storage.all()
        os.environ["TORCH_COMPILE_DISABLE"] = "1"
        undisturbed(study, store, trials_in_storage, planner, Store(folder / "undisturbed"))
    counts["trials"] = len(found)
    counts["numbers missing or duplicated"] = len({*range(trials)} ^ {t.number for t in found}) + abs(
        len(found) - trials
    )
    counts["trials not ended"] = sum(trial.state not in ("COMPLETE", "PRUNED") for trial in found)
    counts["trials pruned"] = sum(trial.state == "PRUNED" for trial in found)
    runs = [store.run(run_id).status() for run_id in store.run_ids()]
    counts["runs"] = len(runs)
    counts["runs not finished"] = sum(status["status"] != "finished" for status in runs)
    ours, theirs = comparable(store.root), comparable(folder / "undisturbed")
    counts["differing bytes"] = differing(ours, theirs)
    for name in sorted(ours.keys() | theirs.keys()):
        if ours.get(name) != theirs.get(name):
            print("differs:", name, len(ours.get(name, b"")), len(theirs.get(name, b"")), file=sys.stderr)
    return counts


def main() -> None:
    """Run the command and write its summary to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=8)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--postgresql", action="store_true", help="trials in a server's database, not in the journal")
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak-tune")
    arguments = parser.parse_args()
    start = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        serving() if arguments.postgresql else contextlib.nullcontext() as url,
    ):
        counts = soak(Path(folder).resolve(), arguments.kills, arguments.trials, arguments.seed, url)
    minutes = (time.monotonic() - start) / 60
    where = "a PostgreSQL server" if arguments.postgresql else "a journal"
    table = pd.DataFrame({"what": counts.keys(), "count": counts.values()}).sort_values("what")
    text = (
        f"# A study killed {counts['kills']} times: {counts['trials']} of {arguments.trials} trials, "
        f"{counts['differing bytes']} differing bytes\n\n`make soak-tune`: two tuners share a study of {arguments.trials} "
        f"trials by {where}, in {minutes:.0f} minutes, its undisturbed repetition included; random seed {arguments.seed}. "
        f"What it does: tests/tuning/soak.py.\n\n{table.to_markdown(index=False)}\n"
    )
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "README.md").write_text(text)
    (arguments.out / "counts.json").write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
    print(text)
    sys.exit(any(counts[name] for name in FATAL))


if __name__ == "__main__":
    main()
