"""Counter-based random numbers: Threefry-2x32-20 on (seed, stream, step, index).

Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A draw is a pure function of its
counter, so a run's noise does not depend on the other members of its cohort, and the generator's only state is a step
counter. Words are int64 because torch lacks some uint32 operations.
"""

from __future__ import annotations

import functools
import math
import zlib
from collections.abc import Callable

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_PARITY = 0x1BD11BDA
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))


def threefry2x32(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return twenty rounds of Threefry on 32-bit words (int64 tensors in [0, 2^32), broadcast together)."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    x0 = (counter[0] + keys[0]) & _MASK
    x1 = (counter[1] + keys[1]) & _MASK
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 = (x0 + x1) & _MASK
            x1 = ((x1 << rotation) & _MASK) | (x1 >> (32 - rotation))
            x1 = x1 ^ x0
        x0 = (x0 + keys[(group + 1) % 3]) & _MASK
        x1 = (x1 + keys[(group + 2) % 3] + group + 1) & _MASK
    return x0, x1


def stream_of(purpose: str) -> int:
    """Return the 32-bit key word of a purpose ("replay", "explore", "init/actor/0", ...)."""
    return zlib.crc32(purpose.encode())


def _words(seeds: Tensor, streams: Tensor, step: Tensor, index: Tensor) -> Tensor:
    """Return int64 words [M, 2W], two adjacent ones for each counter, of seeds [M], streams [W], step [], index [W]."""
    step = (step & _MASK).reshape(1, 1)
    w0, w1 = threefry2x32((seeds[:, None], streams[None, :]), (step, index[None, :]))
    return torch.stack([w0, w1], dim=-1).flatten(1)


def _normals(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Map words [M, 2W] to standard normals [M, 2W]: Box-Muller on each counter's two words."""
    w0, w1 = words.unflatten(1, (-1, 2)).unbind(-1)
    radius = torch.sqrt(-2.0 * torch.log((w0 + 1).to(dtype) * 2.0**-32))
    angle = w1.to(dtype) * (2.0 * math.pi * 2.0**-32)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).flatten(1)


def _uniforms(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Map words to [0, 1) in steps of 2^-24, exact in float32."""
    return (words >> 8).to(dtype) * 2.0**-24


def _moment(seeds: Tensor, streams: Tensor, step: Tensor, index: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    words = _words(seeds, streams, step, index)
    return words, _normals(words, dtype)


@functools.cache
def _moment_function(compiled: bool) -> Callable[..., tuple[Tensor, Tensor]]:
    return torch.compile(_moment, fullgraph=True, dynamic=True) if compiled else _moment


class Draws:
    """All random numbers of one moment (an update, a vector step) for every member, in one pass.

    shapes: {purpose: shape} of the draws. A purpose, preceded by `prefix`, is a separate stream, so adding a draw does
    not change the others, and a longer draw starts with the numbers of a shorter one.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        compiled: bool = False,
        prefix: str = "",
    ) -> None:
        self._shapes, self._dtype = shapes, dtype
        pairs = {name: (math.prod(shape) + 1) // 2 for name, shape in shapes.items()}
        streams = [torch.full((n,), stream_of(prefix + name), dtype=torch.int64) for name, n in pairs.items()]
        self._streams = torch.cat(streams).to(device)
        self._index = torch.cat([torch.arange(n) for n in pairs.values()]).to(device)
        self._function = _moment_function(compiled)
        self._start: dict[str, int] = {}
        at = 0
        for name, n in pairs.items():
            self._start[name] = at
            at += 2 * n

    def at(self, seeds: Tensor, step: Tensor) -> Moment:
        """Return the draws of counter `step` [] for seeds [M]."""
        words, normals = self._function(seeds, self._streams, step, self._index, self._dtype)
        return Moment(self, step, words, normals)


class Moment:
    """The draws of one moment; each method returns [M, *shape] for a purpose."""

    def __init__(self, draws: Draws, step: Tensor, words: Tensor, normals: Tensor) -> None:
        self.step = step
        self._draws, self._words, self._normals = draws, words, normals

    def _piece(self, flat: Tensor, name: str) -> Tensor:
        shape, start = self._draws._shapes[name], self._draws._start[name]
        return flat[:, start : start + math.prod(shape)].unflatten(1, shape)

    def normal(self, name: str) -> Tensor:
        """Return standard normal draws."""
        return self._piece(self._normals, name)

    def uniform(self, name: str) -> Tensor:
        """Return uniform draws in [0, 1)."""
        return _uniforms(self._piece(self._words, name), self._draws._dtype)

    def integers(self, name: str, high: Tensor | int) -> Tensor:
        """Return uniform draws in [0, high), high <= 2^31, by multiply-and-shift; the bias is below high / 2^32."""
        return (self._piece(self._words, name) * high) >> 32


def uniform(seed: int, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return one run's uniform draws in [0, 1) for a purpose, such as its initial weights."""
    moment = Draws({purpose: shape}, dtype).at(torch.tensor([seed]), torch.tensor(0))
    return moment.uniform(purpose)[0]


def derived_seeds(seed: int, purpose: str, index: int, count: int) -> list[int]:
    """Return `count` seeds in [0, 2^31) for (run seed, purpose, index), which neighbours share only by chance."""
    moment = Draws({purpose: (count,)}).at(torch.tensor([seed]), torch.tensor(index))
    return moment.integers(purpose, 2**31)[0].tolist()
