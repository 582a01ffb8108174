"""`sac_bench.run`: the use case from Python."""

import sys
from types import SimpleNamespace

import pytest

import sac_bench
from sac_bench.errors import InputError
from sac_bench.execution import train


@pytest.mark.thorough
def test_run_trains_returns_results_and_reuses_them(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    options = {"variants": ["sac"], "seeds": 1, "device": "cpu", "workers": 1, "results": tmp_path / "results"}
    first = sac_bench.run(experiment_file, **options)
    assert set(first.runs["status"]) == {"finished"}
    assert set(first.evaluations["step"]) == {0, 200, 400}
    assert first.manifest.name == "tiny"
    assert first.manifest.command == f"sac_bench.run({str(experiment_file)!r}, seeds=1, variants=['sac'])"
    assert (tmp_path / "results" / "tiny" / "report.html").exists()

    monkeypatch.setattr(train, "Engine", None)  # fails if anything would be trained
    second = sac_bench.run(experiment_file, **options)
    assert second.runs.equals(first.runs)
    assert second.evaluations.equals(first.evaluations)

    assert sac_bench.write_report("tiny", tmp_path / "results").stat().st_size


CHOOSE = """
[choose]
seeds = 1
[choose.base]
actor_lr = [1e-4, 3e-4, 1e-3]
"""


@pytest.mark.thorough
def test_a_dry_run_plans_the_candidates_and_after_them_the_comparison(command, experiment_file):
    experiment_file.write_text(experiment_file.read_text() + CHOOSE)
    run = ("run", experiment_file, "--variant", "sac", "--seeds", "2", "--device", "cpu", "--workers", "1")
    before = command(*run, "--dry-run").stdout
    assert "tiny-choice: " in before
    assert "runs: 3 new, 0 reused" in before
    assert "These runs choose options. The comparison follows: its first runs take about" in before
    assert command(*run, "--seeds", "1").returncode == 0
    after = command(*run, "--dry-run").stdout
    assert "runs: 1 new, 1 reused" in after
    assert "choose" not in after


@pytest.mark.thorough
def test_run_trains_the_candidates_and_then_the_chosen_on_other_seeds(experiment_file, tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")
    experiment_file.write_text(experiment_file.read_text() + CHOOSE)
    options = {"variants": ["sac"], "seeds": 1, "device": "cpu", "workers": 1, "results": tmp_path / "results"}
    results = sac_bench.run(experiment_file, **options)
    selection = sac_bench.load_results("tiny-choice", tmp_path / "results")
    assert list(selection.manifest.variants) == [f"sac+actor_lr={rate}" for rate in ("0.0001", "0.0003", "0.001")]
    assert set(selection.runs["seed"]) == {1_000_000}
    assert set(results.runs["seed"]) == {0}
    (choice,) = results.manifest.choices
    assert choice.options == results.manifest.variants["sac"].overrides
    scores = {one.options["actor_lr"]: one.mean for one in choice.candidates}
    assert scores[choice.options["actor_lr"]] == max(scores.values())
    report = (tmp_path / "results" / "tiny" / "report.md").read_text()
    assert "Chosen options" in report
    assert f"actor_lr = {choice.options['actor_lr']}" in report

    monkeypatch.setattr(train, "Engine", None)  # fails if anything would be trained
    assert sac_bench.run(experiment_file, **options).runs.equals(results.runs)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"engine": "dask"}, "--engine dask: must be local or ray"),
        ({"address": "auto"}, "--address auto: requires --engine ray"),
        ({"engine": "ray", "gpus": "all"}, "--gpus all: Ray assigns the GPUs"),
        ({"device": "cpu", "gpus": "0"}, "--gpus 0: this command trains on the CPU"),
    ],
)
def test_run_refuses_options_that_do_not_fit_an_engine_and_writes_nothing(options, words, experiment_file, tmp_path):
    with pytest.raises(InputError, match=words):
        sac_bench.run(experiment_file, results=tmp_path / "results", **options)
    assert not (tmp_path / "results").exists()


def test_run_connects_to_the_cluster_of_its_address(experiment_file, tmp_path, monkeypatch):
    def at(*arguments):
        raise InputError(f"no cluster: {arguments}")

    cluster = SimpleNamespace(Cluster=SimpleNamespace(at=at))
    monkeypatch.setitem(sys.modules, "sac_bench.execution.on_ray", cluster)
    with pytest.raises(InputError, match=r"no cluster: \('ray://head:10001', 'cpu', 3\)"):
        sac_bench.run(
            experiment_file,
            engine="ray",
            address="ray://head:10001",
            device="cpu",
            workers=3,
            results=tmp_path / "results",
        )
