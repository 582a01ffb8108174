"""How many workers fit on machines."""

import pytest

from sac_bench.errors import InputError
from sac_bench.execution.cluster import MIN_WORKER_BYTES, Need, Node, choose_device, need_on

GB = 1e9


def places(device, *nodes):
    return [need_on(device, nodes).places(node) for node in nodes]


def test_equal_machines_have_a_worker_per_cpu_with_an_equal_share_of_memory():
    nodes = [Node(8.0, 0.0, 64 * GB)] * 2
    assert need_on("cpu", nodes) == Need("cpu", 1, 8 * GB)
    assert places("cpu", *nodes) == [8, 8]
    assert places("cpu", Node(2.5, 0.0, 8 * GB)) == [2]


def test_a_worker_fits_on_one_machine_and_is_not_sized_by_their_sum():
    """Two machines with 3 GB each have no room for a worker of 4 GB."""
    need = Need("cpu", 1, 4 * GB)
    assert [need.places(Node(4.0, 0.0, memory * GB)) for memory in (3, 4, 7.9, 8, 100)] == [0, 1, 1, 2, 4]


def test_a_machine_with_little_memory_limits_only_itself():
    assert places("cpu", Node(8.0, 0.0, 64 * GB), Node(1.0, 0.0, 2 * GB)) == [8, 0]
    assert places("cpu", Node(4.0, 0.0, 64 * GB), Node(4.0, 0.0, 32 * GB)) == [4, 4]


def test_no_worker_is_planned_with_too_little_memory_to_start():
    nodes = [Node(4.0, 0.0, 2 * MIN_WORKER_BYTES)]
    assert need_on("cpu", nodes).memory == MIN_WORKER_BYTES
    assert places("cpu", *nodes) == [2]
    assert places("cpu", Node(4.0, 0.0, MIN_WORKER_BYTES / 2)) == [0]
    assert places("cpu", Node(0.0, 0.0, 64 * GB)) == [0]
    assert places("cpu") == []


def test_a_worker_on_a_gpu_has_its_share_of_the_cpus():
    nodes = [Node(32.0, 8.0, 256 * GB), Node(16.0, 1.0, 64 * GB), Node(8.0, 0.0, 64 * GB)]
    assert need_on("cuda", nodes).cpus == 4
    assert places("cuda", *nodes) == [8, 1, 0]
    assert places("cuda", Node(2.0, 4.0, 64 * GB)) == [2]
    assert places("cuda", Node(8.0, 4.0, 2.5 * GB)) == [2]
    assert places("cuda", Node(0.5, 1.0, 64 * GB)) == [0]


def test_gpus_are_chosen_where_a_worker_fits_beside_one():
    with_gpu, without = Node(4.0, 1.0, 64 * GB), Node(4.0, 0.0, 64 * GB)
    assert choose_device("auto", [without, with_gpu]) == "cuda"
    assert choose_device("auto", [without, Node(0.0, 1.0, 64 * GB)]) == "cpu"
    assert choose_device("cpu", [with_gpu]) == "cpu"
    with pytest.raises(InputError, match="--device tpu: must be auto, cpu or cuda"):
        choose_device("tpu", [with_gpu])
