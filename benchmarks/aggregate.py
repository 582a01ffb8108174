"""Seconds and memory to aggregate 10,000 generated runs of 100 evaluations each with 2,000 resamples.

    python benchmarks/aggregate.py [--variants 100] [--envs 5] [--seeds 20] [--evaluations 100] [--out FILE.json]

Of every variant, over its environments and seeds: the IQM of the curves with its interval at every evaluation, then of
the last one the mean, median, IQM, optimality gap and the performance profile at 50 scores with their intervals, and
the probability of improvement over the first variant. With --variants 1 --envs 10 --seeds 1000 all runs are one
variant's. Wanted: less than 10 seconds on one core and 2 GiB in all.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path

import numpy as np

from sac_bench.analysis.statistics import (
    RESAMPLES,
    aggregate_iqm,
    aggregate_mean,
    aggregate_median,
    aggregate_optimality_gap,
    bootstrap,
    performance_profile,
    probability_of_improvement,
)

THRESHOLDS = np.linspace(0, 2, 50)


def generated(variants: int, envs: int, seeds: int, evaluations: int) -> np.ndarray:
    """Normalised returns [variants, envs, seeds, evaluations] that rise to about 1, each run its own way."""
    random = np.random.default_rng(0)
    level = random.normal(1, 0.2, size=(variants, envs, seeds, 1))
    noise = 0.1 * random.normal(size=(variants, envs, seeds, evaluations))
    return level * np.linspace(0, 1, evaluations) ** 0.5 + noise


def aggregate(curves: np.ndarray) -> None:
    """Everything that the module's docstring lists, for curves [variants, envs, seeds, evaluations]."""
    first = list(curves[0, :, :, -1])
    for variant in curves:
        scores = list(variant[:, :, -1])
        bootstrap(list(variant), aggregate_iqm)
        for statistic in (aggregate_mean, aggregate_median, aggregate_iqm, aggregate_optimality_gap):
            bootstrap(scores, statistic)
        performance_profile(scores, THRESHOLDS)
        probability_of_improvement(scores, first)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, count in (("variants", 100), ("envs", 5), ("seeds", 20), ("evaluations", 100)):
        parser.add_argument(f"--{name}", type=int, default=count)
    parser.add_argument("--out", type=Path, help="a JSON file for what is printed")
    options = vars(parser.parse_args())
    out = options.pop("out")

    curves = generated(**options)
    wall, cpu = time.perf_counter(), time.process_time()
    aggregate(curves)
    measured = {
        **options,
        "resamples": RESAMPLES,
        "seconds": round(time.perf_counter() - wall, 2),
        "cpu_seconds": round(time.process_time() - cpu, 2),
        "peak_MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    print(json.dumps(measured, indent=1))
    if out:
        out.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
