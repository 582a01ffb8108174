"""Tables of many runs are read together, and rows of a variant are found without a pass over the table."""

import gc

import numpy as np
import pandas as pd
import pytest

from sac_bench.errors import InputError
from sac_bench.results import cells, reading
from sac_bench.results.cells import once, rows_of
from sac_bench.results.reading import read
from sac_bench.store.run import RunDirectory

HEADERS = ("step,policy,return_mean", "step,policy,return_mean,critic_loss")


@pytest.fixture
def runs(tmp_path):
    """Return runs with two headers by turns, one of them without a table."""
    found = []
    for i in range(12):
        run = RunDirectory(tmp_path / f"{i:016x}")
        run.path.mkdir()
        header = HEADERS[i % 2]
        extra = ",0.5" * (i % 2)
        rows = [f"{step},mean,{0.1 * i + step}{extra}" for step in range(0, 100 * (1 + i % 4), 100)]
        (run.path / "training.csv").write_text("\n".join([header, *rows, ""]))
        found.append(run)
    (found[3].path / "training.csv").unlink()
    return found


def one_by_one(runs):
    """Return the rows of runs that are read alone, and the positions of their runs."""
    tables = {i: run.table("training") for i, run in enumerate(runs)}
    whole = pd.concat([table for table in tables.values() if len(table)], ignore_index=True)
    return whole, [i for i, table in tables.items() for _ in range(len(table))]


@pytest.mark.parametrize("at_once", [1, 5, 256])
def test_runs_that_are_read_together_have_the_rows_of_runs_read_alone(at_once, runs, monkeypatch):
    monkeypatch.setattr(reading, "RUNS_AT_ONCE", at_once)
    with open(runs[6].path / "training.csv", "a", encoding="utf-8") as file:
        file.write("200,mean,1")  # a write that was cut short
    rows, reasons = read(runs, "training")
    expected, of = one_by_one(runs)
    pd.testing.assert_frame_equal(rows.table, expected)
    assert rows.of.tolist() == of
    assert reasons == {}


@pytest.mark.parametrize(
    "damage", ["step,policy\nx,mean\n", "\x00\n", "step,policy,return_mean\n1,mean,2\n1,mean,2,3,4\n"]
)
def test_a_damaged_table_is_reported_and_hides_no_other(damage, runs):
    (runs[5].path / "training.csv").write_text(damage)
    with pytest.raises(InputError) as alone:
        runs[5].table("training")
    rows, reasons = read(runs, "training")
    assert reasons == {5: str(alone.value)}
    expected, of = one_by_one([run for run in runs if run is not runs[5]])
    pd.testing.assert_frame_equal(rows.table, expected)
    assert rows.of.tolist() == [i + (i >= 5) for i in of]


def test_many_runs_take_few_parses(runs, monkeypatch):
    """The start of a parser takes a millisecond, and there are three tables per run."""
    parses, usual = [], pd.read_csv
    monkeypatch.setattr(pd, "read_csv", lambda *a, **k: parses.append(1) or usual(*a, **k))
    whole = [run for run in runs if run.lines("training")]
    rows, _ = read(whole * 10, "training")
    assert len(rows.table) == 10 * len(read(whole, "training")[0].table)
    assert len(parses) == 4  # two headers, twice


def test_runs_that_are_left_out_have_no_rows(runs):
    assert set(read([None, *runs[1:]], "training")[0].of) == set(read(runs, "training")[0].of) - {0}
    rows, reasons = read([None, None], "training")
    assert rows.table.empty
    assert reasons == {}


def test_the_rows_of_a_cell_are_those_that_a_mask_selects():
    random = np.random.default_rng(0)
    table = pd.DataFrame({"env": random.choice(["a", "b"], 50), "variant": random.choice(["x", "y"], 50)})
    table["step"] = range(50)
    for env, variant in (("a", "x"), ("b", "y"), ("a", "z"), ("c", "x")):
        mask = (table["env"] == env) & (table["variant"] == variant)
        pd.testing.assert_frame_equal(rows_of(table, env, variant), table[mask])
    assert rows_of(pd.DataFrame(), "a", "x").empty


def test_the_cells_of_a_table_are_forgotten_with_it():
    gc.collect()  # tables of other tests
    before = len(cells._CELLS)
    table = pd.DataFrame({"env": ["a"], "variant": ["x"]})
    assert len(rows_of(table, "a", "x")) == 1
    assert len(cells._CELLS) == before + 1
    del table
    gc.collect()
    assert len(cells._CELLS) == before


def test_a_value_of_results_is_computed_once():
    class Some:
        pass

    results, calls = Some(), []
    assert [once(results, "key", lambda: calls.append(1) or 7) for _ in range(2)] == [7, 7]
    assert once(Some(), "key", lambda: 8) == 8
    assert len(calls) == 1
