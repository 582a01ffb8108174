"""How fast SAC trains here: ours against Stable-Baselines3 and SBX, side by side, and how the cost grows.

    python benchmarks/speed.py [--peers .venv-peers/bin/python] [--device cpu] [--out results/record/benchmark]

Every implementation trains in separate processes, one per core and each on one thread; they take turns of a few
seconds, round after round, so that what the machine does meanwhile meets all of them, and a ratio is the median of
the rounds' ratios. The matrix-product limit is measured in the same rounds. Needs a quiet machine, Linux, and
about three quarters of an hour on two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from sac_bench.execution.machine import cache_folder, cores
from sac_bench.report.tables import markdown

HERE = Path(__file__).parent
ENVIRONMENTS = ("HalfCheetah-v5", "Humanoid-v5")
ROUNDS, SECONDS, UPDATE_SECONDS = 5, 4.0, 2.0
GROWTH_ROUNDS, GROWTH_SECONDS = 3, 1.0

OURS: dict[str, dict[str, Any]] = {
    f"{precision}{', eager' if not compiled else ''}, {members} run{'s' if members > 1 else ''}": {
        "members": members,
        "precision": precision,
        "compiled": compiled,
    }
    for precision, compiled in (("float32", True), ("bfloat16", True), ("float32", False))
    for members in (1, 4)
}
PEERS = {"Stable-Baselines3": "sb3", "SBX": "sbx"}
HEADLINE = {
    "float32, 1 run": "here with one run",
    "float32, 4 runs": "with 4 runs in one program",
    "bfloat16, 4 runs": "the same with bfloat16 products",
    "Stable-Baselines3": "with Stable-Baselines3",
    "SBX": "with SBX",
}
"""{implementation: its words in a headline}."""

SMALL = {"layers": [64, 64], "batch_size": 64}
GROWTH: dict[str, list[tuple[str, dict[str, Any]]]] = {
    "runs in one program": [
        *((f"2x64, batch 64: {m}", SMALL | {"members": m}) for m in (1, 2, 4, 8, 16, 32, 64)),
        *((f"2x256, batch 256: {m}", {"members": m}) for m in (1, 2, 4, 8, 16, 32, 64)),
    ],
    "environments a run": [(str(n), {"num_envs": n}) for n in (1, 4, 16, 64)],
    "units of both layers": [(str(w), {"layers": [w, w]}) for w in (64, 128, 256, 512, 1024)],
    "batch size": [(str(b), {"batch_size": b}) for b in (64, 128, 256, 512, 1024)],
    "transitions in the replay": [(str(n), {"fill": n}) for n in (10_000, 100_000, 1_000_000)],
}


class Subject:
    """One process that trains on command; with `wait` it is ready when this returns."""

    def __init__(self, command: list[str], core: int | None, wait: bool = True) -> None:
        environment = os.environ | {
            "OMP_NUM_THREADS": "1",
            "MKL_NUM_THREADS": "1",
            "TORCHINDUCTOR_CACHE_DIR": str(cache_folder()),
            "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false",
        }
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=environment,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        self.ready: dict[str, Any] = {}
        if wait:
            self.wait()

    def wait(self) -> None:
        """Wait until it is ready."""
        self.ready = self._answer()

    def request(self, line: str) -> dict[str, Any]:
        """Send a line and return the answer."""
        assert self._process.stdin is not None
        print(line, file=self._process.stdin, flush=True)
        return self._answer()

    def ask(self, what: str, seconds: float) -> None:
        assert self._process.stdin is not None
        print(what, seconds, file=self._process.stdin, flush=True)

    def answer(self) -> dict[str, float]:
        """Rates per second since the last request."""
        found = self._answer()
        per_second = {name: found[name] / found["seconds"] for name in ("steps", "updates")}
        return per_second | {"peak_bytes": found["peak_bytes"]}

    def close(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        raise SystemExit(f"{' '.join(map(str, self._process.args))}: ended with {self._process.wait()}")  # type: ignore


@contextmanager
def started(commands: dict[str, list[str]], cores_used: list[int | None]) -> Iterator[dict[str, list[Subject]]]:
    """One subject of each command on each core."""
    subjects: dict[str, list[Subject]] = {}
    try:
        for name, command in commands.items():
            subjects[name] = [Subject(command, core) for core in cores_used]
        yield subjects
    finally:
        for subject in (one for each in subjects.values() for one in each):
            subject.close()


def ours(**options: Any) -> list[str]:
    return [sys.executable, str(HERE / "speed_ours.py"), json.dumps(options)]


def limit(subject: str) -> list[str]:
    return [sys.executable, str(HERE / "speed_limit.py"), subject]


def compare(env: str, peers: str | None, device: str, cores_used: list[int | None]) -> tuple[pd.DataFrame, int]:
    """Rows: round, cores, implementation, what, steps, updates, peak_bytes (a second, all runs); FLOPs an update."""
    commands = {name: ours(env=env, device=device, **options) for name, options in OURS.items()}
    if peers:
        commands |= {name: [peers, str(HERE / "speed_peer.py"), peer, env] for name, peer in PEERS.items()}
    commands |= {f"products, {precision}": limit(f"{device} {precision}") for precision in ("float32", "bfloat16")}
    rows = []
    with started(commands, cores_used) as subjects:
        flops = subjects[next(iter(OURS))][0].ready["flops"]
        counts = sorted({1, len(cores_used)})
        for turn in range(ROUNDS):
            for what, count in [("update", 1), *(("train", count) for count in counts)]:
                for name, each in subjects.items():
                    if what == "train" and name.startswith("products"):
                        continue
                    for subject in each[:count]:
                        subject.ask(what, SECONDS if what == "train" else UPDATE_SECONDS)
                    found = pd.DataFrame([subject.answer() for subject in each[:count]]).sum()
                    rows.append(
                        {"env": env, "round": turn, "cores": count, "implementation": name, "what": what}
                        | found.to_dict()
                    )
            print(f"{env}: round {turn + 1} of {ROUNDS}", flush=True)
    return pd.DataFrame(rows), flops


def table(rounds: pd.DataFrame, flops: dict[str, int]) -> pd.DataFrame:
    """Medians over rounds, and medians of each round's ratios to the peers and to the product limit."""
    keys = ["env", "cores", "what", "implementation"]
    rates = rounds.set_index([*keys, "round"]).sort_index()
    subjects = list(rounds.query("what == 'train'")[keys].drop_duplicates().itertuples(index=False, name=None))
    lines = []
    for env, count, _, name in subjects:
        train = rates.loc[env, count, "train", name]
        line = {"environment": env, "cores": count, "implementation": name, "steps/s": train["steps"].median()}
        for peer in PEERS:
            if (env, count, "train", peer) in subjects:
                line[f"x {peer}"] = (train["steps"] / rates.loc[env, count, "train", peer]["steps"]).median()
        if count == 1:
            update = rates.loc[env, 1, "update", name]["updates"]
            line["updates/s"] = update.median()
            if name not in PEERS:
                products = f"products, {'bfloat16' if 'bfloat16' in name else 'float32'}"
                share = update * flops[env] / rates.loc[env, 1, "update", products]["updates"]
                line["of the product limit"] = share.median()
        lines.append(line | {"peak MiB": train["peak_bytes"].median() / 2**20})
    return pd.DataFrame(lines)


