"""sac_bench: which part of Soft Actor-Critic matters?

`load_results(name)` gives an experiment's tables, `load_policy(run)` a trained policy. See docs/api.md.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sac_bench.evaluation.policy import Policy, load_policy
    from sac_bench.results.results import Results, load_results

__all__ = ["Policy", "Results", "load_policy", "load_results"]


def __getattr__(name: str) -> Any:  # imported when asked for: torch and pandas take seconds
    if name in ("load_policy", "Policy"):
        from sac_bench.evaluation import policy as module
    elif name in ("load_results", "Results"):
        from sac_bench.results import results as module  # type: ignore[no-redef]
    else:
        raise AttributeError(f"module 'sac_bench' has no attribute {name!r}")
    return getattr(module, name)
