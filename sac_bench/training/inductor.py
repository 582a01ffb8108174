"""Compile code that, on a CPU, computes the same bytes for a member at every cohort width (docs/correctness.md).

Inductor computes most elements 16 at a time by the functions of at::vec, and the rest, which do not fill a vector, by
those of the C library, whose last digit can differ. Which elements these are depends on the shape, and so on the
cohort's width. Here scalar code calls the functions of at::vec, too.

Which operations share a loop determines the order of its sums. Here this choice does not depend on the width.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

INEXACT_FUNCTIONS = (
    "exp",
    "exp2",
    "expm1",
    "log",
    "log10",
    "log1p",
    "log2",
    "sin",
    "cos",
    "tan",
    "asin",
    "acos",
    "atan",
    "sinh",
    "cosh",
    "tanh",
    "erf",
    "erfc",
)
"""Unary functions whose last digit IEEE 754 leaves open; sums, products, quotients and roots are exact."""
CACHE_TAG = "sac_bench-vector-functions-3"
"""Compiled code is cached by its graph; this tag separates code with these functions from code without."""

FUSION: dict[str, str | int | bool | Callable[..., Any]] = {"score_fusion_memory_threshold": 1}
"""Options of torch.compile for a CPU: two operations may share a loop if they read any memory in common.

By default it must be 10 bytes. One float32 per member is 8 bytes in a cohort of two and 12 in a cohort of three.
"""

CHECKED_CALLS = 3
"""Calls of a program that check whether it fits its inputs. More than one: the first one compiles."""


def compiled(function: Callable[..., Any], device: torch.device, dynamic: bool | None = None) -> Callable[..., Any]:
    """Return the function as one program for the device; `dynamic` as in torch.compile."""
    use_vector_functions()
    options = FUSION if device.type == "cpu" else None
    return torch.compile(function, fullgraph=True, dynamic=dynamic, options=options)


class Repeated:
    """Calls a compiled program whose inputs keep their kinds and shapes, except for dimensions marked as dynamic.

    Before each call, torch.compile checks whether the program fits its inputs. For the tensors of an update of small
    networks this takes a twentieth of the time. Here only the first calls check.
    """

    def __init__(self, program: Callable[..., Any]) -> None:
        self._program, self._calls = program, 0

    def __call__(self, *arguments: Any) -> Any:
        """Return the program's result, checking the arguments' kinds and shapes in the first calls only."""
        if self._calls < CHECKED_CALLS:
            self._calls += 1
            return self._program(*arguments)
        with torch.compiler.set_stance("default", skip_guard_eval_unsafe=True):
            return self._program(*arguments)


@functools.cache
def use_vector_functions() -> None:
    """Make all code that this process compiles for a CPU from now on use the functions of at::vec."""
    from torch._inductor.codegen.cpp import CppOverrides  # late: takes seconds, and planning compiles nothing

    for name in INEXACT_FUNCTIONS:
        setattr(CppOverrides, name, staticmethod(functools.partial(_by_vector, name)))
    setattr(CppOverrides, "sigmoid", staticmethod(_sigmoid))  # noqa: B010 - mypy refuses the assignment
    torch.compiler.config.cache_key_tag = CACHE_TAG


def _by_vector(function: str, x: object) -> str:
    """Return C++ code for function(x) of one float or double."""
    return (
        f"[](auto a) {{ using Vec = at::vec::Vectorized<decltype(a)>; __at_align__ decltype(a) lanes[Vec::size()]; "
        f"Vec(a).{function}().store(lanes); return lanes[0]; }}({x})"
    )


def _sigmoid(x: object) -> str:
    exp = _by_vector("exp", f"-{x}")
    return f"decltype({x})(1) / (decltype({x})(1) + {exp})"
