"""Compiled code for CPUs computes a member's numbers alike in cohorts of every width.

Inductor computes most elements of a loop 16 at a time. Two of its choices depend on the shape, and so on the width:

- Elements that do not fill a vector are computed by the C library's functions. Their last digit can differ from that of
  at::vec's. Here scalar code calls the functions of at::vec too.
- A sum over a batch may have 16 members side by side, each summed from first to last, or 16 parts of one member's sum,
  depending on how members lie in memory; a single member always has the latter. Here every cohort has it.

docs/correctness.md has what was measured; tests/training/test_widths.py compares the bytes.
"""

from __future__ import annotations

import functools
from collections import Counter
from typing import Any
from unittest.mock import patch

import torch
from torch._inductor.codegen import cpp
from torch._inductor.virtualized import V

INEXACT = ("exp", "exp2", "expm1", "log", "log10", "log1p", "log2", "sin", "cos", "tan", "asin", "acos", "atan",
           "sinh", "cosh", "tanh", "erf", "erfc")  # fmt: skip
"""Functions of one number whose last digit IEEE 754 leaves open; sums, products, quotients and roots are exact."""
CACHE_TAG = "sac_bench-widths-2"
"""Compiled code is cached by its graph; this keeps code of these rules apart from code of others."""


@functools.cache
def same_at_every_width() -> None:
    """Have all code that is compiled for a CPU from now on in this process follow these rules."""
    for name in INEXACT:
        setattr(cpp.CppOverrides, name, staticmethod(functools.partial(_by_vector, name)))
    setattr(cpp.CppOverrides, "sigmoid", staticmethod(_sigmoid))  # noqa: B010 - mypy refuses the assignment
    setattr(cpp.TilingSelect, "_select_tiling_indices", _no_members_side_by_side(cpp.TilingSelect))  # noqa: B010
    torch.compiler.config.cache_key_tag = CACHE_TAG


def _by_vector(function: str, x: object) -> str:
    """C++ for function(x) of one float or double."""
    return (
        f"[](auto a) {{ using Vec = at::vec::Vectorized<decltype(a)>; __at_align__ decltype(a) lanes[Vec::size()]; "
        f"Vec(a).{function}().store(lanes); return lanes[0]; }}({x})"
    )


def _sigmoid(x: object) -> str:
    exp = _by_vector("exp", f"-{x}")
    return f"decltype({x})(1) / (decltype({x})(1) + {exp})"


def _no_members_side_by_side(kind: Any) -> Any:
    """Inductor's choice of the loop that is computed 16 at a time, made as if a sum's members were one."""
    choose, stride = kind._select_tiling_indices, cpp.stride_at_vec_range

    def chosen(self: Any, functions: Any, sizes: Any, factor: int) -> list[int]:
        loops, summed = max(sizes, key=lambda pair: len(pair[1]))
        if not (summed and loops and loops[0] == _members()):
            return choose(self, functions, sizes, factor)
        ignored = lambda index, var, *rest: 0 if var.name == "d0" else stride(index, var, *rest)
        with patch.object(cpp, "stride_at_vec_range", ignored):
            return choose(self, functions, sizes, factor)

    return chosen


def _members() -> Any:
    """How many members the graph being compiled has: the length that most of its inputs lead with."""
    sizes = [value.get_size() for value in V.graph.graph_inputs.values() if hasattr(value, "get_size")]
    lengths = Counter(size[0] for size in sizes if len(size))
    return lengths.most_common(1)[0][0] if lengths else None
