"""CUDA graphs: record a function's kernels once, then launch them together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils._pytree import tree_leaves


class CudaGraphFunction:
    """A function whose only effect is on the CUDA tensors it is passed, recorded on its fourth call with the same ones.

    Tensors are the same if their addresses and shapes are, since a recording reads and writes these addresses. The
    first three calls run the function itself, which compiles it and lets libraries allocate their workspaces. A call
    with other tensors, for example after a buffer has grown, starts over.
    """

    WARM_UP = 3

    def __init__(self, function: Callable[..., None]) -> None:
        self._function = function
        self._arguments: Any = None  # kept, so that no other tensor can get their addresses
        self._calls = 0
        self._graph: Any = None

    def __call__(self, *arguments: Any) -> None:
        """Apply the function to its arguments, pytrees of tensors."""
        if _places(arguments) != _places(self._arguments):
            self._arguments, self._calls, self._graph = arguments, 0, None
        if self._graph is not None:
            self._graph.replay()
            return
        self._calls += 1
        if self._calls <= self.WARM_UP:
            self._function(*arguments)
            return
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):  # records, does not run
            self._function(*arguments)
        self._graph.replay()


def _places(arguments: Any) -> list[tuple[int, torch.Size]]:
    return [(leaf.data_ptr(), leaf.shape) for leaf in tree_leaves(arguments) if isinstance(leaf, torch.Tensor)]
