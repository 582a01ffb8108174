"""What `sac-bench doctor` says about this machine: what it has, and whether its devices train correctly."""

from __future__ import annotations

import contextlib
import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

import torch

from sac_bench.errors import one_line
from sac_bench.execution.cost import size
from sac_bench.execution.device import gpu_name, keep
from sac_bench.execution.launch import worker_environment
from sac_bench.execution.machine import available_memory, cannot_compile, compiler, cores, visible_gpus
from sac_bench.execution.provenance import device_name
from sac_bench.store.doctor import Finding, Verdict

TEST_SECONDS = 600.0
"""Time that a device's test may take. It takes some seconds, and one to four minutes if nothing is compiled yet."""
PACKAGES = ("sac_bench", "torch", "envpool", "gymnasium", "mujoco", "numpy")


def machine() -> dict[str, str]:
    """Return what this machine has: {"CPU", "GPU 0", ..., "compiler", "versions": in words}."""
    found = {"CPU": f"{device_name('cpu')}, {cores()} cores, {size(available_memory('cpu'))} of memory free"}
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            found[f"GPU {index}"] = f"{gpu_name(index)}, {size(free)} of {size(total)} of memory free"
    found["compiler"] = cannot_compile() or _first_line([str(compiler()), "--version"])
    versions = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    found["versions"] = f"{versions}, CUDA {torch.version.cuda or 'none'}, python {platform.python_version()}"
    return found


def devices() -> dict[str, tuple[str, str | None]]:
    """Return the devices to test, one of each model: {model: ("cpu" or "cuda", GPU that the test sees)}."""
    found: dict[str, tuple[str, str | None]] = {device_name("cpu"): ("cpu", None)}
    if torch.cuda.is_available():
        for index, gpu in enumerate(visible_gpus()):
            found.setdefault(gpu_name(index), ("cuda", gpu))
    return found


def tested_devices() -> Iterator[Finding]:
    """Test every device (execution/self_test.py), keep the results for `--device auto`, and yield what came of it."""
    for name, (device, gpu) in devices().items():
        result = run_self_test(device, gpu)
        path = keep(name, result)
        verdict = Verdict.REFUSED if result["problems"] else Verdict.GOOD
        yield Finding(f"training on {device} ({name})", verdict, f"{in_words(result)} ({path})")


def run_self_test(device: str, gpu: str | None) -> dict[str, Any]:
    """Return what the test of a device found, in a process of its own; "problems" says why it failed, if it did."""
    command = [sys.executable, "-m", "sac_bench.execution.self_test", device]
    try:
        ran = subprocess.run(
            command, env=worker_environment(1, gpu), capture_output=True, encoding="utf-8", timeout=TEST_SECONDS
        )
    except subprocess.TimeoutExpired:
        return {"problems": [f"the test did not end within {TEST_SECONDS:.0f} s"]}
    with contextlib.suppress(ValueError):
        result = json.loads(ran.stdout.strip().rpartition("\n")[2])
        if isinstance(result, dict):
            return result
    last = ran.stderr.strip().rpartition("\n")[2]
    return {"problems": [one_line(f"the test ended with exit code {ran.returncode}: {last}", 300)]}


def in_words(result: Mapping[str, Any]) -> str:
    """Return the result of a device's test as one line."""
    if result["problems"]:
        return "; ".join(result["problems"])
    return (
        f"ten updates are within {result['error']:.1g} of float64, two equal runs are equal, "
        f"{result['updates_per_second']:,.0f} updates/s {'compiled' if result['compiled'] else 'eager'}, "
        f"{size(result['peak_bytes'])} of memory"
    )


def _first_line(command: list[str]) -> str:
    """Return the first line that a program prints."""
    try:
        ran = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", timeout=20)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"{command[0]}: {one_line(str(error), 100)}"
    return f"{command[0]}: {one_line(ran.stdout.partition(chr(10))[0], 100)}"
