"""Real trainings of cohorts of several widths, and whether a run's bytes are the same in all of them.

    python -m tests.training.widths [--updates 2000] [--sizes 2x64 odd 2x256] [--widths 1 2 3 5 8 16 20 32] [--eager]

Each width trains the seeds 0, 1, 2, ... in an order of its own, so a seed stands in many places of many programs.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import time

import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms import ALGORITHMS
from sac_bench.execution.worker import prepare_process
from sac_bench.spec.run import RunSpec
from sac_bench.training.trainer import Trainer

WIDTHS = (1, 2, 3, 5, 8, 16, 20, 32)
SIZES = {
    "2x64": ("HalfCheetah-v5", {"layers": [64, 64], "batch_size": 64}),
    "odd": ("Pendulum-v1", {"layers": [24, 24], "batch_size": 100}),
    "2x256": ("HalfCheetah-v5", {}),
}
STARTS = 200


def seeds(width: int) -> list[int]:
    """0 to width - 1, turned by a third of the width."""
    return [(m + width // 3) % width for m in range(width)]


def trained(algorithm: str, env: str, options: dict, width: int, updates: int, compiled: bool = True) -> dict[int, str]:
    """{seed: digest of all that its training left}: state, transitions, evaluations, what was measured."""
    torch.compiler.reset()  # a worker process compiles one structure; torch refuses a ninth in the same process
    kind = ALGORITHMS[algorithm].config
    common = {"learning_starts": STARTS, "eval_every": STARTS + updates, "eval_episodes": 1}
    config = kind.model_validate({k: v for k, v in common.items() if k in kind.model_fields} | options)
    steps = STARTS + updates
    made = Trainer([RunSpec(algorithm, config, env, seed) for seed in seeds(width)], steps, compiled=compiled)
    segments = [made.train()]
    while made.steps < steps:
        segments.append(made.train())
    rows = made.replay.slice(0, made.replay.written)
    digests = {}
    for m, seed in enumerate(seeds(width)):
        digest = hashlib.sha256()
        for leaf in tree_leaves(made.cohort.state):
            digest.update(leaf[m].contiguous().numpy().tobytes())
        for name in ("observation", "action", "reward"):
            digest.update(rows[name][m].contiguous().numpy().tobytes())
        for segment in segments:
            digest.update(segment.episodes.returns[m].tobytes())
            for name in sorted(segment.metrics):
                digest.update(segment.metrics[name][m].numpy().tobytes())
        digests[seed] = digest.hexdigest()[:16]
    made.close()
    return digests


def differing(found: dict[int, dict[int, str]]) -> dict[int, list[int]]:
    """{width: digests} -> {seed: widths} whose bytes are not those of the widest cohort."""
    reference = found[max(found)]
    seeds = {seed for digests in found.values() for seed in digests}
    wrong = {
        seed: [width for width in found if found[width].get(seed, reference[seed]) != reference[seed]] for seed in seeds
    }
    return {seed: widths for seed, widths in wrong.items() if widths}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--updates", type=int, default=2000)
    parser.add_argument("--sizes", nargs="+", choices=SIZES, default=list(SIZES))
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--algorithm", choices=ALGORITHMS, default="sac")
    parser.add_argument("--eager", action="store_true")
    arguments = parser.parse_args()
    prepare_process("cpu", 1)
    wrong = {}
    for size in arguments.sizes:
        found = {}
        for width in arguments.widths:
            began = time.perf_counter()
            found[width] = trained(arguments.algorithm, *SIZES[size], width, arguments.updates, not arguments.eager)
            first = found[width][0]
            print(
                f"{arguments.algorithm} {size} width {width}: seed 0 {first}, {time.perf_counter() - began:.0f} s",
                flush=True,
            )
        wrong[size] = differing(found)
    if any(wrong.values()):
        sys.exit(f"bytes differ, {{size: {{seed: widths}}}}: {wrong}")


if __name__ == "__main__":
    main()
