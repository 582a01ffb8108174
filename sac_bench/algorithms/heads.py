"""What the outputs of critics say of the return: its expectation, its quantiles, or its probabilities.

[1] arXiv 1710.10044 (quantiles), [2] arXiv 1707.06887 (a categorical distribution), [3] arXiv 2005.04269 (truncation).
One learner: B states, C critics with n outputs each. A distribution of returns has m atoms in each state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from sac_bench.algorithms.protocol import Hyperparameters


@dataclass(frozen=True)
class Head:
    """The structure of the critics' outputs, and how targets pool the critics.

    kind: the outputs are the expectation, quantiles at equal distances, or log-probabilities (up to a constant) of
        atoms at equal distances between v_min and v_max
    atoms: outputs of each critic
    pool: "pointwise": from the mean to the minimum of each output over the critics; "lowest": the outputs of the critic
        with the lowest expectation; "truncated": the outputs of all critics, without the largest
    """

    kind: Literal["scalar", "quantile", "categorical"] = "scalar"
    atoms: int = 1
    pool: Literal["pointwise", "lowest", "truncated"] = "pointwise"


SCALAR = Head()


class Returns(NamedTuple):
    """Returns in B states: values [B] if they are expectations, else values [m, B] with probabilities [m, B]."""

    values: Tensor
    probabilities: Tensor | None = None

    @property
    def mean(self) -> Tensor:
        """The expectations [B]."""
        return self.values if self.probabilities is None else (self.values * self.probabilities).sum(0)


def support(head: Head, hyper: Hyperparameters) -> Tensor:
    """Return the atoms [n] of a categorical head: from v_min to v_max at equal distances ([2])."""
    low, high = hyper["v_min"], hyper["v_max"]
    place = torch.arange(head.atoms, dtype=low.dtype, device=low.device) / (head.atoms - 1)
    return low + place * (high - low)


def expectation(head: Head, outputs: Tensor, hyper: Hyperparameters) -> Tensor:
    """Return Q [C, B] of outputs [C, B, n]."""
    if head.kind == "scalar":
        return outputs.squeeze(-1)
    if head.kind == "quantile":
        return outputs.mean(-1)
    return (outputs.softmax(-1) * support(head, hyper)).sum(-1)


def pooled(q: Tensor, pessimism: Tensor) -> Tensor:
    """Pool Q [C, ...] -> [...], from the mean of the critics (pessimism 0) to their minimum (1; 1812.05905, section 6).

    Of two critics, it is mean - pessimism |Q1 - Q2| / 2 (BRO, arXiv 2405.16158).
    """
    return (1 - pessimism) * q.mean(0) + pessimism * q.amin(0)


def pooled_returns(head: Head, outputs: Tensor, hyper: Hyperparameters) -> Returns:
    """Pool the outputs [C, B, n] of target critics."""
    if head == SCALAR:
        return Returns(pooled(outputs.squeeze(-1), hyper["pessimism"]))
    if head.pool == "truncated":
        return truncated(outputs, hyper["dropped_atoms"])
    if head.pool == "lowest":
        least = expectation(head, outputs, hyper).argmin(0)  # [B]
        chosen = outputs.take_along_dim(least[None, :, None], 0).squeeze(0)
    else:
        chosen = pooled(outputs, hyper["pessimism"])
    if head.kind == "categorical":
        probabilities = chosen.softmax(-1).T
        return Returns(support(head, hyper)[:, None].expand_as(probabilities), probabilities)
    return Returns(chosen.T, torch.full_like(chosen.T, 1 / head.atoms))


def truncated(outputs: Tensor, dropped: Tensor) -> Returns:
    """Return all critics' outputs [C, B, n] in order, without the `dropped` [] largest per critic ([3])."""
    values = outputs.movedim(-1, 1).flatten(0, 1).sort(0).values
    kept = len(values) - dropped * len(outputs)
    rank = torch.arange(len(values), dtype=values.dtype, device=values.device)[:, None]
    return Returns(values, (rank < kept).to(values.dtype).expand_as(values) / kept)


def quantile_loss(quantiles: Tensor, target: Returns, kappa: Tensor) -> Tensor:
    """Return the loss [C, B] of quantiles [C, B, n]: the mean of the Huber quantile loss over them ([1]).

    The loss is linear beyond an error of `kappa` []. [1] sums over the quantiles; [3] and this take the mean.
    """
    assert target.probabilities is not None
    n = quantiles.shape[-1]
    level = (torch.arange(n, dtype=quantiles.dtype, device=quantiles.device)[:, None] + 0.5) / n
    error = target.values.T[:, None] - quantiles[..., None]  # [C, B, n, m]
    size = error.abs()
    huber = torch.where(size <= kappa, 0.5 * error**2 / kappa, size - 0.5 * kappa)
    weight = (level - (error.detach() < 0).to(error.dtype)).abs()
    return (weight * huber * target.probabilities.T[:, None]).sum(-1).mean(-1)


def projected(target: Returns, atoms: Tensor) -> Tensor:
    """Return the probabilities [B, n] of atoms [n], at equal distances, with the target's expectation ([2]).

    Each value divides its probability between its two neighbours. Values beyond the atoms move to the last.
    """
    assert target.probabilities is not None
    distance = atoms[1] - atoms[0]
    values = target.values.T.clamp(atoms[0], atoms[-1])  # [B, m]
    share = (1 - (values[:, :, None] - atoms).abs() / distance).clamp(0, 1)  # [B, m, n]
    return (target.probabilities.T[:, :, None] * share).sum(1)


def categorical_loss(logits: Tensor, target: Returns, atoms: Tensor) -> Tensor:
    """Return the cross-entropy [C, B] of logits [C, B, n] with the projected target."""
    return -(projected(target, atoms) * logits.log_softmax(-1)).sum(-1)
