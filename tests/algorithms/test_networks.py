"""The squashed Gaussian's density, and networks layer by layer."""

import math

import numpy as np
import torch

from sac_bench.algorithms.networks import init_mlp, mlp, squashed_gaussian
from sac_bench.training.random import uniform


def draw(name, shape):
    return uniform(0, name, shape, torch.float64)


def test_squashed_gaussian_density_integrates_to_one():
    mean, log_std = torch.tensor([0.7], dtype=torch.float64), torch.tensor([-0.4], dtype=torch.float64)
    u = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    noise = ((u - mean) / log_std.exp()).unsqueeze(-1)
    action, log_pi = squashed_gaussian(mean, log_std, noise)
    density, a = log_pi.exp().numpy(), action.squeeze(-1).numpy()
    inside = np.abs(a) < 1 - 1e-9
    assert math.isclose(np.trapezoid(density[inside], a[inside]), 1.0, abs_tol=1e-4)


def test_squashed_gaussian_agrees_with_torch_distributions():
    torch.manual_seed(0)
    mean, log_std = torch.randn(32, 3, dtype=torch.float64), torch.randn(32, 3, dtype=torch.float64) * 0.3
    noise = torch.randn(32, 3, dtype=torch.float64)
    action, log_pi = squashed_gaussian(mean, log_std, noise)
    normal = torch.distributions.Normal(mean, log_std.exp())
    squashed = torch.distributions.TransformedDistribution(normal, torch.distributions.TanhTransform())
    torch.testing.assert_close(log_pi, squashed.log_prob(action).sum(-1), rtol=1e-7, atol=1e-7)


def test_log_density_is_finite_far_in_the_tails():
    far = torch.tensor([[40.0], [-40.0]])
    action, log_pi = squashed_gaussian(far, torch.zeros(2, 1), torch.zeros(2, 1))
    assert log_pi.isfinite().all()
    assert (action.abs() <= 1).all()


def test_initialisation_uses_the_fan_in_of_its_layer():
    sizes = (7, 50, 30, 2)
    for (weight, bias), fan_in in zip(init_mlp(draw, "net", sizes), sizes, strict=False):
        bound = 1 / math.sqrt(fan_in)
        assert 0.8 * bound < weight.abs().max() <= bound
        assert bias.abs().max() <= bound


def test_mlp_equals_torchs_for_every_critic_of_an_ensemble():
    sizes = (5, 8, 8, 1)
    ensemble = init_mlp(draw, "critic", sizes, ensemble=3)
    x = torch.randn(6, 5, dtype=torch.float64)
    out = mlp(ensemble, x, "relu")
    assert out.shape == (3, 6, 1)
    for i in range(3):
        y = x
        for j, (weight, bias) in enumerate(ensemble):
            y = torch.nn.functional.linear(y.relu() if j else y, weight[i].T, bias[i])
        torch.testing.assert_close(out[i], y)
