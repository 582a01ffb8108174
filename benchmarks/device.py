"""How fast cohorts train on a GPU: widths, precisions, with and without CUDA graphs, in at most eight minutes.

    python benchmarks/device.py --device cuda [--out results/benchmark-cuda]

Programs compile side by side, in batches, and are measured one after the other. What does not fit into the time is not
measured, and the table says so. Writes table.csv, table.md, profile.txt and machine.json. A CPU with tiny settings only
tests this script.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time
from pathlib import Path
from typing import Any

import pandas as pd
from speed import ENVIRONMENTS, HERE, Subject

from sac_bench.execution.doctor import machine
from sac_bench.execution.machine import cores
from sac_bench.report.tables import markdown

MINUTES, SECONDS = 8.0, 1.5
MEMBERS, PRECISIONS = (64, 256, 16, 1), ("float32", "tf32", "bfloat16")
"""The most important ones first: time may run out."""
RESERVED_SECONDS = 60.0
"""Time that a batch must have left to be started: to compile and to be measured."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda"))
    parser.add_argument("--out", type=Path, default=Path("results/benchmark-cuda"))
    parser.add_argument("--minutes", type=float, default=MINUTES)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each measurement")
    parser.add_argument("--envs", nargs="+", default=ENVIRONMENTS)
    parser.add_argument("--members", nargs="+", type=int, default=MEMBERS)
    parser.add_argument("--settings", type=json.loads, default={}, help="options of the algorithm, as JSON")
    options = parser.parse_args()
    deadline = time.monotonic() + 60 * options.minutes
    options.out.mkdir(parents=True, exist_ok=True)
    precisions = [name for name in PRECISIONS if name != "tf32" or options.device == "cuda"]
    wanted = list(itertools.product(options.members, options.envs, precisions))
    rows: list[dict[str, Any]] = []
    at_once = max(1, min(8, cores() // 2))
    for start in range(0, len(wanted), at_once):
        if time.monotonic() + RESERVED_SECONDS > deadline and rows:
            break
        rows += measure(wanted[start : start + at_once], options, with_profile=not rows)
        print(f"{len(rows)} of {len(wanted)} cohorts measured", flush=True)
    found = pd.DataFrame([row for one in rows for row in lines(one)])
    found.to_csv(options.out / "table.csv", index=False, float_format="%.4g")
    missing = [f"{members} x {env}, {precision}" for members, env, precision in wanted[len(rows) :]]
    text = markdown(found.map(lambda value: f"{value:.3g}" if isinstance(value, float) else value))
    text += f"\nNot measured, because time ran out: {'; '.join(missing) or 'nothing'}.\n"
    (options.out / "table.md").write_text(text, encoding="utf-8")
    (options.out / "machine.json").write_text(json.dumps(machine(), indent=2) + "\n", encoding="utf-8")
    print(text)


def measure(batch: list[tuple[int, str, str]], options: argparse.Namespace, with_profile: bool) -> list[dict[str, Any]]:
    """Compile the cohorts of a batch side by side, then measure one after the other."""
    subjects = []
    try:
        for members, env, precision in batch:
            about = {"members": members, "env": env, "precision": precision}
            settings = json.dumps(options.settings | about | {"device": options.device})
            subject = Subject([sys.executable, str(HERE / "device_subject.py"), settings], None, wait=False)
            subjects.append((about, subject))
        for _, subject in subjects:
            subject.wait()
        if with_profile:
            subjects[0][1].request(f"profile {options.out / 'profile.txt'}")
        return [about | subject.ready | subject.request(f"measure {options.seconds}") for about, subject in subjects]
    finally:
        for _, subject in subjects:
            subject.close()


def lines(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a line of the table with, and one without CUDA graphs."""
    table = []
    for graphs in ("graphs", "no graphs"):
        if f"updates, {graphs}" in found:
            updates, steps = found[f"updates, {graphs}"], found[f"steps, {graphs}"]
            table.append(
                {
                    "runs": found["members"],
                    "environment": found["env"],
                    "precision": found["precision"],
                    "CUDA graphs": "yes" if graphs == "graphs" else "no",
                    "steps/s": steps,
                    "updates/s": updates,
                    "of the product limit": updates * found["flops"] / found["product_flops"],
                    "of the memory limit": 2 * updates * found["state_bytes"] / found["copied_bytes"],
                    "share of environments": steps / found["environment_steps"],
                    "peak MiB": found["peak_bytes"] / 2**20,
                }
            )
    return table


if __name__ == "__main__":
    main()
