"""What this machine has: device, cores, memory, compiler, and its fastest honest float32."""

from __future__ import annotations

import ctypes
import os
import shutil
import sysconfig
from pathlib import Path

import torch

from sac_bench.errors import InputError


def resolve_device(asked: str) -> str:
    """ "auto", "cpu" or "cuda" -> the device to train on; InputError when it is not there."""
    if asked not in ("auto", "cpu", "cuda"):
        raise InputError(f"--device {asked}: wants auto, cpu or cuda")
    if asked == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch finds no CUDA device here; use --device cpu or auto")
    return "cuda" if asked != "cpu" and torch.cuda.is_available() else "cpu"


def cores() -> int:
    """Cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(device: str) -> int:
    """Bytes free on the device; 4 GiB where the system does not tell."""
    if device == "cuda":
        return torch.cuda.mem_get_info()[0]
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration):
        return 4 * 2**30


def cannot_compile() -> str | None:
    """Why training runs eagerly here, in one line, or None where updates are compiled."""
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return "TORCH_COMPILE_DISABLE is set: training runs eagerly"
    if not any(name and shutil.which(name) for name in (os.environ.get("CXX", ""), "g++", "clang++", "c++")):
        return "no C++ compiler (g++ or clang++) found: training runs eagerly, two to three times slower"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no Python.h found (Debian's python3-dev has it): training runs eagerly, two to three times slower"
    return None


def cache_folder() -> Path:
    """Where compiled code is kept, made if need be, private to the user."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sac-bench" / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder


def keep_freed_memory() -> None:
    """Let glibc keep what an update frees for the next one, where by default it gives large blocks back.

    A cohort of 4 at 2x256 spent 4% of its time in page faults, 640 an update.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 32 * 2**20)  # the most that glibc takes
        mallopt(m_trim_threshold, 2**30)


def fastest_float32_products(device: str) -> None:
    """Let torch use the device's fastest matrix product whose error is float32's.

    "medium" allows bfloat16 inside where a CPU has it in hardware (AMX), and TF32 on CUDA; on other CPUs it only
    means another library, twice as fast on some. Measured, not assumed. On CUDA, bfloat16 products sum in float32.
    """
    torch.set_float32_matmul_precision("highest" if device != "cpu" else "medium")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if device == "cpu" and float32_product_error() > 1e-6:
        torch.set_float32_matmul_precision("highest")


def float32_product_error() -> float:
    """Largest error of a 256 x 256 product in float32, relative to its largest entry: about 3e-7 if it is honest."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 256, 256, generator=generator, dtype=torch.float64)
    exact = a @ b
    return float((a.float() @ b.float() - exact).abs().max() / exact.abs().max())
