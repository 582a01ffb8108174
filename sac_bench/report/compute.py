"""What training took, beside its scores: a section of the report."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from sac_bench.analysis.compute import differs
from sac_bench.analysis.format import interval, number, score_format
from sac_bench.report.labels import titled
from sac_bench.report.page import Block, Grid, Picture, text
from sac_bench.results.manifest import Manifest

NOTE = (
    "Scores are those at the end of each training. FLOPs: matrix products of acting and updating, counted by torch; a "
    "multiplication and an addition are two. Hours: a run's share of its cohort's time, which depends on the machine "
    "and the cohort. Per compute: the mean return over log FLOPs, between the least and the most FLOPs at which all "
    "variants with finished runs were evaluated, after their first updates. The run that a warm start begins from is "
    "not counted."
)


def compute_section(found: pd.DataFrame, manifest: Manifest, pictures: Sequence[Picture]) -> list[Block]:
    """Return the section on compute, given compute.table, if FLOPs are known and differ between variants."""
    if not differs(found):
        return []
    shown = presented(found, manifest)
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
    if found["exploded"].any():
        shown["exploded runs"] = found["exploded"]
    return shown.drop(columns="environment") if len(manifest.envs) == 1 else shown
