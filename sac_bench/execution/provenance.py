"""The conditions that a run is trained under: device, versions of packages, commit."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import version
from pathlib import Path

import torch

from sac_bench.store.status import Conditions


def conditions(device: str, compiled: bool, threads: int) -> Conditions:
    """Return what the trained bytes depend on besides spec and cohort (docs/reliability.md)."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "envpool", "gymnasium", "mujoco", "numpy"))
    return {
        "device": device_name(device),
        "device_kind": torch.device(device).type,
        "compiled": compiled,
        "threads": threads,
        "products": f"{torch.get_float32_matmul_precision()}, {torch.backends.cpu.get_cpu_capability()}",
        "versions": f"{packages}, python {platform.python_version()}",
        "commit": commit(),
    }


def device_name(device: str) -> str:
    """Return the model of the GPU or CPU; "cpu" where the system does not name it."""
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return "cpu"


def commit() -> str:
    """Return the commit of this package's checkout, with "+" if it has changes, or the package's version."""
    root = Path(__file__).resolve().parents[2]
    try:
        git = ["git", "-C", str(root), "describe", "--always", "--dirty=+", "--exclude=*"]
        if (root / ".git").exists():
            return subprocess.run(git, capture_output=True, encoding="utf-8", check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        pass
    return version("sac_bench")
