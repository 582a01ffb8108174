"""Names of tensors in files."""

import pytest
import torch

from sac_bench.algorithms.networks import Layer
from sac_bench.algorithms.pytree import named_tensors, with_tensors
from sac_bench.errors import InputError

TREE = {
    "actor": (Layer(torch.zeros(2, 3), torch.zeros(3)), Layer(torch.ones(3, 1), torch.ones(1))),
    "count": torch.tensor(4),
}


def test_names_are_paths_and_restore_the_tree():
    names = named_tensors(TREE)
    assert list(names) == ["actor/0/weight", "actor/0/bias", "actor/1/weight", "actor/1/bias", "count"]
    moved = with_tensors(TREE, {name: tensor + 1 for name, tensor in names.items()})
    assert isinstance(moved["actor"][1], Layer)
    assert torch.equal(moved["actor"][1].bias, torch.tensor([2.0]))
    assert int(moved["count"]) == 5


@pytest.mark.parametrize(
    "saved", [{"actor": torch.zeros(10)}, named_tensors(TREE) | {"actor/0/weight": torch.zeros(2)}]
)
def test_files_of_another_version_are_refused_with_the_missing_name(saved):
    with pytest.raises(InputError, match=r"another version of sac_bench: actor/0/weight"):
        with_tensors(TREE, saved)
