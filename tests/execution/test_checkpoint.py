"""Checkpoints through their files, for every shape of a cohort."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.errors import InputError
from sac_bench.execution.checkpoint import CohortDirectory
from sac_bench.experiment import RunSpec
from sac_bench.training.trainer import Trainer
from tests.conftest import tiny


def trainer(members, num_envs):
    config = tiny(num_envs=num_envs, eval_every=200)
    return Trainer([RunSpec("sac", config, "Pendulum-v1", seed) for seed in range(members)], 800, compiled=False)


@pytest.mark.parametrize(("members", "num_envs"), [(1, 1), (2, 1), (1, 2), (2, 2)])
def test_a_checkpoint_is_where_it_was_saved_whatever_came_after(members, num_envs, tmp_path):
    directory, original = CohortDirectory(tmp_path), trainer(members, num_envs)
    while original.steps < 400:
        original.train()
    directory.save(original)
    restored = trainer(members, num_envs)
    directory.restore(restored)
    assert restored.steps == 400
    for trained in (original, restored):
        trained.train()
        trained.close()
    for ours, theirs in zip(tree_leaves(original.cohort.state), tree_leaves(restored.cohort.state), strict=True):
        assert torch.equal(ours, theirs)
    assert torch.equal(original.replay.newest, restored.replay.newest)


def test_what_a_checkpoint_holds_does_not_change_as_training_goes_on():
    trained = trainer(2, 1)
    while trained.steps < 400:
        trained.train()
    tensors, _, _ = trained.checkpoint()
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    trained.train()
    trained.close()
    assert not torch.equal(tensors["params/actor/0/weight"], trained.cohort.state["params"]["actor"][0].weight)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors.items())


def test_a_checkpoint_of_another_version_is_refused_with_the_way_out(tmp_path, monkeypatch):
    directory, original = CohortDirectory(tmp_path), trainer(1, 1)
    original.train()
    checkpoint = original.checkpoint

    def older():
        tensors, rows, progress = checkpoint()
        return {name: tensor for name, tensor in tensors.items() if "critic" not in name}, rows, progress

    monkeypatch.setattr(original, "checkpoint", older)
    directory.save(original)
    original.close()
    with pytest.raises(InputError, match=r"another version of sac_bench.*--retrain"):
        directory.restore(trainer(1, 1))
