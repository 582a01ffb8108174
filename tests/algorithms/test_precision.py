"""bfloat16 is used only for the hidden products of an update."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms.hyperparameters import hyperparameters_of
from sac_bench.algorithms.networks import init_mlp, mlp
from sac_bench.algorithms.sac import SACConfig, learner
from sac_bench.training.random import uniform
from tests.training.members import batch

DIMS = (5, 2)


def draw(name, shape):
    return uniform(0, name, shape, torch.float32)


@pytest.mark.parametrize("ensemble", [None, 3])
def test_bfloat16_products_round_the_hidden_layers_only(ensemble):
    network = init_mlp(draw, "net", (5, 64, 64, 2), ensemble)
    x = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
    exact, rounded = mlp(network, x, "relu"), mlp(network, x, "relu", "bfloat16")
    assert rounded.dtype == torch.float32
    error = (rounded - exact).abs().max() / exact.abs().max()
    assert 1e-4 < error < 2**-6
    # A single layer is the last one: neither its inputs nor its weights are rounded.
    last = tuple(network[-1:])
    assert torch.equal(mlp(last, torch.ones(4, 64), "relu", "bfloat16"), mlp(last, torch.ones(4, 64), "relu"))


def test_bfloat16_state_and_metrics_are_float32_and_near_those_of_float32():
    states, metrics = {}, {}
    for precision in ("float32", "bfloat16"):
        config = SACConfig(layers=(64, 64), batch_size=64, precision=precision)
        made = learner(config, *DIMS)
        hyper = hyperparameters_of(config)
        state = made.init(draw, hyper)
        for update in range(5):
            generator = torch.Generator().manual_seed(update)
            noise = {name: torch.randn(shape, generator=generator) for name, shape in made.update_noise.items()}
            state, metrics[precision] = made.update(state, hyper, batch(config, DIMS, 0, update), noise)
        states[precision] = state
        assert {leaf.dtype for leaf in tree_leaves((state["params"], state["target"], state["adam"]))} == {
            torch.float32
        }
    for name, value in metrics["float32"].items():
        torch.testing.assert_close(metrics["bfloat16"][name], value, rtol=0.02, atol=0.02)
    moved = [
        (ours - theirs).abs().max()
        for ours, theirs in zip(
            tree_leaves(states["bfloat16"]["params"]), tree_leaves(states["float32"]["params"]), strict=True
        )
    ]
    assert max(moved) > 0  # Adam bounds it; experiments/precision.toml measures the effect of rounding


def test_bfloat16_runs_act_in_float32():
    acts = [learner(SACConfig(precision=precision), *DIMS) for precision in ("float32", "bfloat16")]
    hyper = hyperparameters_of(SACConfig())
    params = acts[0].init(draw, hyper)["params"]
    observation, noise = torch.randn(7, DIMS[0]), torch.randn(7, DIMS[1])
    one, other = (made.act(params, hyper, observation, noise) for made in acts)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(one, other, strict=True))
