"""After which transitions a run is evaluated: one rule for training, collecting and scoring."""

from __future__ import annotations

from typing import Any


def is_evaluated(steps: Any, last: int, every: Any) -> Any:
    """Return whether a run that ends at `last` transitions is evaluated at `steps`.

    `steps` and `every` are single or arrays.
    """
    return (steps % every == 0) | (steps == last)


def evaluation_steps(last: int, every: int) -> list[int]:
    """Return all transitions at which `is_evaluated` holds, from 0 to `last`."""
    return [*range(0, last, every), last]
