"""Writes a policy's mean action as an ONNX file, which many programs run without torch."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch

from sac_bench.errors import InputError

INPUT, OUTPUT = "observation", "action"
REQUIRED = ("onnx", "onnxscript")


def write_onnx(module: torch.nn.Module, example: torch.Tensor, path: str | Path) -> None:
    """Write a module that maps `observation` [K, D] to `action` [K, A], for any K; `example` has many rows.

    Raises InputError if a package is missing, or if ONNX has no counterpart of what the module computes.
    """
    for package in REQUIRED:
        if importlib.util.find_spec(package) is None:
            raise InputError(f"to_onnx requires the package {package}: pip install 'sac_bench[onnx]'")
    rows = torch.export.Dim("K", min=len(example))  # the graph has no branch, so fewer rows do as well
    with torch.no_grad(), _quiet():
        try:
            program = torch.onnx.export(
                module,
                (example,),
                dynamo=True,
                dynamic_shapes=({0: rows},),
                input_names=[INPUT],
                output_names=[OUTPUT],
                verbose=False,
            )
        except torch.onnx.errors.OnnxExporterError as error:
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            raise InputError(f"{path}: the policy cannot be exported to ONNX: {cause}") from None
    assert program is not None
    for node in program.model.graph:
        node.metadata_props.clear()  # the exporting machine's paths
    program.save(str(path))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter: it prints whole graphs, and warns of packages that this module does not use."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(action="ignore"),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            yield
    finally:
        log.setLevel(level)
