"""Kill, corrupt and fill until a small experiment has ended, then compare it with an undisturbed one: `make soak`.

Two commands share one results folder. Every few seconds a process, or all, is killed or told to stop; now and then,
with none alive, a file is harmed or the disk is filled. What is harmed in the newest checkpoint must be made up for
from the one before; what is harmed beyond that must be told in one line, and mended by --retrain.
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
    """One experiment, its two commands, and what was done to them."""

    def __init__(self, folder: Path, seed: int) -> None:
        self.folder, self.results, self.random = folder, folder / "results", random.Random(seed)
        self.commands: list[subprocess.Popen[str]] = []
        self.counts: Counter[str] = Counter()
        self.committed: dict[str, int] = {}
        self.harmed: set[str] = set()

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

    def tend(self, *more: str) -> list[int]:
        """Keep two commands going; the exit codes of those that have ended by themselves."""
        ended = [command.wait() for command in self.commands if command.poll() is not None]
        for command in [c for c in self.commands if c.poll() is not None]:
            self.hear(command)
        self.commands = [command for command in self.commands if command.poll() is None]
        while len(self.commands) < 2 and 0 not in ended:
            self.commands.append(self.start(*more))
        return ended

    def hear(self, command: subprocess.Popen[str]) -> str:
        assert command.stderr is not None
        told = command.stderr.read()
        if "Traceback" in told:
            self.counts["tracebacks"] += 1
            print(told, file=sys.stderr)
        return told

    def workers(self) -> list[int]:
        listed = subprocess.run(
            ["pgrep", "-f", f"execution.worker {self.results.name} "], capture_output=True, text=True
        )
        own = [int(pid) for pid in listed.stdout.split()]
        return [pid for pid in own if _folder_of(pid) == self.folder]

    def wait_for_progress(self, most: float = 120.0) -> None:
        """Until a segment was saved since the last time, or a command has ended."""
        before, deadline = self.standing(), time.monotonic() + most
        while self.standing() == before and not any(command.poll() is not None for command in self.commands):
            if time.monotonic() > deadline:
                raise RuntimeError(f"nothing was saved for {most} s: {before}")
            time.sleep(0.05)

    def harass(self) -> None:
        """Kill or stop something."""
        processes = [command.pid for command in self.commands] + self.workers()
        victims = processes if self.random.random() < 0.2 else [self.random.choice(processes)]
        number = self.random.choice(SIGNALS)
        for pid in victims:
            self.kill(pid, number, "all" if len(victims) > 1 else self.kind(pid))

    def kill(self, pid: int, number: signal.Signals, whom: str) -> None:
        """Once, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            self.counts[f"{number.name} to {whom}"] += 1
            self.counts["kills"] += 1

    def kind(self, pid: int) -> str:
        return "a command" if pid in [command.pid for command in self.commands] else "a worker"

    def silence(self) -> None:
        """Kill everything, and see that nothing that was committed is gone."""
        for pid in [command.pid for command in self.commands] + self.workers():
            self.kill(pid, signal.SIGKILL, "all")
        for command in self.commands:
            command.wait()
            self.hear(command)
        while self.workers():
            time.sleep(0.01)
        self.commands = []
        self.watch()

    def watch(self) -> None:
        """Count segments that were committed and are no longer."""
        for cohort, steps in self.standing().items():
            if steps < self.committed.get(cohort, 0):
                self.counts["lost segments"] += cohort not in self.harmed
                self.harmed.discard(cohort)
            self.committed[cohort] = steps

    def standing(self) -> dict[str, int]:
        """The newest checkpoint of every cohort that has one."""
        found = {}
        for folder in (self.results / "cohorts").glob("*"):
            if newest := sorted(path.stem for path in folder.glob("checkpoint-*.json"))[-1:]:
                found[folder.name] = int(newest[0].split("-")[1])
        return found

    def corrupt_newest(self) -> bool:
        """Harm a file that only the newest checkpoint of a cohort stands on."""
        cohorts = [f for f in (self.results / "cohorts").glob("*") if len(list(f.glob("checkpoint-*.json"))) == 2]
        if not cohorts:
            return False
        cohort = self.random.choice(cohorts)
        old, new = sorted(cohort.glob("checkpoint-*.json"))
        only = set(json.loads(new.read_text())["files"]) - set(json.loads(old.read_text())["files"])
        left = [
            name for name in sorted(only) if (cohort / name).exists()
        ]  # nobody may have come by since the last harm
        path = cohort / self.random.choice([new.name, *left])
        self.counts[f"{self.harm(path)}: newest {path.name.split('-')[0]}"] += 1
        self.counts["corruptions"] += 1
        self.harmed.add(cohort.name)  # this one segment is the corruption's, and is trained again
        return True

    def corrupt_beyond(self) -> bool:
        """Harm what no other file can make up for, see it told, and have it trained again."""
        paths = [*self.results.glob("runs/*/status.json"), *self.results.glob("cohorts/*/plan.json")]
        paths += [p for p in self.results.glob("runs/*/evaluations.csv") if p.stat().st_size > 500]
        if not paths:
            return False
        path = self.random.choice(sorted(paths))
        kept = path.read_bytes()
        how = self.harm(path)
        if path.exists() and path.read_bytes()[: len(kept) - 200] == kept[:-200] and path.suffix == ".csv":
            path.write_bytes(b"," + kept)  # the newest checkpoint's part alone could be made up for
        self.counts[f"{how}: {path.name}"] += 1
        self.counts["corruptions"] += 1
        self.commands = [self.start()]
        self.wait_for_progress()
        refused = self.commands[0].poll() not in (None, 0)
        if refused:
            self.hear(self.commands[0])
            self.counts["told, and trained again"] += 1
            command = self.start("--retrain", stdout=subprocess.PIPE)
            self.commands = [command]
            assert command.stdout is not None
            next((line for line in command.stdout if line.startswith("runs:")), "")  # it has planned
        self.committed.clear()
        return True

    def harm(self, path: Path) -> str:
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
        """Leave a few kilobytes, see that told, and make room again."""
        ballast = self.results / "ballast"
        free = os.statvfs(self.results).f_bavail * os.statvfs(self.results).f_frsize
        with open(ballast, "wb") as file:
            file.write(b"\0" * max(0, free - self.random.randrange(0, 60_000)))
        command = self.start()
        self.hear(command)
        self.counts["disk full, told" if command.wait() else "disk full, room enough"] += 1
        ballast.unlink()
        return True


