"""The files in examples/, which users copy."""

import shutil
from pathlib import Path

import pytest

import sac_bench
from sac_bench.spec.load import load
from tests.conftest import small

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_the_example_of_a_claim_can_be_loaded():
    experiment = load(EXAMPLES / "own_claim.toml")
    assert experiment.claim is not None
    assert experiment.claim.refuted_by
    assert list(experiment.variants) == ["sac", "fixed"]


@pytest.mark.thorough
def test_the_examples_of_an_environment_and_an_algorithm_train(command, tmp_path):
    for name in ("own_environment.py", "own_algorithm.py"):
        shutil.copy(EXAMPLES / name, tmp_path)
    own = small("own", "gymnasium:Reach-v0", seeds=1, utd=0.1) + '[variants.mine]\nalgorithm = "dpg"\n'
    (tmp_path / "own.toml").write_text('algorithm = "sac"\n' + own + "[variants.sac]\n")
    imports = ("--import", "own_environment", "--import", "own_algorithm")
    ran = command("run", "own.toml", *imports, "--device", "cpu", "--workers", "1")
    assert ran.returncode == 0, ran.stderr + ran.stdout
    runs = sac_bench.load_results("own", tmp_path / "results").runs
    assert {one: set(rows["status"]) for one, rows in runs.groupby("algorithm")} == {
        "dpg": {"finished"},
        "sac": {"finished"},
    }
