"""Loaded policies act as their runs did, and damaged files are refused."""

import numpy as np
import pytest
import torch
from safetensors.torch import save

from sac_bench import load_policy
from sac_bench.algorithms.pytree import named_tensors
from sac_bench.errors import InputError
from sac_bench.spec.run import RunSpec
from sac_bench.store.atomic import write_json
from sac_bench.store.run import RunDirectory
from tests.conftest import tiny
from tests.training.members import cohort, train


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


@pytest.mark.parametrize(
    "structure",
    [
        {},
        {"mixture": 3, "normalize_observations": True},
        {"state_dependent_std": False, "layer_norm": "all", "log_std_form": "tanh"},
        {"dropout": True, "critics": 3, "target_critics": 2, "target_policy": True},
    ],
)
def test_a_loaded_policy_acts_like_its_run(structure, tmp_path):
    config, dims = tiny(**structure), (3, 1)
    made = train(cohort([config] * 2, [0, 1], dims=dims), config, 5, dims=dims)
    run = RunDirectory(tmp_path / "runs" / ("0" * 16))
    write_json(run.path / "spec.json", RunSpec("sac", config, "Pendulum-v1", 1).as_dict())
    saved = named_tensors(made.learner.policy(made.state))
    run.policy.write_bytes(save({name: leaf[1].contiguous() for name, leaf in saved.items()}, {"steps": "400"}))
    run.end("finished", steps=400)
    loaded, (d, _) = load_policy(run.id, tmp_path), dims
    observation = 3 * np.random.default_rng(0).standard_normal((7, d)).astype(np.float32)
    noise = np.random.default_rng(1).standard_normal((7, made.learner.noise_dim))
    both = [torch.as_tensor(x).float().expand(2, *x.shape) for x in (observation, noise)]
    for sample, expected in zip((True, False), made.act(*both), strict=True):
        found = loaded.act(observation, sample, np.random.default_rng(1))
        np.testing.assert_allclose(found, 2 * expected[1], rtol=0, atol=1e-6)  # Pendulum's actions are in [-2, 2]

    loaded.to_torchscript(tmp_path / "policy.pt")
    exported = torch.jit.load(tmp_path / "policy.pt")
    for many in (1, 7):  # it was traced with 2
        expected = loaded.act(observation[:many])
        np.testing.assert_allclose(exported(torch.as_tensor(observation[:many])), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["../../etc", "0" * 15 + "1", ""])
def test_an_unknown_run_is_refused(run, tmp_path, name):
    with pytest.raises(InputError, match="no policy of run"):
        load_policy(name, tmp_path)
