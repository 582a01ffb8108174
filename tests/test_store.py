"""Files that are cut, half-written or missing."""

import pytest

from sac_bench.errors import InputError
from sac_bench.store import RunDirectory, Store, load_results, write_atomically


def rows(*steps):
    return [{"step": step, "return_mean": step / 10} for step in steps]


def test_rows_beyond_the_checkpoint_and_cut_lines_are_dropped(tmp_path):
    run = RunDirectory(tmp_path)
    run.append("evaluations", rows(0, 100, 200))
    with open(tmp_path / "evaluations.csv", "a") as file:
        file.write("300,3")
    run.drop_after(100)
    assert run.table("evaluations")["step"].tolist() == [0, 100]
    run.append("evaluations", rows(200))
    assert run.table("evaluations")["step"].tolist() == [0, 100, 200]
    run.drop_after(-1)
    run.append("evaluations", rows(0))
    assert run.table("evaluations")["step"].tolist() == [0]


def test_a_table_cut_in_its_header_starts_again(tmp_path):
    run = RunDirectory(tmp_path)
    for cut in ("", "step,ret"):
        (tmp_path / "training.csv").write_text(cut)
        assert run.table("training").empty
        run.drop_after(-1)
        run.append("training", rows(0))
        assert run.table("training")["step"].tolist() == [0]


def test_a_variant_may_be_called_null(tmp_path):
    write_atomically(tmp_path / "e" / "experiment.json", b"{}")
    for name in ("runs", "evaluations", "episodes", "training"):
        write_atomically(tmp_path / "e" / f"{name}.csv", b"run_id,variant,wall_seconds\n0123,null,\n")
    runs = load_results("e", tmp_path).runs
    assert runs["variant"].tolist() == ["null"]
    assert runs["run_id"].tolist() == ["0123"]
    assert runs["wall_seconds"].isna().all()


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "x" / "file"
    write_atomically(path, b"one")
    write_atomically(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_a_run_never_started_is_new(tmp_path):
    assert Store(tmp_path).run("0" * 16).status() == {"status": "new", "steps": 0}
    assert Store(tmp_path).run("0" * 16).table("evaluations").empty


def test_unknown_results_name_the_nearest(tmp_path):
    write_atomically(tmp_path / "ablation-quick" / "experiment.json", b"{}")
    with pytest.raises(InputError, match="did you mean 'ablation-quick'"):
        load_results("ablation-qick", tmp_path)


def test_one_process_trains_in_a_folder_at_a_time(tmp_path):
    store = Store(tmp_path)
    with store.training(), pytest.raises(InputError, match="another sac-bench"), store.training():
        pass
    with store.training():
        pass
