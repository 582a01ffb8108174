"""TensorBoard event files, read back by TensorBoard's reader."""

import pytest

from sac_bench.errors import InputError
from sac_bench.results import tensorboard
from sac_bench.results.load import load_results
from tests.report.test_compare import RECORD


def test_events_equal_the_rows_of_the_tables_and_are_written_once(tmp_path):
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    folder = tmp_path / "precision"
    folder.mkdir()
    for file in ("experiment.json", "runs.csv", "evaluations.csv", "episodes.csv", "training.csv"):
        (folder / file).write_bytes((RECORD / "precision" / file).read_bytes())
    for _ in range(2):
        written = tensorboard.write_events(folder)
    results = load_results("precision", tmp_path)
    runs = results.runs
    assert len(list(written.rglob("events.*"))) == len(runs)
    assert not list(folder.glob(".*"))
    run = runs.iloc[-1]
    events = accumulators.EventAccumulator(str(written / run["variant"] / run["env"] / f"seed-{run['seed']}"))
    events.Reload()
    evaluations, training = (
        table[(table["run_id"] == run["run_id"]) & (table["variant"] == run["variant"])]
        for table in (results.evaluations, results.training)
    )
    for tag, rows, column in (
        ("evaluation/mean/return_mean", evaluations[evaluations["policy"] == "mean"], "return_mean"),
        ("evaluation/sample/length_mean", evaluations[evaluations["policy"] == "sample"], "length_mean"),
        ("training/critic_loss", training.dropna(subset="critic_loss"), "critic_loss"),
    ):
        scalars = events.Scalars(tag)
        assert [event.step for event in scalars] == rows["step"].tolist()
        assert [event.value for event in scalars] == pytest.approx(rows[column].tolist(), rel=1e-6)
    assert not [tag for tag in events.Tags()["scalars"] if tag.endswith(("seed", "step", "wall_seconds"))]


def test_without_the_package_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setattr(tensorboard.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install tensorboard"):
        tensorboard.check_installed()
