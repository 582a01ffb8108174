"""Find out which part of Soft Actor-Critic matters.

`run` trains an experiment and returns its results, `load_results` returns its tables, `write_report` writes its report
again, `load_policy` returns a trained policy. See docs/api.md.
"""

from __future__ import annotations

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sac_bench.evaluation.policy import Policy
    from sac_bench.report.results import Results, load_results
    from sac_bench.results.policies import load_policy
    from sac_bench.workflow.reports import write_report
    from sac_bench.workflow.run import run

_MODULES = {
    "Policy": "sac_bench.evaluation.policy",
    "Results": "sac_bench.report.results",
    "load_policy": "sac_bench.results.policies",
    "load_results": "sac_bench.report.results",
    "run": "sac_bench.workflow.run",
    "write_report": "sac_bench.workflow.reports",
}
__all__ = ["Policy", "Results", "load_policy", "load_results", "run", "write_report"]


def __getattr__(name: str) -> Any:  # imported on first use: torch and pandas take seconds
    if name == "__version__":
        return version("sac_bench")
    if name not in _MODULES:
        raise AttributeError(f"module 'sac_bench' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names, also before they are imported, for completion."""
    return sorted([*__all__, "__version__"])
