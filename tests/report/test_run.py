"""`sac_bench.run`: the use case from Python."""

import pytest

import sac_bench
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
