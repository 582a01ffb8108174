"""What Ray costs: the same experiment with the local engine and on a cluster of one node, by turns.

    .venv-ray/bin/python benchmarks/ray_overhead.py [--steps 20000] [--repeats 2]     (make test-all builds .venv-ray)

Times are those of whole commands without reports' figures, the cluster's start not included. On Ray, they have the
start of an actor per cohort, and every segment is sent to the command's process, which writes it to the disk again. The
bytes of both are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import sac_bench
from sac_bench.execution.machine import cores

EXPERIMENT = """
name = "overhead"
envs = ["HalfCheetah-v5"]
seeds = {seeds}
steps = {steps}

[base]
layers = [64, 64]
batch_size = 64
learning_starts = 1000
eval_every = {every}
eval_episodes = 2

[variants.sac]
"""
PROGRAM = """
from collections import defaultdict
from sac_bench.report import experiment
experiment.write_figures = lambda *_: defaultdict(list)
from sac_bench.cli.main import main
main()
"""


def seconds(folder: Path, results: str, address: str | None) -> float:
    """Return the time of one command in new results."""
    engine = ["--engine", "ray", "--address", address] if address else []
    words = ["run", "overhead.toml", "--results", results, "--workers", str(cores()), *engine]
    began = time.monotonic()
    subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def policies(results: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in results.glob("runs/*/policy.safetensors")}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--every", type=int, default=5_000, help="transitions per segment")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    source = str(Path(sac_bench.__file__).parents[1])
    # Ray's workers have niceness 15 by default. On a busy machine that would be measured, too.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0", PYTHONPATH=source)
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        text = EXPERIMENT.format(seeds=2 * cores(), steps=arguments.steps, every=arguments.every)
        (folder / "overhead.toml").write_text(text, encoding="utf-8")
        node = {"num_cpus": cores(), "object_store_memory": 200_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        times: dict[str, list[float]] = {"local": [], "ray": []}
        try:
            seconds(folder, "warm", None)  # compiles
            for turn in range(arguments.repeats):
                for engine, address in (("local", None), ("ray", cluster.address)):
                    times[engine].append(seconds(folder, f"{engine}-{turn}", address))
                    print(f"{engine}: {times[engine][-1]:.1f} s", flush=True)
                same = policies(folder / f"local-{turn}") == policies(folder / f"ray-{turn}")
                print(f"same bytes: {same}", flush=True)
        finally:
            cluster.shutdown()
        local, ray = (statistics.median(times[engine]) for engine in ("local", "ray"))
        print(f"median: local {local:.1f} s, ray {ray:.1f} s, {ray - local:+.1f} s, {ray / local - 1:+.1%}")


if __name__ == "__main__":
    main()
