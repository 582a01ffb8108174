"""Pytrees of tensors under names that files can hold: "params/critic/0/weight"."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torch.utils._pytree import tree_flatten_with_path, tree_map_with_path

from sac_bench.errors import InputError


def named_tensors(tree: Any) -> dict[str, Tensor]:
    """Return every tensor of a pytree, contiguous, by its path."""
    return {_name(path): leaf.contiguous() for path, leaf in tree_flatten_with_path(tree)[0]}


def with_tensors(tree: Any, tensors: dict[str, Tensor]) -> Any:
    """Return a pytree with `tree`'s structure and these tensors; raise InputError if one is missing or misshapen."""

    def named(path: tuple[Any, ...], leaf: Tensor) -> Tensor:
        tensor = tensors.get(_name(path))
        if tensor is None or tensor.shape != leaf.shape:
            raise InputError(f"saved by another version of sac_bench: {_name(path)} is missing or has another shape")
        return tensor

    return tree_map_with_path(named, tree)


def _name(path: tuple[Any, ...]) -> str:
    return "/".join(str(next(getattr(key, a) for a in ("key", "name", "idx") if hasattr(key, a))) for key in path)
