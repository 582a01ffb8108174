"""Exports hold the scores of reports: what is read back is the same."""

import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sac_bench
from sac_bench.analysis.statistics import aggregate_iqm, aggregate_mean, aggregate_median, aggregate_optimality_gap
from sac_bench.errors import InputError
from sac_bench.report.export import FORMATS, marl_eval, rliable_scores, write_export
from sac_bench.report.results import Results
from tests.made_up import write_results
from tests.report.exported import ENVS, RECORD, several, sources
from tests.report.test_tables import made_up

ORACLE = json.loads(Path(__file__).with_name("exports.json").read_text())
AGGREGATES = {
    "mean": aggregate_mean,
    "median": aggregate_median,
    "iqm": aggregate_iqm,
    "optimality_gap": aggregate_optimality_gap,
}


@pytest.fixture(scope="module", name="several")
def _several():
    return several()


def test_rliables_arrays_have_runs_in_rows_and_tasks_in_columns(several):
    arrays = rliable_scores(several)
    assert {name: array.shape for name, array in arrays.items()} == {"a": (3, 2), "b": (2, 2)}
    table = several.scores().set_index(["variant", "seed", "env"])["score"]
    for name, array in arrays.items():
        for seed, row in enumerate(array):
            assert row.tolist() == [table[name, seed, env] for env in ENVS]


def test_the_file_for_rliable_has_the_same_arrays_and_says_what_it_lacks(several, tmp_path):
    left_out = write_export(several, "rliable", tmp_path / "sub" / "x.npz")
    assert left_out == ("2 runs without a score in every environment",)
    with np.load(tmp_path / "sub" / "x.npz") as read:
        arrays = rliable_scores(several)
        assert set(read) == set(arrays)
        assert all((read[name] == array).all() for name, array in arrays.items())


def test_the_record_round_trips_to_rliable(tmp_path):
    record = sac_bench.load_results("ablation-quick", RECORD)
    assert write_export(record, "rliable", tmp_path / "x.npz") == ()
    with np.load(tmp_path / "x.npz") as read:
        for name, rows in record.scores().groupby("variant"):
            assert read[name].tolist() == rows[["score"]].to_numpy().tolist()


def test_marl_eval_gets_equally_many_runs_and_steps_and_the_scores(several, tmp_path):
    left_out = write_export(several, "marl-eval", tmp_path / "x.json")
    assert left_out == ("4 runs: marl-eval requires seeds that have a score in all variants and environments",)
    read = json.loads((tmp_path / "x.json").read_text())
    assert read == marl_eval(several)
    tasks, table = read["made-up"], several.scores().set_index(["env", "variant", "seed"])["score"]
    assert set(tasks) == set(ENVS)
    for env, algorithms in tasks.items():
        for name, runs in algorithms.items():
            assert list(runs) == ["0", "1"]
            for seed, run in runs.items():
                assert run["absolute_metrics"] == {"return": [table[env, name, int(seed)]]}
                steps = [step for key, step in run.items() if key.startswith("step_")]
                assert [step["step_count"] for step in steps] == [0, 50, 100]
                assert steps[-1]["return"] == [table[env, name, int(seed)]], "its score is its last evaluation"


def test_marl_eval_finds_the_seeds_of_the_first_variant_in_all_others():
    tasks = marl_eval(several(failed=1))["made-up"]
    assert [list(runs) for algorithms in tasks.values() for runs in algorithms.values()] == [["0", "2"]] * 4


def test_variants_that_marl_eval_cannot_tell_apart_are_refused():
    one = several()
    variants = {"a": one.manifest.variants["a"], "A": one.manifest.variants["b"]}
    alike = replace(one, manifest=one.manifest.model_copy(update={"variants": variants}))
    with pytest.raises(InputError, match="made-up: variants 'a' and 'A' differ only in case, which marl-eval ignores"):
        marl_eval(alike)


def test_the_files_of_all_sources_were_read():
    assert set(ORACLE) == set(sources())


def scores_of(results, seeds=None):
    """{variant: scores [seeds] of each environment}, of seeds that have a score in all of them."""
    table = results.scores().dropna(subset="score")
    table = table if seeds is None else table[table["seed"].isin(seeds)]
    found = {}
    for name in results.manifest.variants:
        wide = table[table["variant"] == name].pivot_table(index="seed", columns="env", values="score").dropna()
        found[name] = [wide[env].to_numpy() for env in results.manifest.envs]
    return found


