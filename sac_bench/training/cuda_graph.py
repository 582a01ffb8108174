"""CUDA graphs: record a function's kernels once, then launch them together."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor


class CudaGraphFunction:
    """A function whose only effect is on CUDA tensors, recorded on its fourth call with tensors in the same places.

    A recording reads and writes the addresses that it saw. So callers pass a version, which must rise when any tensor
    that the function uses has moved; then a call starts over. The first three calls run the function itself, which
    compiles it and lets libraries allocate their workspaces, on the stream that is later recorded. If recording raises,
    the next call tries again.
    """

    WARM_UP = 3

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._version = -1
        self._arguments: Any = None  # kept, so that no other tensor can get their addresses
        self._calls = 0
        self._graph: Any = None
        self._stream: Any = None

    def __call__(self, version: int, *arguments: Any) -> None:
        """Apply the function to its arguments, whose tensors have not moved since the last call with this version."""
        if version != self._version:
            self._version, self._arguments, self._calls, self._graph = version, arguments, 0, None
        if self._graph is not None:
            self._graph.replay()
            return
        if self._stream is None:
            self._stream = torch.cuda.Stream()
        self._calls += 1
        if self._calls <= self.WARM_UP:
            self._on_stream(*arguments)
            return
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self._stream):  # records, does not run
            self._function(*arguments)
        self._graph = graph
        graph.replay()

    def _on_stream(self, *arguments: Any) -> None:
        """Run the function on the side stream, after and before everything else on the current one."""
        current = torch.cuda.current_stream()
        self._stream.wait_stream(current)
        with torch.cuda.stream(self._stream):
            self._function(*arguments)
        current.wait_stream(self._stream)


class Graphs:
    """The recorded functions of one cohort, all of which are recorded again when tensors have moved."""

    def __init__(self) -> None:
        self._version = 0
        self._functions: dict[Hashable, CudaGraphFunction] = {}
        self._inputs: dict[Hashable, list[Tensor]] = {}

    def have_moved(self) -> None:
        """Say that tensors that the functions use are no longer where they were."""
        self._version += 1

    def run(self, key: Hashable, function: Callable[..., None], *arguments: Any) -> None:
        """Apply the function of this key. Its tensors have the same places every time, unless they `have_moved`."""
        if key not in self._functions:
            self._functions[key] = CudaGraphFunction(function)
        self._functions[key](self._version, *arguments)

    def inputs(self, key: Hashable, *values: Tensor) -> list[Tensor]:
        """Return the same tensors for a key every time, with these values."""
        if key not in self._inputs:
            self._inputs[key] = [torch.empty_like(value) for value in values]
        for kept, value in zip(self._inputs[key], values, strict=True):
            kept.copy_(value)
        return self._inputs[key]
