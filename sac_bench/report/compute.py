"""What training took, beside its scores: a table and a section of the report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from sac_bench.analysis.compute import differs, table
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.report.labels import titled
from sac_bench.report.page import Block, Grid, Picture, text
from sac_bench.results.load import Results
from sac_bench.results.manifest import Manifest
from sac_bench.store.atomic import write_text

NOTE = (
    "Scores are those at the end of each training. FLOPs: matrix products of acting and updating, counted by torch; a "
    "multiplication and an addition are two. Hours: a run's share of its cohort's time, which depends on the machine "
    "and the cohort. Per compute: the mean return over log FLOPs, between the least and the most FLOPs at which all "
    "variants were evaluated."
)


def write_compute(results: Results, folder: Path) -> None:
    """Write compute.csv if FLOPs are known, else delete it."""
    found, path = table(results), folder / "compute.csv"
    if found["flops"].notna().any():
        write_text(path, found.to_csv(index=False))
    else:
        path.unlink(missing_ok=True)


def compute_section(results: Results, pictures: Sequence[Picture]) -> list[Block]:
    """Return the section on compute, if FLOPs are known and differ between variants."""
    found = table(results)
    if not differs(found):
        return []
    shown = presented(found, results.manifest)
    return [*pictures, Grid(shown, len(shown.columns), ()), text(NOTE, small=True)]


def presented(found: pd.DataFrame, manifest: Manifest) -> pd.DataFrame:
    """Return the table for a reader."""
    spec = score_format(found["score"].abs().max())
    shown = pd.DataFrame(
        {
            "variant": [titled(manifest, name) for name in found["variant"]],
            "environment": found["env"],
            "updates": [number(n, ",.0f") for n in found["updates"]],
            "FLOPs": [number(n, ".2e") for n in found["flops"]],
            "by the reference's": [number(n, ".2f") for n in found["relative_flops"]],
            "hours": [number(n, ".2g") for n in found["hours"]],
            "score [95% CI]": [
                interval(*t, spec=spec) for t in found[["score", "ci_low", "ci_high"]].itertuples(index=False)
            ],
            "per compute [95% CI]": [
                interval(*t, spec=spec)
                for t in found[["per_compute", "per_compute_ci_low", "per_compute_ci_high"]].itertuples(index=False)
            ],
        }
    )
    return shown.drop(columns="environment") if len(manifest.envs) == 1 else shown