def assert_same_aggregates(theirs, scores):
    assert set(theirs) == set(scores)
    for name, of_variant in theirs.items():
        assert set(of_variant) == set(AGGREGATES)
        for aggregate, value in of_variant.items():
            ours = AGGREGATES[aggregate](scores[name])
            np.testing.assert_allclose(np.ravel(ours), value, rtol=1e-9, atol=1e-9, err_msg=f"{name} {aggregate}")


@pytest.mark.parametrize("source", ORACLE)
def test_rliable_computes_our_aggregates_from_our_file(source):
    assert_same_aggregates(ORACLE[source]["rliable"], scores_of(sources()[source]))


@pytest.mark.parametrize("source", ORACLE)
@pytest.mark.parametrize("form", ["marl-eval", "marl-eval, normalised"])
def test_marl_eval_computes_our_aggregates_from_our_file(source, form):
    """Normalised: x -> (x - low) / (high - low + 1e-6), by the extremes of an environment's returns and scores."""
    results, theirs = sources()[source], ORACLE[source]
    table = results.scores().dropna(subset="score")
    seeds = set.intersection(*(set(rows["seed"]) for _, rows in table.groupby(["env", "variant"])))
    assert len(table) > len(seeds) * len(results.manifest.envs) * len(results.manifest.variants), "some are left out"
    scores, curves = scores_of(results, seeds), results.curves()
    curves = curves[curves["seed"].isin(seeds)]
    scale = dict.fromkeys(results.manifest.envs, (0.0, 1.0))
    if form == "marl-eval, normalised":
        for env, rows in curves.groupby("env"):
            values = [*rows["return"], *table.loc[table["seed"].isin(seeds) & (table["env"] == env), "score"]]
            scale[env] = (min(values), max(values) - min(values) + 1e-6)

    def scaled(env, values):
        return (np.asarray(values) - scale[env][0]) / scale[env][1]

    by_env = {name: list(map(scaled, results.manifest.envs, of_env)) for name, of_env in scores.items()}
    assert_same_aggregates(theirs[form], by_env)
    for name, values in theirs[f"{form}, curves"].items():
        of = curves[curves["variant"] == name]
        returns = [
            scaled(env, of[of["env"] == env].pivot_table(index="seed", columns="step", values="return"))
            for env in results.manifest.envs
        ]
        np.testing.assert_allclose(aggregate_iqm(returns), values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_tidy_file_has_the_curves_and_the_scores(several):
    read = pd.read_csv(io.BytesIO(FORMATS["tidy"].of(several).data))
    assert list(read) == ["variant", "env", "seed", "step", "return", "score"]
    pd.testing.assert_frame_equal(read.drop(columns="score"), several.curves())
    keys = ["env", "variant", "seed"]
    shown = read.drop_duplicates(keys).set_index(keys)["score"]
    expected = several.scores().dropna(subset="score").set_index(keys)["score"]
    pd.testing.assert_series_equal(shown.sort_index(), expected.sort_index())


def test_a_diverged_run_is_exported_with_a_random_policys_return():
    arrays = rliable_scores(Results.of(made_up({("one-q", 2): "diverged"})))
    assert arrays["one-q"].tolist() == [[90.0], [80.0], [18.0]]


@pytest.mark.parametrize("form", ["rliable", "marl-eval"])
def test_a_variant_without_scores_is_refused_by_name(tmp_path, form):
    unfinished = Results.of(made_up({("one-q", seed): "failed" for seed in range(3)}))
    with pytest.raises(InputError, match=r"made-up: .*score"):
        write_export(unfinished, form, tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_the_command_exports_and_names_unknown_formats(command, tmp_path, several):
    write_results(tmp_path / "results" / "made-up", several)
    ran = command("export", "tidy", "made-up")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.strip() == "results/made-up/export/tidy.csv"
    assert len(pd.read_csv(tmp_path / "results/made-up/export/tidy.csv")) == 33
    ran = command("export", "rliabel", "made-up")
    assert (ran.returncode, ran.stderr.strip()) == (
        2,
        "sac-bench: export rliabel: must be one of rliable, marl-eval, tidy; did you mean 'rliable'?",
    )
