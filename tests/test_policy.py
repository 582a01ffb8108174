"""Policies from files that are not what was written."""

import pytest
from safetensors.torch import save

from sac_bench import load_policy
from sac_bench.errors import InputError
from sac_bench.files import write_json
from sac_bench.runspec import RunSpec
from sac_bench.store import RunDirectory
from tests.conftest import tiny


@pytest.fixture
def run(tmp_path):
    run = RunDirectory(tmp_path / "runs" / ("0" * 16))
    write_json(run.path / "spec.json", RunSpec("sac", tiny(), "Pendulum-v1", 0).as_dict())
    run.policy.write_bytes(save({}, metadata={"steps": "400"}))
    run.end("finished", steps=400)
    return run


def test_a_damaged_policy_is_refused(run, tmp_path):
    whole = run.policy.read_bytes()
    run.policy.write_bytes(whole[:-1])
    assert "policy.safetensors: damaged: cut" in run.status()["reason"]
    with pytest.raises(InputError, match=r"policy\.safetensors: damaged: cut"):
        load_policy(run.id, tmp_path)
    run.update(status="started")  # no fingerprint yet
    with pytest.raises(InputError, match=r"policy\.safetensors: damaged"):
        load_policy(run.id, tmp_path)
    run.policy.write_bytes(whole)
    with pytest.raises(InputError, match="another version of sac_bench"):
        load_policy(run.id, tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "0" * 15 + "1", ""])
def test_an_unknown_run_is_told(run, tmp_path, name):
    with pytest.raises(InputError, match="no policy of run"):
        load_policy(name, tmp_path)
