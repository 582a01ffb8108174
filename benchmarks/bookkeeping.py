"""Seconds and memory to plan, list and report 1,000, 3,000 and 10,000 runs whose training is pretended.

    make benchmark-bookkeeping
    python benchmarks/bookkeeping.py [--variants 20] [--seeds 10 30 100] [--evaluations 20] [--plan-only] [--out FOLDER]

One experiment with 5 environments. Each size is measured in a process of its own: the plan made and written, then the
files of each run as a trained run leaves them (not measured), its tables, and the commands `status` and `report --all`.
Seconds of CPU and on the clock are written: on a busy machine, the clock misleads. Wanted with 10,000 runs: the plan in
less than 20 seconds, status and report in less than 30 each, and 1 GiB in all. Twice the runs must not take much more
than twice the time (`growth`).
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

ENVS = ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "InvertedPendulum-v5"]
WORKERS = 64
LIMITS = {"make and write the plan": 20.0, "status": 30.0, "report --all": 30.0}
"""Seconds that are wanted with 10,000 runs."""


def experiment_file(folder: Path, variants: int, seeds: int, evaluations: int) -> Path:
    """Write an experiment whose variants have four structures."""
    lines = ['name = "many"', f"envs = {json.dumps(ENVS)}", f"seeds = {seeds}", f"steps = {1000 * evaluations}"]
    lines += ["[base]", "eval_every = 1000", "eval_episodes = 1"]
    for variant in range(variants):
        lines += [f"[variants.v{variant}]", f"tau = {0.001 + variant * 1e-5:.6f}", f"critics = {1 + variant % 4}"]
    (folder / "many.toml").write_text("\n".join(lines), encoding="utf-8")
    return folder / "many.toml"


def pretend(plan: Any, store: Any) -> None:
    """Write what trained runs leave: tables, policies, statuses."""
    from sac_bench.store.atomic import fingerprint_of, json_bytes

    random = np.random.default_rng(0)
    for cohort in plan.cohorts:
        for spec in cohort.runs:
            run, files = store.run(spec.id), dict[str, bytes]()
            steps = range(0, cohort.steps + 1, spec.config.eval_every)
            returns = np.cumsum(random.normal(10, 5, len(steps)))
            rows = {
                "evaluations": ["step,policy,return_mean,return_std,length_mean,episodes,wall_seconds"]
                + [f"{at},mean,{value},0.0,1000.0,1,{at}.0" for at, value in zip(steps, returns, strict=True)],
                "episodes": ["step,policy,episode,return,length"]
                + [f"{at},mean,0,{value},1000" for at, value in zip(steps, returns, strict=True)],
                "training": ["step,episodes,return_mean"] + [f"{at},1,1.0" for at in steps],
            }
            tables = {name: "\n".join([*lines, ""]).encode() for name, lines in rows.items()}
            files = {f"{name}.csv": text for name, text in tables.items()} | {run.policy.name: b"pretended"}
            status = {"status": "finished", "steps": cohort.steps, "target_steps": cohort.steps, "cohort": cohort.id}
            status |= {"cohort_size": len(cohort.runs), "wall_seconds": 1.0 * cohort.steps, "weights": None}
            status |= {"tables": {name: fingerprint_of(text) for name, text in tables.items()}}
            status |= {"policy": fingerprint_of(b"pretended")}
            for name, content in (files | {"status.json": json_bytes(status)}).items():
                (run.path / name).write_bytes(content)


@contextmanager
def measured(what: str, into: dict[str, Any]) -> Iterator[None]:
    """Print and record the seconds of a block."""
    clock, cpu = time.perf_counter(), time.process_time()
    yield
    of_block = {"cpu": round(time.process_time() - cpu, 2), "clock": round(time.perf_counter() - clock, 2)}
    into["seconds"][what] = of_block
    into["MiB"][what] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{what}: {of_block['cpu']} s of CPU, {of_block['clock']} s, {into['MiB'][what]} MiB so far", flush=True)


def measure(variants: int, seeds: int, evaluations: int, plan_only: bool) -> dict[str, Any]:
    """Return the seconds and memory of one size."""
    from sac_bench.evaluation.random_policy import measure_random_policies
    from sac_bench.execution.plan import make_plan, write
    from sac_bench.results.collect import collect, list_runs
    from sac_bench.spec.load import load
    from sac_bench.store.store import Store

    numbers: dict[str, Any] = {"runs": variants * len(ENVS) * seeds, "seconds": {}, "MiB": {}}
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "results")
        with measured("load the file", numbers):
            many = load(experiment_file(Path(name), variants, seeds, evaluations))
        with store.planner() as planner:
            with measured("make and write the plan", numbers):
                plan = make_plan(many, store, WORKERS, 8e9)
                write(plan, store, planner)
            numbers["cohorts"] = len(plan.cohorts)
            with measured("list the runs", numbers):
                list_runs(store, many, "benchmark")
        if plan_only:
            return numbers
        pretend(plan, store)
        measure_random_policies(store, ENVS)
        with measured("make the plan when all have ended", numbers):
            assert not make_plan(many, store, WORKERS, 8e9).cohorts
        with measured("collect the tables", numbers):
            collect(store, many, "benchmark")
        for command in ("status", "report --all"):
            words = ["status", "many"] if command == "status" else command.split()
            with measured(command, numbers):
                _command([*words, "--results", str(store.root)])
    return numbers


def _command(words: list[str]) -> None:
    """Run a command of sac-bench in this process, and hide its output."""
    from sac_bench.cli.main import main as sac_bench

    sys.argv = ["sac-bench", *words]
    output = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
    code: Any = 0
    with contextlib.redirect_stdout(output):
        try:
            sac_bench()
        except SystemExit as ended:
            code = ended.code
    assert not code, words


def growth(table: pd.DataFrame) -> pd.Series:
    """Return per step the exponent b of CPU seconds ~ runs^b between the last two sizes: about 1 if it is linear."""
    wide = table.pivot_table(index="runs", columns="step", values="cpu")
    if len(wide) < 2:
        return pd.Series(dtype=float)
    (few, before), (many, after) = list(wide.iterrows())[-2:]
    return np.log(after / before) / np.log(many / few)


def draw(table: pd.DataFrame, path: Path) -> None:
    """Draw the CPU seconds of each step against the runs, with a line of slope 1."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
    for step, rows in table.groupby("step", sort=False):
        (line,) = axis.plot(rows["runs"], rows["cpu"], "o-", markersize=4, label=step)
        if step in LIMITS:
            axis.plot([10_000], [LIMITS[step]], "_", markersize=14, markeredgewidth=2, color=line.get_color())
    runs = np.array([table["runs"].min(), table["runs"].max()])
    axis.plot(runs, 0.5 * runs / runs[0], "--", color="0.6", label="proportional to runs")
    axis.plot([], [], "k_", markersize=14, label="wanted with 10,000 runs")
    axis.set(xscale="log", yscale="log", xlabel="runs", ylabel="seconds of CPU")
    axis.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure each size, and write the numbers and a figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", type=int, default=20)
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 30, 100])
    parser.add_argument("--evaluations", type=int, default=20)
    parser.add_argument("--plan-only", action="store_true", help="stop before the training")
    parser.add_argument("--out", type=Path, help="folder for bookkeeping.csv and .png")
    parser.add_argument("--json", action="store_true", help="measure one size here, and end with a line of JSON")
    options = parser.parse_args()
    if options.json:
        numbers = measure(options.variants, options.seeds[0], options.evaluations, options.plan_only)
        print(json.dumps(numbers))
        return
    rows = []
    for seeds in options.seeds:
        words = ["--variants", options.variants, "--seeds", seeds, "--evaluations", options.evaluations, "--json"]
        words += ["--plan-only"] * options.plan_only
        ran = subprocess.Popen([sys.executable, __file__, *map(str, words)], stdout=subprocess.PIPE, text=True)
        assert ran.stdout is not None
        last = ""
        for last in ran.stdout:
            if not last.startswith("{"):
                print(last, end="", flush=True)
        assert ran.wait() == 0
        found = json.loads(last)
        rows += [
            {"runs": found["runs"], "cohorts": found["cohorts"], "step": step, **seconds, "MiB": found["MiB"][step]}
            for step, seconds in found["seconds"].items()
        ]
    table = pd.DataFrame(rows)
    print(table.to_string(index=False))
    print(growth(table).round(2).to_string())
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        table.to_csv(options.out / "bookkeeping.csv", index=False)
        draw(table, options.out / "bookkeeping.png")


if __name__ == "__main__":
    main()
