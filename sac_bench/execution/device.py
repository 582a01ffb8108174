"""Chooses the device to train on: "auto" takes CUDA only where `sac-bench doctor` has tested it.

The result of a test is a file in the user's folder on this machine, by the GPU's model and the versions of torch and
this package. It is not in the results folder, because machines with other GPUs may share that folder.
"""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sac_bench.errors import InputError, one_line
from sac_bench.execution.machine import user_folder
from sac_bench.execution.provenance import device_name
from sac_bench.store.atomic import file_name, write_atomically


class Choice(NamedTuple):
    """A device, "cpu" or "cuda", and a line that says why, if a user might expect another."""

    device: str
    note: str = ""


def resolve_device(device: str) -> Choice:
    """Return the device to train on for "auto", "cpu" or "cuda"; InputError if it is not available."""
    if device not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {device}: must be auto, cpu or cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    if device != "auto" or not torch.cuda.is_available():
        return Choice(device if device != "auto" else "cpu")
    reason = objection_to_cuda()
    return Choice("cpu", reason) if reason else Choice("cuda")


def objection_to_cuda() -> str:
    """Return in one line why "auto" does not take the GPUs that torch finds, and what to do; "" if it takes them."""
    for name in dict.fromkeys(map(gpu_name, range(torch.cuda.device_count()))):
        result = result_of(name)
        if result is None:
            return "CUDA is available but untested here: run `sac-bench doctor`; until then, auto means the CPU"
        if found := result["problems"]:
            return one_line(
                f"CUDA is available but failed `sac-bench doctor` on {name}: {found[0]}; so auto means the CPU"
            )
    return ""


def gpu_name(index: int) -> str:
    """Return the model of a GPU by its place among those that torch finds."""
    return device_name(f"cuda:{index}")


def result_of(name: str) -> dict[str, Any] | None:
    """Return the result of a device's test with the present versions; None if it was not tested."""
    try:
        result = json.loads(_file(name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and isinstance(result.get("problems"), list) else None


def keep(name: str, result: dict[str, Any]) -> Path:
    """Store the result of a device's test, for this version of torch and this package; return the file."""
    path = _file(name)
    write_atomically(path, json.dumps(result, indent=2).encode())
    return path


def _file(name: str) -> Path:
    text = f"{name}, torch {torch.__version__}, sac_bench {version('sac_bench')}"
    return user_folder() / "tested" / f"{file_name(text)}.json"
