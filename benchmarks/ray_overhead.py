"""What Ray costs: the same experiment with the local engine and on a cluster of one node, by turns.

    make benchmark-ray

Times are those of whole commands without reports' figures; the cluster's start is not included. On Ray, they have the
start of an actor per cohort, and every segment is sent to the command's process, which writes it to the disk again. The
difference of two lengths does not have the start. CPU times have all processes of the command and of the cluster. The
bytes of both are compared.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

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


@dataclass(frozen=True)
class Taken:
    """Seconds on the clock and of CPU."""

    clock: float
    cpu: float

    def __sub__(self, other: Taken) -> Taken:
        return Taken(self.clock - other.clock, self.cpu - other.cpu)


def taken(processes: Sequence[psutil.Process]) -> Taken:
    """Return the time, and the CPU time of these processes and of all ended children, theirs and this process's."""
    times = [sum(process.cpu_times()[:4]) for process in processes]
    return Taken(time.monotonic(), sum(times) + sum(os.times()[2:4]))


def run(folder: Path, file: str, results: str, address: str | None, processes: Sequence[psutil.Process]) -> Taken:
    """Return what one command takes in new results."""
    engine = ["--engine", "ray", "--address", address] if address else []
    words = ["run", file, "--results", results, "--workers", str(cores()), *engine]
    before = taken(processes)
    subprocess.run([sys.executable, "-c", PROGRAM, *words], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return taken(processes) - before


def policies(results: Path) -> dict[str, bytes]:
    return {path.parent.name: path.read_bytes() for path in results.glob("runs/*/policy.safetensors")}


def compared(what: str, local: Taken, ray: Taken) -> str:
    """Return a line with both."""
    clock, cpu = ray.clock / local.clock - 1, ray.cpu / local.cpu - 1
    return (
        f"{what}: clock {local.clock:.1f} s here, {ray.clock:.1f} s on Ray ({clock:+.1%}); "
        f"CPU {local.cpu:.1f} s here, {ray.cpu:.1f} s on Ray ({cpu:+.1%})"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, nargs="+", default=[20_000, 100_000], help="two lengths")
    parser.add_argument("--every", type=int, default=5_000, help="transitions per segment")
    arguments = parser.parse_args()
    source = str(Path(sac_bench.__file__).parents[1])
    # Ray's workers have niceness 15 by default. On a busy machine that would be measured, too.
    os.environ.update(RAY_USAGE_STATS_ENABLED="0", RAY_worker_niceness="0", PYTHONPATH=source)
    from ray.cluster_utils import Cluster

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for steps in arguments.steps:
            text = EXPERIMENT.format(seeds=2 * cores(), steps=steps, every=arguments.every)
            (folder / f"{steps}.toml").write_text(text, encoding="utf-8")
        node = {"num_cpus": cores(), "object_store_memory": 200_000_000, "include_dashboard": False}
        cluster = Cluster(initialize_head=True, head_node_args=node)
        times: list[dict[str, Taken]] = []
        try:
            processes = psutil.Process().children(recursive=True)
            processes = [one for one in processes if one.name() in ("raylet", "gcs_server")]
            run(folder, f"{arguments.steps[0]}.toml", "warm", None, processes)  # compiles
            for steps in arguments.steps:
                of = {
                    engine: run(folder, f"{steps}.toml", f"{engine}-{steps}", address, processes)
                    for engine, address in (("local", None), ("ray", cluster.address))
                }
                times.append(of)
                same = policies(folder / f"local-{steps}") == policies(folder / f"ray-{steps}")
                print(compared(f"{steps} steps", **of) + f"; same bytes: {same}", flush=True)
        finally:
            cluster.shutdown()
        if len(times) > 1:
            first, last = times[0], times[-1]
            print(compared("without the start", last["local"] - first["local"], last["ray"] - first["ray"]))


if __name__ == "__main__":
    main()