def _folder_of(pid: int) -> Path | None:
    try:
        return Path(os.readlink(f"/proc/{pid}/cwd"))
    except OSError:
        return None


def comparable(results: Path) -> dict[str, bytes]:
    """What must be equal to the bit: every run's tables without the clock, and its policy."""
    found: dict[str, bytes] = {}
    for run in sorted((results / "runs").iterdir()):
        for name in ("evaluations", "episodes", "training"):
            table = pd.read_csv(run / f"{name}.csv").drop(columns="wall_seconds", errors="ignore")
            found[f"{run.name}/{name}.csv"] = table.to_csv().encode()
        found[f"{run.name}/policy.safetensors"] = (run / "policy.safetensors").read_bytes()
    return found


def differing(ours: dict[str, bytes], theirs: dict[str, bytes]) -> int:
    """Bytes that differ, all of a file that only one has."""
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
    harm_every: int = 4,
    pause: float = 3.0,
    small_disk: bool = True,
) -> Counter[str]:
    """Do it in an empty folder until at least so many kills are done; what was done and found."""
    (folder / "soak.toml").write_text(EXPERIMENT.replace("STEPS", str(steps)).replace("SEEDS", str(seeds)))
    test = Soak(folder, seed)
    undisturbed = test.start(results="undisturbed")
    if undisturbed.wait():
        raise RuntimeError(test.hear(undisturbed))
    test.results.mkdir()
    if small_disk:
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "none", test.results], capture_output=True)
        small_disk = mounted.returncode == 0
    harms = [test.corrupt_newest] * 3 + [test.corrupt_beyond] + [test.fill_the_disk] * small_disk
    to_harm = harm_every
    try:
        while 0 not in test.tend():
            test.wait_for_progress()
            time.sleep(test.random.uniform(0.0, pause))
            test.watch()
            if test.counts["kills"] >= kills and test.counts["corruptions"]:
                continue
            test.harass()
            to_harm -= 1
            if to_harm <= 0:
                test.silence()
                to_harm = harm_every
                if harms[0]():  # else there was nothing to harm yet
                    harms.append(harms.pop(0))
        for command in test.commands:
            command.wait()
            test.hear(command)
        test.counts["differing bytes"] = differing(comparable(test.results), comparable(folder / "undisturbed"))
    finally:
        for pid in [command.pid for command in test.commands if command.poll() is None] + test.workers():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if small_disk:
            subprocess.run(["umount", "--lazy", test.results], check=False)
    return test.counts


def main() -> None:
    """The command: writes its summary to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--steps", type=int, default=16000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "soak")
    asked = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counts = soak(Path(folder), asked.kills, asked.steps, asked.seeds, asked.seed)
    for name in ("lost segments", "differing bytes", "tracebacks"):
        counts.setdefault(name, 0)
    minutes = (time.monotonic() - began) / 60
    table = pd.DataFrame({"what": counts.keys(), "count": counts.values()}).sort_values("what")
    asked.out.mkdir(parents=True, exist_ok=True)
    text = (
        f"# Soak: {counts['kills']} kills, {counts['corruptions']} corruptions, {counts['lost segments']} lost segments, "
        f"{counts['differing bytes']} differing bytes\n\n`make soak`: two commands train {2 * asked.seeds} runs of "
        f"{asked.steps} steps (Hopper-v5, a segment every 200) in one folder, in {minutes:.0f} minutes; random seed "
        f"{asked.seed}. What it does: tests/soak.py.\n\n{table.to_markdown(index=False)}\n"
    )
    (asked.out / "README.md").write_text(text)
    (asked.out / "counts.json").write_text(json.dumps(dict(sorted(counts.items())), indent=1) + "\n")
    print(text)
    sys.exit(bool(counts["lost segments"] or counts["differing bytes"] or counts["tracebacks"]))


if __name__ == "__main__":
    main()
