"""Real trainings of cohorts of several widths, and whether a run's bytes are the same in all of them.

    python -m tests.training.widths [--updates 2000] [--cases 2x64 odd 2x256] [--widths 1 2 3 5 8 16 20 32] [--eager]
    python -m tests.training.widths --cases others --widths 1 3 20 --updates 60

Each width trains the seeds 0, 1, 2, ... in another order, so a seed has many positions in many programs.
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
CASES = {
    "2x64": ("sac", "HalfCheetah-v5", {"layers": [64, 64], "batch_size": 64}),
    "odd": ("sac", "Pendulum-v1", {"layers": [24, 24], "batch_size": 100}),
    "2x256": ("sac", "HalfCheetah-v5", {}),
}
HOPPER = "Hopper-v5"  # early policies fall soon: short evaluations
OTHERS = {
    "td3": ("td3", HOPPER, {"layers": [64, 64], "batch_size": 64}),
    "ddpg": ("ddpg", HOPPER, {"layers": [24, 24], "batch_size": 100}),
    "sql": ("sql", "Pendulum-v1", {"layers": [24, 24], "batch_size": 20}),
    "ppo": ("ppo", "Pendulum-v1", {"num_envs": 4, "rollout": 100, "batch_size": 50, "epochs": 2}),
    "a2c": ("a2c", "Pendulum-v1", {"num_envs": 4, "rollout_steps": 5, "entropy_coefficient": 0.01}),
    "trpo": ("trpo", "Pendulum-v1", {"num_envs": 4, "rollout": 100, "batch_size": 50, "epochs": 2, "cg_steps": 5}),
    "one critic": ("sac", HOPPER, {"layers": [64, 64], "batch_size": 64, "critics": 1}),
    "one critic, V network": (
        "sac",
        HOPPER,
        {"layers": [64, 64], "batch_size": 64, "value_network": True, "critics": 1},
    ),
    "mixture": (
        "sac",
        HOPPER,
        {"layers": [24], "batch_size": 30, "mixture": 3, "gradient_estimator": "score-function"},
    ),
    "silu, layer norm": ("sac", HOPPER, {"layers": [24], "batch_size": 30, "activation": "silu", "layer_norm": "all"}),
    "clipped, annealed, Huber": (
        "sac",
        HOPPER,
        {
            "actor_layers": [24],
            "critic_layers": [30, 20],
            "batch_size": 30,
            "initialisation": "orthogonal",
            "max_grad_norm": 1.0,
            "huber_delta": 1.0,
            "critic_weight_decay": 0.01,
            "anneal_steps": 1000,
            "lr_schedule": "cosine",
        },
    ),
    "bfloat16": ("sac", HOPPER, {"layers": [64, 64], "batch_size": 64, "precision": "bfloat16"}),
    "normalised, three steps": (
        "sac",
        HOPPER,
        {"layers": [24], "batch_size": 30, "normalize_observations": True, "n_step": 3, "num_envs": 2},
    ),
}
STARTS = 200


def seeds(width: int) -> list[int]:
    """0 to width - 1, turned by a third of the width."""
    return [(m + width // 3) % width for m in range(width)]


def trained(algorithm: str, env: str, options: dict, width: int, updates: int, compiled: bool = True) -> dict[int, str]:
    """Return {seed: digest of its training's results}: state, transitions, evaluations, measurements."""
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
    parser.add_argument("--cases", nargs="+", choices=[*CASES, *OTHERS, "others"], default=list(CASES))
    parser.add_argument("--widths", nargs="+", type=int, default=WIDTHS)
    parser.add_argument("--eager", action="store_true")
    arguments = parser.parse_args()
    prepare_process("cpu", 1)
    wrong = {}
    for name in OTHERS if arguments.cases == ["others"] else arguments.cases:
        found = {}
        for width in arguments.widths:
            began = time.perf_counter()
            found[width] = trained(*(CASES | OTHERS)[name], width, arguments.updates, not arguments.eager)
            print(f"{name} width {width}: seed 0 {found[width][0]}, {time.perf_counter() - began:.0f} s", flush=True)
        wrong[name] = differing(found)
    if any(wrong.values()):
        sys.exit(f"bytes differ, {{case: {{seed: widths}}}}: {wrong}")


if __name__ == "__main__":
    main()
