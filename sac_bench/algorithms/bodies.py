"""Hidden layers of the networks of SAC's successors: normalisation, residual blocks and unit spheres.

A body is a sequence of operations, given as data. A network is a tuple with the parameters of each operation and, last,
those of the linear output layer. Everything here is written for one learner; in an ensemble of C networks, parameters
and statistics have a leading axis of C. Plain networks are in `networks`.

[1] arXiv 1902.05605 (CrossQ), [2] arXiv 2509.25174 (XQC), [3] arXiv 2410.09754 (SimBa), [4] arXiv 2405.16158 (BRO),
[5] arXiv 2502.15280 (SimbaV2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sac_bench.algorithms.batch_norm import Norm, Statistics, Training, normalised
from sac_bench.algorithms.networks import ACTIVATIONS, INITIALISATIONS, Draw, Layer, Sizes, product

Kind = Literal[
    "linear", "activation", "layer-norm", "rms-norm", "batch-norm", "unit", "shift", "scaler", "residual", "lerp"
]


@dataclass(frozen=True)
class Operation:
    """One operation of a body.

    widen: the units of a linear layer, in multiples of the block's width
    bias: whether a linear layer has biases
    initial, scale: of a scaler, the initial factor and that of its parameter, in multiples of 1 / sqrt(width) if `root`
    inner: the operations inside a residual connection
    """

    kind: Kind
    widen: int = 1
    bias: bool = True
    initial: float = 1.0
    scale: float = 1.0
    root: bool = False
    inner: tuple[Operation, ...] = ()


@dataclass(frozen=True)
class Body:
    """The operations before the hidden layers, of each hidden layer (a block), and before the output layer."""

    block: tuple[Operation, ...]
    first: tuple[Operation, ...] = ()
    last: tuple[Operation, ...] = ()

    @property
    def has_statistics(self) -> bool:
        """Whether batches are normalised, so that the network has running statistics."""
        return any(op.kind == "batch-norm" for op in _flat(self.first + self.block + self.last))

    @property
    def keeps_width(self) -> bool:
        """Whether all hidden layers must have the same number of units."""
        return any(op.inner for op in self.block)


def _flat(operations: tuple[Operation, ...]) -> list[Operation]:
    return [one for op in operations for one in (op, *_flat(op.inner))]


LINEAR, WIDE = Operation("linear"), Operation("linear", widen=4)
FREE, WIDE_FREE = Operation("linear", bias=False), Operation("linear", widen=4, bias=False)
ACTIVATION = Operation("activation")
BATCH_NORM, LAYER_NORM, RMS_NORM = Operation("batch-norm"), Operation("layer-norm"), Operation("rms-norm")
SHIFT, UNIT = Operation("shift"), Operation("unit")
SCALER = Operation("scaler", initial=math.sqrt(2), scale=math.sqrt(2), root=True)
INNER_SCALER = Operation("scaler", initial=math.sqrt(2 / 4), scale=math.sqrt(2 / 4), root=True)
OUTER_SCALER = Operation("scaler")

BODIES: dict[str, Body] = {
    "batch-norm-after": Body(first=(BATCH_NORM,), block=(LINEAR, ACTIVATION, BATCH_NORM)),  # [1]
    "batch-norm-before": Body(first=(BATCH_NORM,), block=(FREE, BATCH_NORM, ACTIVATION)),  # [2]
    "batch-norm-residual": Body(  # FlashSAC
        first=(BATCH_NORM, FREE),
        block=(Operation("residual", inner=(WIDE_FREE, BATCH_NORM, ACTIVATION, FREE, BATCH_NORM, ACTIVATION)),),
        last=(RMS_NORM,),
    ),
    "pre-norm-residual": Body(  # [3]
        first=(LINEAR,),
        block=(Operation("residual", inner=(LAYER_NORM, WIDE, ACTIVATION, LINEAR)),),
        last=(LAYER_NORM,),
    ),
    "post-norm-residual": Body(  # [4]
        first=(LINEAR, LAYER_NORM, ACTIVATION),
        block=(Operation("residual", inner=(LINEAR, LAYER_NORM, ACTIVATION, LINEAR, LAYER_NORM)),),
    ),
    "sphere": Body(  # [5]
        first=(SHIFT, UNIT, FREE, SCALER, UNIT),
        block=(Operation("lerp", inner=(WIDE_FREE, INNER_SCALER, ACTIVATION, FREE, UNIT)), UNIT),
        last=(FREE, OUTER_SCALER),
    ),
}

C_SHIFT = 3.0
"""The constant that is appended to the input before it is scaled to norm 1 ([5]: c_shift)."""
UNIT_EPSILON = 1e-8


class Weight(NamedTuple):
    """A linear layer without biases: weight [in, out]."""

    weight: Tensor


class Gain(NamedTuple):
    """The gain [units] of a normalisation by the root mean square."""

    gain: Tensor


@dataclass(frozen=True)
class Built:
    """A network with its body and running statistics, which normalise unless `training` is given."""

    body: Body
    parameters: Any
    statistics: Any
    training: Training | None = None


def init_body(
    draw: Draw, name: str, body: Body, sizes: Sizes, ensemble: int | None, initialisation: str, last_gain: float = 1.0
) -> tuple[Any, Any]:
    """Return a network's parameters, whose names of draws are as in `init_mlp`, and its statistics.

    The hidden sizes are those of the blocks. Operations before the first block have its width, those after the last
    block the last one's.
    """
    counter = iter(range(10**6))
    names = [name] if ensemble is None else [f"{name}/{i}" for i in range(ensemble)]
    like = draw(f"{name}/like", (1,)).new_ones(())
    axes = () if ensemble is None else (ensemble,)

    def linear(fan_in: int, fan_out: int, gain: float) -> Layer:
        i = next(counter)
        each = [INITIALISATIONS[initialisation](draw, f"{one}/{i}", fan_in, fan_out, gain) for one in names]
        return each[0] if ensemble is None else Layer(*map(torch.stack, zip(*each, strict=True)))

    def init(op: Operation, units: int, width: int) -> tuple[Any, Any, int]:
        """Return parameters, statistics and the number of outputs of one operation on `units` inputs."""
        if op.kind == "linear":
            layer = linear(units, op.widen * width, math.sqrt(2))
            return layer if op.bias else Weight(layer.weight), (), op.widen * width
        one = like.expand(*axes, units).clone()
        if op.kind in ("batch-norm", "layer-norm"):
            norm = Norm(one, torch.zeros_like(one))
            running = Statistics(torch.zeros_like(one), torch.ones_like(one)) if op.kind == "batch-norm" else ()
            return norm, running, units
        if op.kind == "rms-norm":
            return Gain(one), (), units
        if op.kind == "scaler":
            return op.scale * one / (math.sqrt(width) if op.root else 1), (), units
        if op.kind in ("residual", "lerp"):
            inner, statistics, _ = init_all(op.inner, units, width)
            return (inner, one / math.sqrt(width)) if op.kind == "lerp" else inner, statistics, units
        return (), (), units + 1 if op.kind == "shift" else units

    def init_all(operations: tuple[Operation, ...], units: int, width: int) -> tuple[Any, Any, int]:
        """Return the same of operations in sequence."""
        parts, running = [], []
        for op in operations:
            part, statistics, units = init(op, units, width)
            parts.append(part)
            running.append(statistics)
        return tuple(parts), tuple(running), units

    first, *hidden = sizes[:-1]
    parts, running, units = init_all(body.first, first, hidden[0])
    for width in hidden:
        part, statistics, units = init_all(body.block, units, width)
        parts, running = parts + part, running + statistics
    part, statistics, units = init_all(body.last, units, hidden[-1])
    return (*parts, *part, linear(units, sizes[-1], last_gain)), (*running, *statistics)


def unit(x: Tensor) -> Tensor:
    """Scale x [..., units] to norm 1."""
    norm: Tensor = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    return x / (norm + UNIT_EPSILON)


def evaluate(network: Built, x: Tensor, activation: str, epsilon: float) -> tuple[Tensor, Any]:
    """Evaluate a network: x [B, in] -> [B, out], of an ensemble [C, B, out]; and return its new statistics."""
    body = network.body
    *parts, output = network.parameters
    blocks = (len(parts) - len(body.first) - len(body.last)) // len(body.block)
    operations = body.first + body.block * blocks + body.last
    if output.weight.ndim == 3:
        x = x.expand(len(output.weight), *x.shape)

    def apply(op: Operation, part: Any, running: Any, x: Tensor) -> tuple[Tensor, Any]:
        if op.kind == "linear":
            y = product(x, part.weight)
            return (y + part.bias.unsqueeze(-2) if op.bias else y), ()
        if op.kind == "activation":
            return ACTIVATIONS[activation](x), ()
        if op.kind == "batch-norm":
            return normalised(part, running, x, network.training, epsilon)
        if op.kind == "layer-norm":
            x = F.layer_norm(x, x.shape[-1:], eps=epsilon)
            return x * part.gain.unsqueeze(-2) + part.shift.unsqueeze(-2), ()
        if op.kind == "rms-norm":
            return x * torch.rsqrt((x**2).mean(-1, keepdim=True) + epsilon) * part.gain.unsqueeze(-2), ()
        if op.kind == "unit":
            return unit(x), ()
        if op.kind == "shift":
            return torch.cat([x, torch.full_like(x[..., :1], C_SHIFT)], -1), ()
        if op.kind == "scaler":
            return x * (op.initial / op.scale * part).unsqueeze(-2), ()
        inner, share = part if op.kind == "lerp" else (part, None)
        y, new = apply_all(op.inner, inner, running, x)
        if share is None:
            return x + y, new
        factor: Tensor = share * math.sqrt(share.shape[-1]) / (blocks + 1)
        return x + factor.unsqueeze(-2) * (y - x), new

    def apply_all(operations: tuple[Operation, ...], parts: Any, running: Any, x: Tensor) -> tuple[Tensor, Any]:
        statistics = []
        for op, part, own in zip(operations, parts, running, strict=True):
            x, new = apply(op, part, own, x)
            statistics.append(new)
        return x, tuple(statistics)

    x, statistics = apply_all(operations, parts, network.statistics, x)
    y: Tensor = product(x, output.weight) + output.bias.unsqueeze(-2)
    return y, statistics


def projected(network: Any, norms: bool) -> Any:
    """Return a network whose linear layers have weights of norm 1 per output ([2], [5]).

    With `norms`, also each normalisation's gain and shift together, or its gain alone, have norm sqrt(units), as in
    FlashSAC. Biases do not change.
    """

    def to_norm(parts: tuple[Tensor, ...], axis: int, norm: float) -> list[Tensor]:
        squares = torch.stack([(part**2).sum(axis, keepdim=True) for part in parts]).sum(0)
        return [norm * part / (torch.sqrt(squares) + UNIT_EPSILON) for part in parts]

    def project(part: Any) -> Any:
        if isinstance(part, (Layer, Weight)):
            return part._replace(weight=to_norm((part.weight,), -2, 1.0)[0])
        if isinstance(part, (Norm, Gain)):
            return type(part)(*to_norm(tuple(part), -1, math.sqrt(part.gain.shape[-1]))) if norms else part
        return tuple(map(project, part)) if isinstance(part, tuple) else part

    return project(network)
