"""Aggregates over environments: one row per variant, on the reference's scale."""

import numpy as np
import pytest

from sac_bench.analysis.aggregates import aggregates, presented, table
from tests.made_up import manifest_of

SCALED = {
    "Hopper-v5": {"sac": np.array([0.5, 1.0, 1.5, 1.0]), "one-q": np.array([0.0, 0.2, 0.4, 0.2])},
    "Ant-v5": {"sac": np.array([1.0, 1.0, 1.0, 1.0]), "one-q": np.array([1.0, 2.0, 2.0, 3.0]), "new": np.ones(4)},
}
MANIFEST = manifest_of({"reference": "sac", "variants": {"sac": {}, "one-q": {}, "new": {}}})


def test_each_variant_with_runs_in_all_environments_has_aggregates():
    rows = aggregates(SCALED, MANIFEST).set_index("variant")
    assert list(rows.index) == ["sac", "one-q"]
    sac, one_q = rows.loc["sac"], rows.loc["one-q"]
    assert (sac["runs"], sac["environments"]) == (8, 2)
    assert [sac[name].value for name in ("IQM", "median", "mean")] == pytest.approx([1, 1, 1])
    assert sac["optimality gap"].value == pytest.approx((0.5 / 4 + 0) / 2)
    assert one_q["mean"].value == pytest.approx((0.2 + 2) / 2)
    assert one_q["IQM"].value == pytest.approx((0.2 + 0.4 + 1 + 2) / 4)
    assert one_q["optimality gap"].value == pytest.approx((0.8 + 0) / 2)
    assert one_q["improvement"].value == pytest.approx((0 + 3.5 / 4) / 2)
    assert one_q["mean"].low < one_q["mean"].value < one_q["mean"].high


def test_tables_for_programs_and_for_readers_agree():
    estimates = aggregates(SCALED, MANIFEST)
    flat, shown = table(estimates).set_index("variant"), presented(estimates).set_index("variant")
    assert flat.loc["one-q", "mean"] == pytest.approx(1.1)
    assert shown.loc["one-q", "mean"].startswith("1.10 [")
    assert np.isnan(flat.loc["sac", "improvement"])
    assert shown.loc["sac", "P(better)"] == ""


def test_without_a_common_scale_there_are_no_rows():
    assert len(table(aggregates({}, MANIFEST))) == 0
