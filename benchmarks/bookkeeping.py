"""Seconds and memory to plan, list and report 10,000 runs whose training is pretended.

    python benchmarks/bookkeeping.py [--variants 100] [--seeds 20] [--evaluations 20] [--plan-only] [--out FILE.json]

Of one experiment with 5 environments: the plan made and written, each run's files written as a trained run leaves them
(not measured), then the status of all runs, and their tables and report. Wanted: the plan in less than 20 seconds,
status and report in less than 30 each, and 1 GiB in all.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from sac_bench.evaluation.random_policy import measure_random_policies
from sac_bench.execution.plan import Plan, make_plan, write
from sac_bench.report.experiment import write_report
from sac_bench.results.collect import collect, list_runs, runs_of
from sac_bench.spec.experiment import Experiment
from sac_bench.spec.load import load
from sac_bench.store.store import Store

ENVS = ["Hopper-v5", "Walker2d-v5", "HalfCheetah-v5", "Ant-v5", "InvertedPendulum-v5"]
WORKERS = 64


def experiment(folder: Path, variants: int, seeds: int, evaluations: int) -> Experiment:
    """Return an experiment whose variants have four structures."""
    lines = ['name = "many"', f"envs = {json.dumps(ENVS)}", f"seeds = {seeds}", f"steps = {1000 * evaluations}"]
    lines += ["[base]", "eval_every = 1000", "eval_episodes = 1"]
    for variant in range(variants):
        lines += [f"[variants.v{variant}]", f"tau = {0.001 + variant * 1e-5:.6f}", f"critics = {1 + variant % 4}"]
    (folder / "many.toml").write_text("\n".join(lines), encoding="utf-8")
    return load(folder / "many.toml")


def pretend(plan: Plan, store: Store) -> None:
    """Write what trained runs leave: tables, policies, statuses."""
    random = np.random.default_rng(0)
    for cohort in plan.cohorts:
        for spec in cohort.runs:
            run = store.run(spec.id)
            steps = range(0, cohort.steps + 1, spec.config.eval_every)
            returns = np.cumsum(random.normal(10, 5, len(steps)))
            evaluations = [
                {
                    "step": step,
                    "policy": "mean",
                    "return_mean": value,
                    "return_std": 0.0,
                    "length_mean": 1000.0,
                    "episodes": 1,
                    "wall_seconds": float(step),
                }
                for step, value in zip(steps, returns, strict=True)
            ]
            run.append("evaluations", evaluations)
            run.append(
                "episodes",
                [
                    {"step": row["step"], "policy": "mean", "episode": 0, "return": row["return_mean"], "length": 1000}
                    for row in evaluations
                ],
            )
            run.append("training", [{"step": row["step"], "episodes": 1, "return_mean": 1.0} for row in evaluations])
            run.policy.write_bytes(b"pretended")
            run.update(steps=cohort.steps, cohort_size=len(cohort.runs), target_steps=cohort.steps)
            run.end("finished")


@contextmanager
def measured(what: str, into: dict[str, Any]) -> Iterator[None]:
    """Print and record the seconds of a block."""
    began = time.perf_counter()
    yield
    into[what] = round(time.perf_counter() - began, 2)
    print(f"{what}: {into[what]} s", flush=True)


def main() -> None:
    """Measure, and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("variants", 100), ("seeds", 20), ("evaluations", 20)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--plan-only", action="store_true", help="stop before the training")
    parser.add_argument("--out", type=Path, help="a JSON file for what is printed")
    options = parser.parse_args()
    numbers: dict[str, Any] = {"runs": options.variants * len(ENVS) * options.seeds}
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "results")
        with measured("load", numbers):
            many = experiment(Path(name), options.variants, options.seeds, options.evaluations)
        with store.planner() as planner:
            with measured("make the plan", numbers):
                plan = make_plan(many, store, WORKERS, 8e9)
            with measured("write the plan", numbers):
                write(plan, store, planner)
            numbers["cohorts"] = len(plan.cohorts)
            with measured("list the runs", numbers):
                list_runs(store, many, "benchmark")
            with measured("status, planned", numbers):
                runs_of(store, many)
            with measured("make the plan again", numbers):
                make_plan(many, store, WORKERS, 8e9)
        if options.plan_only:
            _end(numbers, options.out)
            return
        with patch("os.fsync"):
            pretend(plan, store)
        with measured("status, ended", numbers):
            runs_of(store, many)
        with measured("make the plan when all have ended", numbers):
            assert not make_plan(many, store, WORKERS, 8e9).cohorts
        measure_random_policies(store, ENVS)
        with measured("collect the tables", numbers):
            collect(store, many, "benchmark")
        with measured("write the report", numbers):
            write_report(store.experiment("many"))
    _end(numbers, options.out)


def _end(numbers: dict[str, Any], out: Path | None) -> None:
    """Print the memory, and write the numbers to a file if there is one."""
    numbers["MiB"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    print(f"{numbers['runs']:,} runs in {numbers['cohorts']:,} cohorts, {numbers['MiB']:,} MiB")
    if out:
        out.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
