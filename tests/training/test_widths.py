"""A run's bytes do not depend on its cohort's width, its position or its neighbours, at any size."""

import pytest
import torch
from torch.utils._pytree import tree_leaves

from sac_bench.algorithms.networks import ACTIVATIONS, Layer, log_slope, mlp, product
from sac_bench.training.inductor import compiled
from tests.training.widths import CASES, OTHERS, differing, trained


def found(case, widths, updates, compiled):
    algorithm, env, options = case
    return {width: trained(algorithm, env, options, width, updates, compiled) for width in widths}


@pytest.mark.thorough
@pytest.mark.parametrize("case", [CASES["odd"], *OTHERS.values()], ids=["odd", *OTHERS])
def test_eager_width_changes_no_byte(case, as_workers):
    assert differing(found(case, (1, 2, 5), 20, compiled=False)) == {}


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["2x64", "one critic", "a2c", "trpo"])
def test_compiled_width_changes_no_byte(name, as_workers):
    """Other cases, widths and more updates: make soak."""
    assert differing(found((CASES | OTHERS)[name], (1, 5), 60, compiled=True)) == {}


@pytest.mark.thorough
def test_compiled_gradient_of_one_output_does_not_depend_on_the_width(as_workers):
    """The gradient of the output's weights sums over the batch, that of the units does not."""

    def squared_error(network, x, target):
        return ((mlp(network, x, "relu").squeeze(-1) - target) ** 2).mean()

    draw, units, rows = torch.Generator().manual_seed(0), 64, 64
    shapes = [(units, units), (units,), (units, 1), (1,), (rows, units), (rows,)]
    tensors = [torch.randn(3, *shape, generator=draw) for shape in shapes]

    def gradient(width):
        torch.compiler.reset()
        *layers, x, target = (tensor[:width].clone() for tensor in tensors)
        network = Layer(*layers[:2]), Layer(*layers[2:])
        of_all = torch.func.vmap(torch.func.grad(squared_error))
        return tree_leaves(compiled(of_all, torch.device("cpu"))(network, x, target))

    for two, three in zip(gradient(2), gradient(3), strict=True):
        assert torch.equal(two, three[:2])


def test_products_do_not_depend_on_their_number_or_position(as_workers):
    draw = torch.Generator().manual_seed(0)
    for rows, inner, columns in [
        (64, 64, 1),
        (100, 24, 1),
        (8, 3, 8),
        (1, 64, 12),
        (1, 348, 256),
        (64, 23, 64),
        (5, 256, 17),
    ]:
        x, weight = torch.randn(rows, inner, generator=draw), torch.randn(inner, columns, generator=draw)
        alone = product(x, weight)
        for many in (1, 2, 3, 21):
            each = product(x.expand(many, -1, -1).contiguous(), weight.expand(many, -1, -1).contiguous())
            assert all(torch.equal(one, each[0]) for one in each), (rows, inner, columns, many)
            assert torch.equal(each[0], alone), (rows, inner, columns, many)
        torch.testing.assert_close(alone, x @ weight, rtol=1e-5, atol=1e-5)


REFERENCE = {
    "relu": torch.nn.functional.relu,
    "tanh": torch.tanh,
    "elu": torch.nn.functional.elu,
    "silu": torch.nn.functional.silu,
    "gelu": torch.nn.functional.gelu,
    "log_slope": lambda u: torch.log1p(-(torch.tanh(u) ** 2)),
}


@pytest.mark.parametrize("name", REFERENCE)
def test_elementwise_functions_equal_torchs_and_do_not_depend_on_position(name):
    function = ACTIVATIONS.get(name, log_slope)
    x = torch.cat([torch.linspace(-9, 9, 4000), torch.zeros(1)]).requires_grad_()
    (whole,) = torch.autograd.grad(function(x).sum(), x)
    pieces = torch.cat([torch.autograd.grad(function(part).sum(), part)[0] for part in x.split(7)])
    assert torch.equal(torch.cat([function(part) for part in x.split(7)]), function(x))
    assert torch.equal(pieces, whole)
    exact = x.detach().double().requires_grad_()
    (slope,) = torch.autograd.grad(REFERENCE[name](exact).sum(), exact)
    near = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(function(x).double(), REFERENCE[name](exact), **near)
    torch.testing.assert_close(whole.double(), slope, **near)
    far = torch.tensor([-500.0, 500.0], requires_grad=True)
    assert torch.autograd.grad(function(far).sum(), far)[0].isfinite().all()
