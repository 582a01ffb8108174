"""The formats that can be imported, by name."""

from __future__ import annotations

from typing import NamedTuple

from sac_bench.results.foreign import cleanrl, sb3, spinningup, tables, xuance
from sac_bench.results.foreign.runs import Reader


class Format(NamedTuple):
    """How to read a format, and what it is."""

    read: Reader
    about: str


FORMATS: dict[str, Format] = {
    "sb3": Format(sb3.read, "Stable-Baselines3: evaluations.npz, or else monitor.csv files"),
    "cleanrl": Format(cleanrl.read, "CleanRL: TensorBoard files with charts/episodic_return"),
    "xuance": Format(xuance.read, "XuanCe: folders of seeds with learning_curve.csv"),
    "authors": Format(tables.read_authors, "authors' CSV files: exp_name, env_name, seed, metric, env_step, value"),
    "simbav2": Format(tables.read_authors, "the same as authors"),
    "spinningup": Format(spinningup.read, "Spinning Up: progress.txt"),
    "tidy": Format(tables.read_tidy, "CSV files: env, variant or algorithm, seed, step, return"),
}
