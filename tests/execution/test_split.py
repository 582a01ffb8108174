"""Split cohorts: the same bytes as in the whole cohort."""

import pytest
import torch
from safetensors.torch import load_file

from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.execution.plan import make_plan, members, release, write
from sac_bench.execution.split import split_cohort
from sac_bench.execution.worker import Worker
from sac_bench.spec.load import load
from sac_bench.store.store import Store
from sac_bench.training.replay import rows_of
from tests.conftest import EXPERIMENT

SIZES = {"layers = [8]": "layers = [64, 64]", "batch_size = 4": "batch_size = 64", "seeds = 2": "seeds = 4"}


def planned(tmp_path, name, steps):
    """Train four runs of one cohort to `steps` and keep the replay; return (store, cohort, run ids)."""
    text = EXPERIMENT
    for old, new in SIZES.items():
        text = text.replace(old, new)
    (tmp_path / "e.toml").write_text(text)
    store = Store(tmp_path / name)
    train(store, tmp_path, steps)
    (cohort,) = store.cohort_ids()
    return store, cohort, members(CohortDirectory(store.cohort(cohort)))


def train(store, tmp_path, steps, runs=None):
    """Train the file's runs in this process, or only the cohorts `runs`."""
    experiment = load(tmp_path / "e.toml", variants=["sac"], steps=steps, seeds=4)
    with store.planning():
        plan = make_plan(experiment, store, 1, 8e9)
        write(plan, store, "me", keep_replay=True)
    for cohort in plan.cohorts:
        if runs is None or cohort.id in runs:
            Worker(store, cohort.id, steps, "cpu", 1).train()


def bytes_of(store, run_id):
    evaluations = store.run(run_id).table("evaluations").drop(columns="wall_seconds").to_csv()
    return evaluations, load_file(store.run(run_id).policy)


def assert_same(one, other):
    assert one[0] == other[0]
    assert all(torch.equal(leaf, other[1][name]) for name, leaf in one[1].items())


@pytest.fixture
def eager(monkeypatch, as_workers):
    monkeypatch.setenv("TORCH_COMPILE_DISABLE", "1")


@pytest.mark.thorough
@pytest.mark.parametrize(
    "survivors", [[0, 2, 3], *(pytest.param(some, marks=pytest.mark.soak) for some in ([3], [1, 2]))]
)
def test_survivors_end_with_the_same_bytes_as_in_the_whole_cohort(survivors, tmp_path, eager):
    whole, _, runs = planned(tmp_path, "whole", 400)
    train(whole, tmp_path, 800)
    store, cohort, same = planned(tmp_path, "narrowed", 400)
    assert same == runs
    ids = [runs[m] for m in survivors]
    with store.planning():
        (new_cohort,) = split_cohort(store, ids, "me", "cpu")
        assert split_cohort(store, ids, "me", "cpu") == []  # it is split only once
        release(store, cohort, "me")
    assert split_cohort(store, ids, "me", "cpu") == []  # an empty slot is no reason to split again
    width = len(members(CohortDirectory(store.cohort(new_cohort))))
    assert width == len(ids)
    assert not list(store.cohort(cohort).glob("*.safetensors"))
    Worker(store, new_cohort, 800, "cpu", 1).train()
    for m, run_id in enumerate(runs):
        status = store.run(run_id).status()
        assert (status["steps"], status["cohort"]) == ((800, new_cohort) if m in survivors else (400, cohort))
        if m in survivors:
            assert_same(bytes_of(store, run_id), bytes_of(whole, run_id))
            assert (
                f"continues in cohort {new_cohort} of width {width}" in (store.run(run_id).path / "log.txt").read_text()
            )


@pytest.mark.thorough
def test_a_cohort_that_another_process_requested_is_not_split(tmp_path, eager):
    store, cohort, runs = planned(tmp_path, "results", 200)
    with store.planner() as other:
        directory = CohortDirectory(store.cohort(cohort))
        directory.write_plan(runs, 400, True, ["me", other])
        with store.planning():
            assert split_cohort(store, runs[:2], "me", "cpu") == []
            release(store, cohort, "me")
    assert directory.saved()


@pytest.mark.thorough
def test_cohorts_on_cuda_keep_their_width(tmp_path, eager):
    store, _, runs = planned(tmp_path, "results", 200)
    with store.planning():
        assert split_cohort(store, runs[:2], "me", "cuda") == []
        assert len(split_cohort(store, runs[:2], "me", "cpu")) == 1


def test_selected_rows_keep_the_last_observations_of_their_members():
    truncated = torch.zeros(3, 4, 2, dtype=torch.bool)
    truncated[0, 1, 0] = truncated[1, 0, 1] = truncated[2, 3, 1] = truncated[2, 3, 0] = True
    final = torch.arange(4.0)[:, None]  # in the order of members, then time, then environments
    chosen = rows_of({"reward": torch.arange(24.0).view(3, 4, 2), "truncated": truncated, "final": final}, [0, 2])
    assert chosen["final"].flatten().tolist() == [0, 2, 3]
    assert chosen["reward"][1, 0, 0] == 16


@pytest.mark.thorough
def test_a_cohort_that_cannot_be_continued_is_not_split(tmp_path, eager):
    store, cohort, runs = planned(tmp_path, "damaged", 200)
    for path in store.cohort(cohort).glob("state-*"):
        path.write_bytes(b"")
    with store.planning():
        assert split_cohort(store, runs[:2], "me", "cpu") == []
    assert list(store.cohort_ids()) == [cohort]
