"""Which trials go on from a rung: pure functions of the values that all trials had there.

Successive halving in its asynchronous form (arXiv 1810.05934): a trial goes on if it is among the best 1/reduction of
all that ever reached the rung. Hyperband (arXiv 1603.06560) spreads trials over brackets, of which bracket b never
prunes at the first b rungs, and compares inside a bracket. Optuna's pruners decide trial by trial in the order of their
reports, so the first of a batch always goes on; here a batch is judged at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GOLDEN = (math.sqrt(5) - 1) / 2


def goes_on(value: float, values: Sequence[float], reduction: int) -> bool:
    """Whether `value`, one of `values` at a rung, is among the best 1/reduction of them; the best always is."""
    better = sum(other > value for other in values)
    return better < max(1, len(values) // reduction)


def bracket(number: int, pruner: str, rungs: int, reduction: int) -> int:
    """How many rungs trial `number` passes without being judged; `rungs` where it is never pruned."""
    if pruner == "none":
        return rungs
    if pruner == "successive-halving":
        return 0
    # Hyperband's share of bracket b, which may prune `rungs` - b times.
    shares = [math.ceil((rungs + 1) * reduction**left / (left + 1)) for left in range(rungs, -1, -1)]
    at = math.modf(number * GOLDEN)[0] * sum(shares)  # spreads every stretch of numbers evenly
    for b, share in enumerate(shares):
        at -= share
        if at < 0:
            return b
    return rungs
