"""Counter-based random numbers: Threefry-2x32-20 on (seed, stream, step, index).

Salmon, Moraes, Dror & Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011). A draw is a pure function of its
counter, so a run's noise does not depend on the other members of its cohort, and the generator's only state is a step
counter. Words are 32 bits in int32 tensors, whose sums wrap around and whose negative numbers stand for large words.

Words are computed eagerly, for many steps at once (`WordsAhead`). Otherwise a compiler inlines the twenty rounds into
every operation that reads a draw, which takes more than half of the compile time.
"""

from __future__ import annotations

import math
import zlib

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF
_PARITY = 0x1BD11BDA
_ROTATIONS = ((13, 15, 26, 6), (17, 29, 16, 24))
_AT_ONCE = 2**16
"""Counters whose rounds are computed at once on a CPU, so that they stay in its caches."""
_AHEAD = 64
"""At most so many steps are drawn ahead."""
_BLOCK = {"cpu": 2**18, "other": 2**25}
"""At most so many counters of several steps are drawn ahead: 2 MiB on a CPU, whose caches are small, else 256 MiB."""


def threefry2x32(key: tuple[Tensor, Tensor], counter: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Return twenty rounds of Threefry on 32-bit words (int32 tensors, broadcast together)."""
    keys = (key[0], key[1], key[0] ^ key[1] ^ _PARITY)
    shape = torch.broadcast_shapes(*(word.shape for word in (*key, *counter)))
    x0, x1 = (torch.add(*pair).expand(shape).contiguous() for pair in zip(counter, keys, strict=False))
    left = torch.empty_like(x1)
    for group in range(5):
        for rotation in _ROTATIONS[group % 2]:
            x0 += x1
            torch.bitwise_left_shift(x1, rotation, out=left)
            x1 >>= 32 - rotation
            x1 &= 2**rotation - 1  # the shift repeats the sign
            x1 |= left
            x1 ^= x0
        x0 += keys[(group + 1) % 3]
        x1 += keys[(group + 2) % 3]
        x1 += group + 1
    return x0, x1


def stream_of(purpose: str) -> int:
    """Return the 32-bit key word of a purpose ("replay", "explore", "init/actor/0", ...)."""
    return zlib.crc32(purpose.encode())


def _unsigned(words: Tensor) -> Tensor:
    """Return words as int64 in [0, 2^32)."""
    return words.long() & _MASK


def _normals(words: Tensor, dtype: torch.dtype) -> Tensor:
    """Map words [M, 2W] to standard normals [M, 2W]: Box-Muller on each counter's two words."""
    w0, w1 = _unsigned(words).unflatten(1, (-1, 2)).unbind(-1)
    radius = torch.sqrt(-2.0 * torch.log((w0 + 1).to(dtype) * 2.0**-32))
    angle = w1.to(dtype) * (2.0 * math.pi * 2.0**-32)
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], dim=-1).flatten(1)


