"""Adam row by row against torch's."""

import torch

from sac_bench.algorithms.adam import adam, adam_init


def test_per_member_adam_equals_torchs_row_by_row():
    torch.manual_seed(0)
    rates = torch.tensor([1e-4, 3e-3, 0.1], dtype=torch.float64)
    params = torch.randn(3, 5, dtype=torch.float64)
    rows = [torch.nn.Parameter(row.clone()) for row in params]
    optimizers = [torch.optim.Adam([row], lr=float(rate)) for row, rate in zip(rows, rates, strict=True)]
    state = torch.func.vmap(adam_init)(params)
    for _ in range(50):
        gradient = torch.randn(3, 5, dtype=torch.float64)
        params, state = torch.func.vmap(adam)(params, gradient, state, rates)
        for row, optimizer, g in zip(rows, optimizers, gradient, strict=True):
            row.grad = g.clone()
            optimizer.step()
    torch.testing.assert_close(params, torch.stack([row.detach() for row in rows]), rtol=0, atol=1e-12)
