"""Decides which trials continue from a rung, by pure functions of the values that all trials had there.

Asynchronous successive halving (arXiv 1810.05934): a trial continues if it is among the best 1/reduction of all trials
that ever reached the rung. Hyperband (arXiv 1603.06560) spreads trials over brackets; bracket b does not prune at the
first b rungs, and trials are compared within their bracket. Optuna's pruners decide on each trial when it reports, so
the first of a batch always continues; here a whole batch is decided at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GOLDEN = (math.sqrt(5) - 1) / 2


def continues(value: float, values: Sequence[float], reduction: int) -> bool:
    """Return whether `value`, one of `values` at a rung, is among the best 1/reduction of them; the best always is."""
    better = sum(other > value for other in values)
    return better < max(1, len(values) // reduction)


def bracket(number: int, pruner: str, rungs: int, reduction: int) -> int:
    """Return how many rungs trial `number` passes without a decision; `rungs` if it is never pruned."""
    if pruner == "none":
        return rungs
    if pruner == "successive-halving":
        return 0
    # Hyperband's number of trials in bracket b, which may prune `rungs` - b times.
    shares = [math.ceil((rungs + 1) * reduction**left / (left + 1)) for left in range(rungs, -1, -1)]
    at = math.modf(number * GOLDEN)[0] * sum(shares)  # spreads consecutive numbers evenly over brackets
    for b, share in enumerate(shares):
        at -= share
        if at < 0:
            return b
    return rungs
