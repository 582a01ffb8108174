"""Exports hold the scores of reports: what is read back is the same."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import sac_bench
from sac_bench.errors import InputError
from sac_bench.report.export import FORMATS, marl_eval, rliable_scores, write_export
from sac_bench.report.results import Results
from tests.made_up import results_of, write_results
from tests.report.test_tables import made_up

RECORD = Path(__file__).parents[2] / "results" / "record"
ENVS = ("Hopper-v5", "Ant-v5")


@pytest.fixture(scope="module")
def several():
    """Two environments; the second has no score of seed 2 of "b"."""
    runs, evaluations = [], []
    for number, (env, name, seed) in enumerate((e, v, s) for e in ENVS for v in ("a", "b") for s in range(3)):
        status = "failed" if (env, name, seed) == ("Ant-v5", "b", 2) else "finished"
        labels = {"run_id": str(number), "variant": name, "env": env, "seed": seed}
        runs.append(labels | {"status": status, "steps": 100, "target_steps": 100})
        evaluations += [
            labels | {"step": step, "policy": "mean", "return_mean": number * step / 10} for step in (0, 50, 100)
        ]
    about = {"envs": list(ENVS), "reference": "a", "variants": {"a": {}, "b": {}}}
    return Results.of(results_of(about, runs, evaluations))


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
    assert left_out == ("4 runs: marl-eval requires as many runs of all variants, each with a score",)
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
