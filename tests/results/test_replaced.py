"""A command with --set does not replace results that have other settings, unless another name is given."""

import pytest

import sac_bench
from sac_bench.errors import InputError
from sac_bench.results.collect import list_runs
from sac_bench.results.replaced import check_not_replaced
from sac_bench.spec.load import load
from sac_bench.store.store import Store


def test_other_settings_require_another_name(experiment_file, tmp_path):
    store = Store(tmp_path / "results")
    plain, other = load(experiment_file), load(experiment_file, settings=["gamma=0.9"])
    check_not_replaced(other, store)  # nothing is there yet
    list_runs(store, plain, "sac-bench run tiny.toml")
    check_not_replaced(plain, store)
    check_not_replaced(load(experiment_file, settings=["gamma=0.99"]), store)  # the default
    words = r"tiny: has results with gamma = 0.99 \(sac\), which --set would replace; add --name NEW .* --name tiny to"
    with pytest.raises(InputError, match=words):
        check_not_replaced(other, store)
    with pytest.raises(InputError, match=words):
        sac_bench.run(experiment_file, settings="gamma=0.9", results=store.root)
    list_runs(store, other, "sac-bench run tiny.toml --set gamma=0.9")
    check_not_replaced(other, store)  # the same command continues


def test_fixed_seeds_do_not_replace_verdicts_within_a_range(experiment_file, tmp_path):
    store = Store(tmp_path / "results")
    list_runs(store, load(experiment_file, seeds="5..8"), "sac-bench run tiny.toml --seeds 5..8")
    check_not_replaced(load(experiment_file, seeds="5..12"), store)
    with pytest.raises(InputError, match=r"tiny: has verdicts within the range of seeds 5\.\.8; .* --name tiny to"):
        check_not_replaced(load(experiment_file, seeds=6), store)
    list_runs(store, load(experiment_file, seeds=6), "sac-bench run tiny.toml --seeds 6 --name tiny")
    check_not_replaced(load(experiment_file, seeds="5..8"), store)  # a range has 5% of its own


@pytest.mark.thorough
def test_the_command_requires_another_name_and_accepts_it(command, experiment_file, tmp_path):
    list_runs(Store(tmp_path / "results"), load(experiment_file), "sac-bench run tiny.toml")
    arguments = ["run", experiment_file, "--dry-run", "--set", "layers=16,16"]
    refused = command(*arguments)
    assert refused.returncode == 2
    assert "has results with layers = [8] (sac)" in refused.stderr
    assert command(*arguments, "--name", "wide").returncode == 0
    assert command(*arguments, "--name", "tiny").returncode == 0
