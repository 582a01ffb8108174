"""AdaStop's decisions on simulated tables, in an environment that has it (see sequential.py).

    python benchmarks/sequential_adastop.py FOLDER

Reads FOLDER/scores.npz (arms [30, M, T] and reference [60, T]) and writes FOLDER/decisions.npz: decided [T, M], seeds
[T, M].
"""

from __future__ import annotations

import math
import sys
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from adastop import MultipleAgentsComparator

EACH, TIMES = 5, 6


class Fast(MultipleAgentsComparator):  # type: ignore[misc]
    """AdaStop with the loops over permutations of `compute_mean_diffs` as array operations."""

    def compute_mean_diffs(self, k: int, Z: list[np.ndarray]) -> dict[str, Any]:
        if k:
            highest = np.max([np.abs(self.mean_diffs[str(of)]) for of in self.mean_diffs_of()], axis=0)
            kept = highest <= self.boundary[-1][1]
        for i, j in self.current_comparisons:
            n, m = self.n[i], self.n[j]
            block = np.concatenate([Z[i][k * n : (k + 1) * n], Z[j][k * m : (k + 1) * m]])
            every = math.comb(n + m, n)
            first = all_first(n, m) if k == 0 and every < self.B else self.random_first(n, m, kept if k else None)
            new = first @ block / n - (1 - first) @ block / m
            self.mean_diffs[str((i, j))] = self.mean_diffs[str((i, j))][kept] + new if k else new
            if k == 0:
                self.normalization = min(every, self.B)
            else:
                self.normalization = every ** np.floor(np.log(self.B) / np.log(every))
        return dict(self.mean_diffs)

    def mean_diffs_of(self) -> list[tuple[int, int]]:
        return [of for of in self.comparisons if str(of) in self.mean_diffs]

    def random_first(self, n: int, m: int, kept: np.ndarray | None) -> np.ndarray:
        count = self.B if kept is None else int(kept.sum())
        order = self.rng.random_sample((count, n + m)).argsort(axis=1)
        order[0] = np.arange(n + m)
        return (order < n).astype(float)


def all_first(n: int, m: int) -> np.ndarray:
    chosen = np.array(list(combinations(range(n + m), n)))
    first = np.zeros((len(chosen), n + m))
    np.put_along_axis(first, chosen, 1.0, axis=1)
    return first


def compared(kind: type, arms: np.ndarray, reference: np.ndarray, seed: int) -> tuple[list[bool], list[int]]:
    """Return which arms [30, M] differ from the reference [60], and the seeds each used."""
    pairs = np.empty(arms.shape[1], dtype=object)
    for i in range(len(pairs)):
        pairs[i] = (i + 1, 0)
    sizes = np.array([2 * EACH, *[EACH] * len(pairs)])
    test = kind(n=sizes, K=TIMES, B=10_000, comparisons=pairs, alpha=0.05, seed=seed)
    seeds = np.zeros(len(pairs), dtype=int)
    for k in range(TIMES):
        current = [of[0] - 1 for of in test.current_comparisons]
        seeds[current] = EACH * (k + 1)
        scores = [reference, *arms.T]
        values = {str(i): of[: (k + 1) * size] for i, (of, size) in enumerate(zip(scores, sizes, strict=True))}
        test.partial_compare(values, verbose=False)
        if test.is_finished:
            break
    return [test.decisions[str(of)] != "equal" for of in pairs], list(seeds)


def main() -> None:
    folder = Path(sys.argv[1])
    scores = np.load(folder / "scores.npz")
    results = [
        compared(Fast, scores["arms"][:, :, t], scores["reference"][:, t], t) for t in range(scores["arms"].shape[2])
    ]
    np.savez(
        folder / "decisions.npz", decided=np.array([r[0] for r in results]), seeds=np.array([r[1] for r in results])
    )


if __name__ == "__main__":
    main()
