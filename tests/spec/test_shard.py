"""Shares of runs by id."""

import pytest

from sac_bench.errors import InputError
from sac_bench.spec.experiment import ExperimentGroup
from sac_bench.spec.load import load
from sac_bench.spec.shard import Shard
from tests.conftest import small


@pytest.fixture
def group(experiment_file):
    return ExperimentGroup((load(experiment_file, seeds=20),))


def shares(group, count):
    every = {spec.id for _, spec in group.runs()}
    return every, [every - Shard(number, count).left_out(group) for number in range(1, count + 1)]


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_run_is_in_exactly_one_share(count, group):
    every, own = shares(group, count)
    assert sum(map(len, own)) == len(every)
    assert set().union(*own) == every


def test_a_run_stays_in_its_share_when_others_are_added(group, experiment_file):
    fewer = ExperimentGroup((load(experiment_file, seeds=5, variants=["v-network"]),))
    _, own = shares(group, 3)
    _, few = shares(fewer, 3)
    assert all(now <= later for now, later in zip(few, own, strict=True))
    assert any(few)


def test_a_run_is_in_the_same_share_as_the_run_it_starts_from(tmp_path):
    path = tmp_path / "warm.toml"
    start = '[variants.sac]\n[variants.warm]\nstart = { variant = "sac", env = "InvertedPendulum-v5" }\n'
    path.write_text(small("warm", seeds=12) + start)
    experiment = load(path)
    group = ExperimentGroup((experiment,))
    _, own = shares(group, 4)
    for variant, spec in group.runs():
        if spec.start:
            assert sum({spec.id, spec.start.run} <= share for share in own) == 1, variant.name
    only_children = ExperimentGroup((load(path, variants=["warm"]),))
    assert shares(only_children, 4)[1] == [
        share & {spec.id for _, spec in only_children.runs()} for share in own
    ]  # its parents are not requested, but follow it


@pytest.mark.parametrize("text", ["", "3", "0/2", "3/2", "1/0", "-1/2", "1/2/3", "a/b", "1.5/2", "1/10001"])
def test_an_invalid_share_is_refused(text):
    with pytest.raises(InputError, match=r"--shard .*: must be i/n"):
        Shard.parse(text)


def test_a_range_of_seeds_cannot_be_split_into_shares(experiment_file):
    with pytest.raises(InputError, match="tiny chooses seeds by the results of all shares, and no share has them all"):
        Shard.parse("1/2").check(load(experiment_file, seeds="5..30"))
    Shard.parse(" 2/2 ").check(load(experiment_file))