class Draws:
    """All random numbers of one moment (an update, a vector step) for every member.

    shapes: {purpose: shape} of the draws. A purpose, preceded by `prefix`, is a separate stream, so adding a draw does
    not change the others, and a longer draw starts with the numbers of a shorter one.
    """

    def __init__(
        self,
        shapes: dict[str, tuple[int, ...]],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        prefix: str = "",
    ) -> None:
        self.shapes, self.dtype, self.device = shapes, dtype, torch.device(device)
        pairs = {name: (math.prod(shape) + 1) // 2 for name, shape in shapes.items()}
        streams = [torch.full((n,), stream_of(prefix + name)) for name, n in pairs.items()]
        self._streams = torch.cat(streams).to(device, torch.int32)
        self._index = torch.cat([torch.arange(n) for n in pairs.values()]).to(device, torch.int32)
        self.start: dict[str, int] = {}
        at = 0
        for name, n in pairs.items():
            self.start[name] = at
            at += 2 * n

    def words(self, seeds: Tensor, first: int, steps: int = 1) -> Tensor:
        """Return the words of counters first, first + 1, ... for seeds [M]: int32 [steps, M, 2W], two per index."""
        counters = torch.arange(first, first + steps, device=self.device).to(torch.int32)
        rows = [row.flatten() for row in torch.meshgrid(counters, seeds.to(torch.int32), indexing="ij")]
        words = torch.empty(len(rows[0]), len(self._index), 2, dtype=torch.int32, device=self.device)
        width = min(len(self._index), _AT_ONCE) if self.device.type == "cpu" else len(self._index)
        height = max(1, _AT_ONCE // width) if self.device.type == "cpu" else len(words)
        for r in range(0, len(words), height):
            counter, seed = (row[r : r + height, None] for row in rows)
            for c in range(0, words.shape[1], width):
                stream, index = self._streams[c : c + width], self._index[c : c + width]
                pair = threefry2x32((seed, stream[None]), (counter, index[None]))
                words[r : r + height, c : c + width] = torch.stack(pair, dim=-1)
        return words.reshape(steps, len(seeds), -1)

    def at(self, seeds: Tensor, step: int) -> Moment:
        """Return the draws of counter `step` for seeds [M]."""
        return Moment(self, self.words(seeds, step)[0])


class Moment:
    """The draws of one moment; each method returns [M, *shape] for a purpose.

    words: int32 [M, 2W] of the moment's counter, `Draws.words`; step: the counter [], for functions that count on it.
    """

    def __init__(self, draws: Draws, words: Tensor, step: Tensor | None = None) -> None:
        self._draws, self._words, self.step = draws, words, step

    def _piece(self, name: str) -> Tensor:
        size, start = math.prod(self._draws.shapes[name]), self._draws.start[name]
        return self._words[:, start : start + size + size % 2]

    def _shaped(self, values: Tensor, name: str) -> Tensor:
        shape = self._draws.shapes[name]
        return values[:, : math.prod(shape)].unflatten(1, shape)

    def normal(self, name: str) -> Tensor:
        """Return standard normal draws."""
        return self._shaped(_normals(self._piece(name), self._draws.dtype), name)

    def uniform(self, name: str) -> Tensor:
        """Return uniform draws in [0, 1), in steps of 2^-24, exact in float32."""
        return self._shaped((_unsigned(self._piece(name)) >> 8).to(self._draws.dtype) * 2.0**-24, name)

    def integers(self, name: str, high: Tensor | int) -> Tensor:
        """Return uniform draws in [0, high), high <= 2^31, by multiply-and-shift; the bias is below high / 2^32."""
        return self._shaped((_unsigned(self._piece(name)) * high) >> 32, name)


class WordsAhead:
    """The words of successive steps for seeds [M], computed for several steps at once."""

    def __init__(self, draws: Draws, seeds: Tensor) -> None:
        self._draws, self._seeds = draws, seeds
        size = max(1, len(seeds) * sum(map(math.prod, draws.shapes.values())) // 2)
        most = _BLOCK["cpu" if draws.device.type == "cpu" else "other"]
        self._steps = max(1, min(_AHEAD, most // size))
        self._first = 0
        self._block: Tensor | None = None
        self._now: list[Tensor] = []

    def at(self, step: int) -> Tensor:
        """Return the words [M, 2W] of a step, always in the same tensor."""
        return self.of(step, 1)[0]

    def of(self, first: int, count: int) -> list[Tensor]:
        """Return the words [M, 2W] of `count` steps from `first` on, always in the same tensors."""
        if self._block is None or not self._first <= first <= first + count <= self._first + len(self._block):
            self._first, self._block = first, None
            self._block = self._draws.words(self._seeds, first, max(self._steps, count))
        rows = self._block[first - self._first :][:count].unbind()
        self._now += [torch.empty_like(rows[0]) for _ in range(len(self._now), count)]
        torch._foreach_copy_(self._now[:count], rows)
        return self._now[:count]


def uniform(seed: int, purpose: str, shape: tuple[int, ...], dtype: torch.dtype) -> Tensor:
    """Return one run's uniform draws in [0, 1) for a purpose, such as its initial weights."""
    moment = Draws({purpose: shape}, dtype).at(torch.tensor([seed]), 0)
    return moment.uniform(purpose)[0]


def derived_seeds(seed: int, purpose: str, index: int, count: int) -> list[int]:
    """Return `count` seeds in [0, 2^31) for (run seed, purpose, index), which neighbours share only by chance."""
    moment = Draws({purpose: (count,)}).at(torch.tensor([seed]), index)
    return moment.integers(purpose, 2**31)[0].tolist()
