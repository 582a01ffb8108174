"""Loaded policies act as their runs did, and damaged files are refused."""

import sys
from dataclasses import replace

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save

from sac_bench import load_policy
from sac_bench.algorithms import ALGORITHMS
from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.algorithms.pytree import named_tensors, with_tensors
from sac_bench.errors import InputError
from sac_bench.evaluation.policy import Policy
from sac_bench.spec.presets import presets
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
    for many in (1, 7):  # it was traced with thousands
        expected = loaded.act(observation[:many])
        np.testing.assert_allclose(exported(torch.as_tensor(observation[:many])), expected, rtol=0, atol=1e-5)


def made_up(algorithm, **options):
    """A policy for Pendulum with random numbers in all its tensors; what is a variance is positive."""
    config = tiny(algorithm, **options)
    learner, generator = ALGORITHMS[algorithm].learner(config, 3, 1), torch.Generator().manual_seed(0)

    def drawn(name, leaf):
        uniform = torch.rand(leaf.shape, generator=generator)
        return (uniform + 0.1 if "var" in name else uniform - 0.5).to(leaf.dtype)

    policy = learner.policy(learner.shape_of_state(hyperparameters_of(config)))
    tensors = {name: drawn(name, leaf) for name, leaf in named_tensors(policy).items()}
    return Policy(RunSpec(algorithm, config, "Pendulum-v1", 0), with_tensors(policy, tensors), 1)


BODIES = sorted({body for preset in presets().values() if (body := preset.options.get("body"))})


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("algorithm", "options"),
    [
        *((algorithm, {}) for algorithm in ALGORITHMS),
        ("sac", {"mixture": 3, "normalize_observations": True}),
        ("sac", {"state_dependent_std": False, "layer_norm": "all", "log_std_form": "tanh"}),
        ("sac", {"precision": "bfloat16", "layers": [8, 8]}),
        ("ppo", {"normalize_observations": True, "precision": "float64"}),
        *(("sac", {"activation": activation}) for activation in ("tanh", "elu", "silu", "gelu")),
        *(("sac", {"body": body, "layers": [8, 8]}) for body in BODIES),
    ],
)
def test_an_onnx_file_acts_like_its_policy(algorithm, options, tmp_path):
    policy, path = made_up(algorithm, **options), tmp_path / "policy.onnx"
    policy.to_onnx(path)
    assert b".py" not in path.read_bytes(), "paths of this machine"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    observation = 3 * np.random.default_rng(0).standard_normal((5000, 3)).astype(np.float32)
    for many in (1, 2, 7, 5000):
        (action,) = session.run(["action"], {"observation": observation[:many]})
        expected = policy.act(observation[:many])
        assert action.dtype == expected.dtype
        np.testing.assert_allclose(action, expected, rtol=0, atol=2e-5)
    assert np.ptp(expected) > 0.1  # it acts by what it observes


def test_an_export_without_its_package_is_refused(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(InputError, match=r"to_onnx requires the package onnxscript: pip install 'sac_bench\[onnx\]'"):
        made_up("sac").to_onnx(tmp_path / "policy.onnx")


@pytest.mark.thorough
def test_a_policy_with_branches_is_not_exported_as_one_branch(tmp_path, capfd):
    policy = made_up("td3")
    act = policy._learner.act

    def branching(acting, hyper, observation, noise):
        sampled, mean = act(acting, hyper, observation, noise)
        return (sampled, mean) if observation.sum() > 0 else (-sampled, -mean)

    policy._learner = replace(policy._learner, act=branching)
    with pytest.raises(InputError, match=r"policy\.onnx: the policy cannot be exported to ONNX: "):
        policy.to_onnx(tmp_path / "policy.onnx")
    assert not (tmp_path / "policy.onnx").exists()
    assert len("".join(capfd.readouterr())) < 300, "torch prints graphs"


@pytest.mark.parametrize("name", ["0" * 15 + "1", "0", ""])
def test_an_unknown_run_is_refused(run, tmp_path, name):
    with pytest.raises(InputError, match=f"no policy of run {name!r}"):
        load_policy(name, tmp_path)


@pytest.mark.parametrize("name", ["../../etc", "pendulum", "pendulum/sac"])
def test_an_unknown_experiment_is_refused(run, tmp_path, name):
    with pytest.raises(InputError, match=f"no results of {name.partition('/')[0]!r}"):
        load_policy(name, tmp_path)
