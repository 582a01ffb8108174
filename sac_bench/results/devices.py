"""Whether an experiment's runs were trained on one kind of device, and may be compared."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sac_bench.results.load import Results


def kinds(runs: pd.DataFrame) -> dict[str, int]:
    """Return {kind of device: number of runs}, for example {"cpu": 7, "cpu; then cuda": 1}, without runs of none."""
    counts = runs.drop_duplicates("run_id")["device_kind"].dropna().value_counts()
    return {str(kind): int(count) for kind, count in counts.items()}


def mixed(results: Results) -> str:
    """Return a sentence on the kinds of devices, without a full stop; "" if all runs were trained on one."""
    return sentence([results.runs], results.manifest.mix_devices)


def sentence(runs: Sequence[pd.DataFrame], accepted: bool) -> str:
    """Return a sentence on the kinds of devices of several tables of runs, without a full stop; "" if there is one.

    accepted: whether the user wants them to be compared.
    """
    counts = [kinds(table) if len(table) else {} for table in runs]
    if len({kind for own in counts for joined in own for kind in joined.split("; then ")}) < 2:
        return ""
    each = [", ".join(f"{count} on {kind}" for kind, count in own.items()) or "unknown" for own in counts]
    numbers = each[0] if len(each) == 1 else "; ".join(map(": ".join, zip("AB", each, strict=True)))
    start = f"runs were trained on different kinds of devices ({numbers})"
    if accepted:
        return f"{start}, as --mix-devices allows"
    return f"{start}, which are compared only on request, so there are no verdicts; --mix-devices accepts them"


def are_comparable(results: Results) -> bool:
    """Return whether all runs were trained on one kind of device, or a mixture was requested."""
    return results.manifest.mix_devices or not mixed(results)
