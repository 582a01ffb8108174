"""Kill processes, damage files and fill the disk until a small experiment has ended; compare it with an undisturbed one.

`make soak`. Two commands share one results folder. Every few seconds one process, or all, is killed or asked to stop.
Now and then, with no process alive, a file is damaged or the disk is filled. Damage to the newest checkpoint must be
recovered from the previous one. Other damage must be reported in one line, and repaired by --retrain.
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

ROOT = Path(__file__).parents[1]
EXPERIMENT = """
name = "soak"
question = "Does what happens to the machine change the result?"
envs = ["Hopper-v5"]
seeds = SEEDS
steps = STEPS
[base]
layers = [64, 64]
batch_size = 64
learning_starts = 200
eval_every = 200
eval_episodes = 1
replay_capacity = 1000
utd = 0.25
pool_episodes = 1
[variants.sac]
[variants.v-network]
value_network = true
"""
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


class Soak:
    """One experiment, its two commands, and counts of what was done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.results, self.random = folder, folder / "results", random.Random(seed)
        self.commands: list[subprocess.Popen[str]] = []
        self.counts: Counter[str] = Counter()
        self.committed: dict[str, int] = {}
        self.damaged: set[str] = set()

    def start(self, *more: str, results: str = "results", stdout: int = subprocess.DEVNULL) -> subprocess.Popen[str]:
        arguments = ["run", "soak.toml", "--workers", "1", "--results", results, *more]
        process = subprocess.Popen(
            [sys.executable, "-m", "sac_bench.cli.main", *arguments],
            cwd=self.folder,
            text=True,
            start_new_session=True,
            stdout=stdout,
            stderr=subprocess.PIPE,
            env=os.environ | {"TORCH_COMPILE_DISABLE": "1"},
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        return process

    def maintain(self, *more: str) -> list[int]:
        """Keep two commands running, and return the exit codes of those that have ended by themselves."""
        ended = [command.wait() for command in self.commands if command.poll() is not None]
        for command in [c for c in self.commands if c.poll() is not None]:
            self.read_errors(command)
        self.commands = [command for command in self.commands if command.poll() is None]
        while len(self.commands) < 2 and 0 not in ended:
            self.commands.append(self.start(*more))
        return ended

    def read_errors(self, command: subprocess.Popen[str]) -> str:
        assert command.stderr is not None
        errors = command.stderr.read()
        if "Traceback" in errors:
            self.counts["tracebacks"] += 1
            print(errors, file=sys.stderr)
        return errors

    def workers(self) -> list[int]:
        listed = subprocess.run(
            ["pgrep", "-f", f"execution.worker {self.results.name} "], capture_output=True, text=True
        )
        own = [int(pid) for pid in listed.stdout.split()]
        return [pid for pid in own if _folder_of(pid) == self.folder]

    def wait_for_progress(self, timeout: float = 120.0) -> None:
        """Wait until a segment is saved or a command has ended."""
        before, deadline = self.saved_steps(), time.monotonic() + timeout
        while self.saved_steps() == before and not any(command.poll() is not None for command in self.commands):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing was saved for {timeout} s: {before}")
            time.sleep(0.05)

    def harass(self) -> None:
        """Kill or stop something."""
        processes = [command.pid for command in self.commands] + self.workers()
        victims = processes if self.random.random() < 0.2 else [self.random.choice(processes)]
        number = self.random.choice(SIGNALS)
        for pid in victims:
            self.kill(pid, number, "all" if len(victims) > 1 else self.kind(pid))

    def kill(self, pid: int, number: signal.Signals, target: str) -> None:
        """Send a signal once, if the process still exists."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.counts[f"{number.name} to {target}"] += 1
            self.counts["kills"] += 1

    def kind(self, pid: int) -> str:
        return "a command" if pid in [command.pid for command in self.commands] else "a worker"

    def kill_all(self) -> None:
        """Kill everything, and check that no committed segment is lost."""
        for pid in [command.pid for command in self.commands] + self.workers():
            self.kill(pid, signal.SIGKILL, "all")
        for command in self.commands:
            command.wait()
            self.read_errors(command)
        while self.workers():
            time.sleep(0.01)
        self.commands = []
        self.watch()

    def watch(self) -> None:
        """Count committed segments that are lost."""
        for cohort, steps in self.saved_steps().items():
            if steps < self.committed.get(cohort, 0):
                self.counts["lost segments"] += cohort not in self.damaged
                self.damaged.discard(cohort)
            self.committed[cohort] = steps

    def saved_steps(self) -> dict[str, int]:
        """Return the steps of every cohort's newest checkpoint."""
        found = {}
        for folder in (self.results / "cohorts").glob("*"):
            if newest := sorted(path.stem for path in folder.glob("checkpoint-*.json"))[-1:]:
                found[folder.name] = int(newest[0].split("-")[1])
        return found

    def corrupt_newest(self) -> bool:
        """Damage a file that only the newest checkpoint of a cohort needs."""
        cohorts = [f for f in (self.results / "cohorts").glob("*") if len(list(f.glob("checkpoint-*.json"))) == 2]
        if not cohorts:
            return False
        cohort = self.random.choice(cohorts)
        old, new = sorted(cohort.glob("checkpoint-*.json"))
        only = set(json.loads(new.read_text())["files"]) - set(json.loads(old.read_text())["files"])
        left = [name for name in sorted(only) if (cohort / name).exists()]  # the last damage may not be repaired yet
        path = cohort / self.random.choice([new.name, *left])
        self.counts[f"{self.damage(path)}: newest {path.name.split('-')[0]}"] += 1
        self.counts["corruptions"] += 1
        self.damaged.add(cohort.name)  # this segment is lost by the damage and trained again
        return True

    def corrupt_beyond(self) -> bool:
        """Damage a file that cannot be recovered, check that it is reported, and train again."""
        paths = [*self.results.glob("runs/*/status.json"), *self.results.glob("cohorts/*/plan.json")]
        paths += [p for p in self.results.glob("runs/*/evaluations.csv") if p.stat().st_size > 500]
        if not paths:
            return False
        path = self.random.choice(sorted(paths))
        kept = path.read_bytes()
        how = self.damage(path)
        if path.exists() and path.read_bytes()[: len(kept) - 200] == kept[:-200] and path.suffix == ".csv":
            path.write_bytes(b"," + kept)  # damage to only the newest part could be recovered
        self.counts[f"{how}: {path.name}"] += 1
        self.counts["corruptions"] += 1
        self.commands = [self.start()]
        self.wait_for_progress()
        refused = self.commands[0].poll() not in (None, 0)
        if refused:
            self.read_errors(self.commands[0])
            self.counts["reported, and trained again"] += 1
            command = self.start("--retrain", stdout=subprocess.PIPE)
            self.commands = [command]
            assert command.stdout is not None
            next((line for line in command.stdout if line.startswith("runs:")), "")  # it has planned
        self.committed.clear()
        return True

    def damage(self, path: Path) -> str:
        data = path.read_bytes()
        how = self.random.choice(["cut", "one bit", "missing"])
        if how == "missing":
            path.unlink()
        elif how == "cut":
            path.write_bytes(data[: self.random.randrange(len(data))])
        else:
            at = self.random.randrange(len(data))
            path.write_bytes(data[:at] + bytes([data[at] ^ 1 << self.random.randrange(8)]) + data[at + 1 :])
        return how

    def fill_the_disk(self) -> bool:
        """Fill the disk except for a few kilobytes, check that this is reported, and free the space again."""
        ballast = self.results / "ballast"
        free = os.statvfs(self.results).f_bavail * os.statvfs(self.results).f_frsize
        with open(ballast, "wb") as file:
            file.write(b"\0" * max(0, free - self.random.randrange(0, 60_000)))
        command = self.start()
        self.read_errors(command)
        self.counts["disk full, reported" if command.wait() else "disk full, space sufficed"] += 1
        ballast.unlink()
        return True


def _folder_of(pid: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def comparable(results: Path) -> dict[str, bytes]:
    """Return what must be bit-identical: every run's tables without times, and its policy."""
    found: dict[str, bytes] = {}
    for run in sorted((results / "runs").iterdir()):
        for name in ("evaluations", "episodes", "training"):
            table = pd.read_csv(run / f"{name}.csv").drop(columns="wall_seconds", errors="ignore")
            found[f"{run.name}/{name}.csv"] = table.to_csv().encode()
        found[f"{run.name}/policy.safetensors"] = (run / "policy.safetensors").read_bytes()
    return found


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> int:
    """Return the number of bytes that differ; a file that exists only once counts completely."""
    total = 0
    for name in ours.keys() | theirs.keys():
        one, other = ours.get(name, b""), theirs.get(name, b"")
        total += abs(len(one) - len(other)) + sum(a != b for a, b in zip(one, other, strict=False))
    return total


def soak(
    folder: Path,
    kills: int,
    steps: int,
    seeds: int,
    seed: int = 0,
    damage_every: int = 4,
    pause: float = 3.0,
    small_disk: bool = True,
) -> Counter[str]:
    """Run the test in an empty folder with at least so many kills, and return counts of what was done and found."""
    (folder / "soak.toml").write_text(EXPERIMENT.replace("STEPS", str(steps)).replace("SEEDS", str(seeds)))
    test = Soak(folder, seed)
    undisturbed = test.start(results="undisturbed")
    if undisturbed.wait():
        raise RuntimeError(test.read_errors(undisturbed))
    test.results.mkdir()
    if small_disk:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", test.results], capture_output=True)
        small_disk = mounted.returncode == 0
    damages = [test.corrupt_newest] * 3 + [test.corrupt_beyond] + [test.fill_the_disk] * small_disk
    until_damage = damage_every
    try:
        while 0 not in test.maintain():
            test.wait_for_progress()
            time.sleep(test.random.uniform(0.0, pause))
            test.watch()
            if test.counts["kills"] >= kills and test.counts["corruptions"]:
                continue
            test.harass()
            until_damage -= 1
            if until_damage <= 0:
                test.kill_all()
                until_damage = damage_every
                if damages[0]():  # otherwise there was nothing to damage yet
                    damages.append(damages.pop(0))
        for command in test.commands:
            command.wait()
            test.read_errors(command)
        test.counts["differing bytes"] = differing(comparable(test.results), comparable(folder / "undisturbed"))
    finally:
        for pid in [command.pid for command in test.commands if command.poll() is None] + test.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if small_disk:
            subprocess.run(["umount", "--lazy", test.results], check=False)
    return test.counts


def main() -> None:
    """Run the command and write its summary to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak")
    arguments = parser.parse_args()
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = soak(Path(folder), arguments.kills, arguments.steps, arguments.seeds, arguments.seed)
    for name in ("lost segments", "differing bytes", "tracebacks"):
        counts.setdefault(name, 0)
    minutes = (time.monotonic() - start) / 60
    table = pd.DataFrame({"what": counts.keys(), "count": counts.values()}).sort_values("what")
    arguments.out.mkdir(parents=True, exist_ok=True)
    text = (
        f"# Soak: {counts['kills']} kills, {counts['corruptions']} corruptions, {counts['lost segments']} lost segments, "
        f"{counts['differing bytes']} differing bytes\n\n`make soak`: two commands train {2 * arguments.seeds} runs of "
        f"{arguments.steps} steps (Hopper-v5, a segment every 200) in one folder, in {minutes:.0f} minutes; random seed "
        f"{arguments.seed}. What it does: tests/soak.py.\n\n{table.to_markdown(index=False)}\n"
    )
    (arguments.out / "README.md").write_text(text)
    (arguments.out / "counts.json").write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
    print(text)
    sys.exit(bool(counts["lost segments"] or counts["differing bytes"] or counts["tracebacks"]))


if __name__ == "__main__":
    main()