def grow(device: str, core: int | None) -> pd.DataFrame:
    """Rows: axis, point, steps, updates (a second, all runs), each the median of a few turns."""
    rows = []
    for axis, points in GROWTH.items():
        for point, options in points:
            with started({point: ours(env="HalfCheetah-v5", device=device, **options)}, [core]) as subjects:
                subject = subjects[point][0]
                turns = []
                for _ in range(GROWTH_ROUNDS):
                    subject.ask("update", GROWTH_SECONDS)
                    turn = {"updates": subject.answer()["updates"]}
                    subject.ask("train", GROWTH_SECONDS)
                    turns.append(turn | {"steps": subject.answer()["steps"]})
            rows.append({"axis": axis, "point": point} | pd.DataFrame(turns).median().to_dict())
            print(f"{axis} {point}: {rows[-1]['updates']:.0f} updates/s", flush=True)
    return pd.DataFrame(rows)


def machine(device: str, rounds: pd.DataFrame) -> dict[str, Any]:
    """Describe the machine that was measured."""
    products = rounds.query("what == 'update'").groupby("implementation")["updates"].median()
    about: dict[str, Any] = {
        "device": _cpu() if device == "cpu" else subprocess.check_output(["nvidia-smi", "-L"], text=True).strip(),
        "cores": cores(),
        "GFLOP/s of one core's products": {
            name.removeprefix("products, "): round(rate / 1e9)
            for name, rate in products.items()
            if name.startswith("products")
        },
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("torch", "envpool", "numpy")},
        "rounds": ROUNDS,
        "seconds a turn": SECONDS,
    }
    return about


