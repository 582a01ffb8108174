"""Whether an experiment's runs were trained on one kind of device, and may be compared."""

from __future__ import annotations

import pandas as pd

from sac_bench.results.load import Results


def kinds(runs: pd.DataFrame) -> dict[str, int]:
    """Return {kind of device: number of runs}, for example {"cpu": 7, "cpu; then cuda": 1}, without runs of none."""
    counts = runs.drop_duplicates("run_id")["device_kind"].dropna().value_counts()
    return {str(kind): int(count) for kind, count in counts.items()}


def mixed(results: Results) -> str:
    """Return a sentence on the kinds of devices, without a full stop; "" if all runs were trained on one."""
    counts = kinds(results.runs) if len(results.runs) else {}
    if len({kind for joined in counts for kind in joined.split("; then ")}) < 2:
        return ""
    numbers = ", ".join(f"{count} on {kind}" for kind, count in counts.items())
    start = f"runs were trained on different kinds of devices ({numbers})"
    if results.manifest.mix_devices:
        return f"{start}, as --mix-devices allows"
    return f"{start}, which are compared only on request, so there are no verdicts; --mix-devices accepts them"


def are_comparable(results: Results) -> bool:
    """Return whether all runs were trained on one kind of device, or a mixture was requested."""
    return results.manifest.mix_devices or not mixed(results)
