"""Checkpoints on disk: for several shapes of a cohort, and with damaged files."""

import shutil
from pathlib import Path

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import read_json, write_json
from sac_bench.store.run import RunDirectory
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny


def trainer(members, num_envs=1, **overrides):
    config = tiny(num_envs=num_envs, eval_every=200, utd=0.1, **overrides)
    return Trainer([RunSpec("sac", config, "Pendulum-v1", seed) for seed in range(members)], 800, compiled=False)


def directories(tmp_path, members):
    runs = [RunDirectory(tmp_path / "runs" / f"{m:016x}") for m in range(members)]
    for run in runs:
        run.path.mkdir(parents=True, exist_ok=True)
    (tmp_path / "cohort").mkdir(exist_ok=True)
    return CohortDirectory(tmp_path / "cohort"), runs


def saved_to(steps, trained, directory, runs):
    """Train and save segment by segment, with one row per segment in every run's table."""
    while trained.steps < steps or trained._pool is None:
        trained.train()
        for run in runs:
            run.append("evaluations", [{"step": trained.steps, "return_mean": 0.5}])
        directory.save(trained, runs)


def assert_same(one, other):
    assert one.steps == other.steps
    for ours, theirs in zip(tree_leaves(one.cohort.state), tree_leaves(other.cohort.state), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(one.replay.newest, other.replay.newest)


@pytest.mark.thorough
@pytest.mark.parametrize(("members", "num_envs"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_checkpoint_restores_the_moment_when_it_was_saved(members, num_envs, tmp_path):
    directory, runs = directories(tmp_path, members)
    original = trainer(members, num_envs)
    saved_to(400, original, directory, runs)
    restored = trainer(members, num_envs)
    assert directory.restore(restored, runs) == []
    directory.drop_later(runs)
    assert restored.steps == 400
    for trained in (original, restored):
        trained.train()
        trained.close()
    assert_same(original, restored)


@pytest.mark.thorough
def test_the_contents_of_a_checkpoint_do_not_change_as_training_continues():
    trained = trainer(2, 1)
    while trained.steps < 400:
        trained.train()
    tensors, _, _ = trained.checkpoint()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    trained.train()
    trained.close()
    assert not torch.equal(tensors["params/actor/0/weight"], trained.cohort.state["params"]["actor"][0].weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


NEWEST = [
    "checkpoint-000000000600.json",
    "state-000000000600.safetensors",
    "rows-000000000400-000000000600.safetensors",
]


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """A cohort saved at 400 and 600 steps, and its folder."""
    folder = tmp_path_factory.mktemp("original")
    directory, runs = directories(folder, 2)
    trained = trainer(2)
    saved_to(600, trained, directory, runs)
    trained.close()
    return trained, folder


@pytest.fixture
def copied(original, tmp_path):
    shutil.copytree(original[1], tmp_path, dirs_exist_ok=True)
    return directories(tmp_path, 2)


@pytest.mark.thorough
@pytest.mark.parametrize("harm", [cut, flip, Path.unlink], ids=["cut", "one bit", "missing"])
@pytest.mark.parametrize("name", [*NEWEST, "evaluations.csv"])
def test_a_damaged_checkpoint_is_skipped_for_the_previous_one(name, harm, original, copied):
    directory, runs = copied
    expected = [run.path.joinpath("evaluations.csv").read_bytes() for run in runs]
    if name == "evaluations.csv":  # the part of the previous checkpoint must be intact
        path = runs[1].path / name
        kept, last = path.read_bytes()[:-8], path.read_bytes()[-8:]
        path.write_bytes(last)
        harm(path)
        path.write_bytes(kept + (path.read_bytes() if path.exists() else b""))
    else:
        harm(directory.path / name)

    restored = trainer(2)
    problems = directory.restore(restored, runs)
    directory.drop_later(runs)
    assert restored.steps == 400
    if name == NEWEST[0] and harm is Path.unlink:
        assert problems == []  # it looks like one that was never committed
    else:
        assert [name in problem for problem in problems] == [True]
    saved_to(600, restored, directory, runs)
    assert_same(original[0], restored)
    assert [run.path.joinpath("evaluations.csv").read_bytes() for run in runs] == expected
    restored.close()


def test_rows_of_an_unfinished_checkpoint_are_dropped(copied):
    directory, runs = copied
    half = directory.path / "rows-000000000600-000000000800.safetensors"
    half.write_bytes(b"half")
    whole = runs[0].path.joinpath("evaluations.csv").read_bytes()
    with open(runs[0].path / "evaluations.csv", "a", encoding="utf-8") as file:
        file.write("800,0.5\n1000,0")
    (runs[0].path / "episodes.csv").write_text("step,episode\n800,0\n")
    restored = trainer(2)
    directory.restore(restored, runs)
    assert runs[0].path.joinpath("evaluations.csv").read_bytes() != whole  # nothing is dropped yet
    directory.drop_later(runs)
    assert restored.steps == 600
    assert runs[0].path.joinpath("evaluations.csv").read_bytes() == whole
    assert not (runs[0].path / "episodes.csv").exists()
    saved_to(800, restored, directory, runs)
    restored.close()
    assert not half.exists()


def test_without_an_intact_checkpoint_all_damage_is_reported_with_a_fix(copied):
    directory, runs = copied
    assert directory.problems(runs) == []
    flip(directory.path / "rows-000000000000-000000000200.safetensors")  # both need it
    with pytest.raises(InputError, match=r"rows-000000000000-000000000200.*damaged.*--retrain"):
        directory.restore(trainer(2), runs)
    assert len(directory.problems(runs)) == 2
    assert len(runs[0].table("evaluations")) == 4  # checking destroys nothing


@pytest.mark.thorough
def test_two_checkpoints_are_kept_with_the_rows_that_they_need(tmp_path):
    directory, runs = directories(tmp_path, 1)
    trained = trainer(1, replay_capacity=200, pool_episodes=1)  # 200 steps fill the replay and use up a pool
    saved_to(800, trained, directory, runs)
    trained.close()
    assert sorted(path.name for path in directory.path.iterdir()) == [
        "checkpoint-000000000600.json",
        "checkpoint-000000000800.json",
        "rows-000000000400-000000000600.safetensors",
        "rows-000000000600-000000000800.safetensors",
        "state-000000000600.safetensors",
        "state-000000000800.safetensors",
    ]
    directory.drop_replay()
    assert list(directory.path.iterdir()) == []


def test_a_checkpoint_of_another_version_is_refused_with_a_fix(tmp_path, monkeypatch):
    directory, runs = directories(tmp_path, 1)
    original = trainer(1)
    original.train()
    checkpoint = original.checkpoint

    def older():
        tensors, rows, progress = checkpoint()
        return {name: tensor for name, tensor in tensors.items() if "critic" not in name}, rows, progress

    monkeypatch.setattr(original, "checkpoint", older)
    directory.save(original, runs)
    original.close()
    assert directory.problems(runs) == []
    with pytest.raises(InputError, match=r"another version of sac_bench.*--retrain"):
        directory.restore(trainer(1), runs)
    assert "another version of sac_bench" in directory.problems(runs)[0]  # so --retrain starts from the beginning
    directory.clear()
    assert list(directory.path.iterdir()) == []


def test_a_checkpoint_cannot_name_files_outside_its_folder(copied):
    directory, runs = copied
    for path in directory.path.glob("checkpoint-*"):
        commit = read_json(path)
        (state,) = [name for name in commit["files"] if name.startswith("state")]
        commit["files"]["../cohort/" + state] = commit["files"].pop(state)
        write_json(path, commit)
    with pytest.raises(InputError, match="is not the name of a file in this folder"):
        directory.restore(trainer(2), runs)