def _cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    wide = [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in facts["flags"].split()]
    return f"{facts['model name']}, family {facts['cpu family']} model {facts['model']}, {' '.join(wide)}"


def headline(summary: pd.DataFrame) -> str:
    """Return the main numbers in a sentence: steps per second on the first environment, on one core."""
    env = summary["environment"].iloc[0]
    rates = summary.query("environment == @env and cores == 1").set_index("implementation")["steps/s"]
    numbers = [f"{rates[name]:.0f} {words}" for name, words in HEADLINE.items() if name in rates]
    return f"Steps per second of SAC on {env}, one core: {', '.join(numbers)}"


def page_of(summary: pd.DataFrame) -> str:
    """Return the table in Markdown below its headline, which an index of results shows."""
    return f"# {headline(summary)}\n\n{markdown(summary.map(_shown))}"


def draw_comparison(summary: pd.DataFrame) -> Figure:
    """Steps per second by implementation on one core, one panel per environment."""
    one = summary.query("cores == 1")
    environments = list(one["environment"].unique())
    figure, axes = plt.subplots(1, len(environments), figsize=(6.5 * len(environments), 3.6), squeeze=False)
    for ax, env in zip(axes[0], environments, strict=True):
        part = one.query("environment == @env")
        colours = ["0.6" if name in PEERS else "C0" for name in part["implementation"]]
        bars = ax.barh(part["implementation"], part["steps/s"], color=colours)
        ax.bar_label(bars, fmt="%.0f", padding=3, fontsize=8)  # the table's ratios are of rounds, not of these medians
        ax.set(title=f"{env}, one core", xlabel="transitions a second, all runs together")
        ax.margins(x=0.12)
        ax.invert_yaxis()
    sns.despine(figure)
    figure.tight_layout()
    return figure


def draw_growth(growth: pd.DataFrame) -> Figure:
    """Time of one run's update along each axis."""
    axes_names = list(growth["axis"].unique())
    figure, axes = plt.subplots(1, len(axes_names), figsize=(3.2 * len(axes_names), 3.2))
    for ax, name in zip(axes, axes_names, strict=True):
        part = growth.query("axis == @name")
        kinds = part["point"].str.extract(r"(?:(?P<kind>.*): )?(?P<x>\d+)$")
        for kind, group in part.assign(x=kinds["x"].astype(int)).groupby(kinds["kind"].fillna(""), sort=False):
            ax.plot(group["x"], 1e3 / group["updates"], "o-", ms=3, label=kind or None)
        ax.set(xscale="log", yscale="log", xlabel=name, ylabel="ms for one run's update" if ax is axes[0] else "")
        ticks = sorted(set(kinds["x"].astype(int)))
        ax.set_xticks(ticks, [f"{tick:,}" for tick in ticks], fontsize=7)
        ax.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        ax.minorticks_off()
        ax.set_ylim(part["updates"].rdiv(1e3).min() / 2, part["updates"].rdiv(1e3).max() * 2)
        if kinds["kind"].notna().any():
            ax.legend(fontsize=7)
    sns.despine(figure)
    figure.tight_layout()
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peers", help="a Python that has the peers; without it ours are measured alone")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=Path("results/record/benchmark"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    pinned: list[int | None] = sorted(os.sched_getaffinity(0)) if options.device == "cpu" else [None]  # type: ignore
    found = [compare(env, options.peers, options.device, pinned) for env in ENVIRONMENTS]
    rounds = pd.concat([rows for rows, _ in found])
    rounds.to_csv(options.out / "rounds.csv", index=False, float_format="%.6g")
    summary = table(rounds, {env: flops for env, (_, flops) in zip(ENVIRONMENTS, found, strict=True)})
    summary.to_csv(options.out / "table.csv", index=False, float_format="%.4g")
    (options.out / "table.md").write_text(page_of(summary), encoding="utf-8")
    (options.out / "machine.json").write_text(
        json.dumps(machine(options.device, rounds), indent=2) + "\n", encoding="utf-8"
    )
    draw_comparison(summary).savefig(options.out / "comparison.png", dpi=150)
    growth = grow(options.device, pinned[0])
    growth.to_csv(options.out / "growth.csv", index=False, float_format="%.6g")
    draw_growth(growth).savefig(options.out / "growth.png", dpi=150)
    print((options.out / "table.md").read_text(encoding="utf-8"))


def _shown(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if np.isnan(value) else f"{value:.2f}" if value < 10 else f"{value:.0f}"


if __name__ == "__main__":
    main()
