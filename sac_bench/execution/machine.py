"""Properties of this machine: device, cores, memory, compiler, and its fastest exact float32 products."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import re
import shutil
import sysconfig
from collections.abc import Sequence
from pathlib import Path

import torch

from sac_bench.errors import InputError, one_line


def visible_gpus() -> list[str]:
    """Return the GPUs that this process sees, as CUDA_VISIBLE_DEVICES names them."""
    count = torch.cuda.device_count()
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(index) for index in range(count)]


def choose_gpus(text: str, visible: Sequence[str]) -> tuple[str, ...]:
    """Return the GPUs of `visible` that a user wrote: "all", or their places from 0 as "0,2".

    Raises InputError for anything else.
    """
    if text.strip() == "all":
        return tuple(visible)
    places = [part.strip() for part in text.split(",")]
    where = f"--gpus {one_line(text, 60)}"
    if not all(re.fullmatch(r"[0-9]{1,4}", place) for place in places):
        raise InputError(f"{where}: must be all, or numbers such as 0,1")
    chosen = list(map(int, places))
    if repeated := [place for place in chosen if chosen.count(place) > 1]:
        raise InputError(f"{where}: {repeated[0]} is duplicated")
    if unknown := [place for place in chosen if place >= len(visible)]:
        raise InputError(f"{where}: torch finds {len(visible)} here, numbered from 0, so there is no {unknown[0]}")
    return tuple(visible[place] for place in chosen)


def cores() -> int:
    """Return the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def available_memory(device: str, gpus: Sequence[str] = ()) -> int:
    """Return the free memory of the device in bytes; 4 GiB where the system does not report it.

    On a CPU it is at most the limit of this process's control groups: a job or a container may use no more.
    gpus: those to look at, as CUDA_VISIBLE_DEVICES names them; all if none are given. The fullest one counts.
    """
    if device == "cuda":
        visible = visible_gpus()
        return min(torch.cuda.mem_get_info(visible.index(gpu))[0] for gpu in gpus or visible)
    try:
        lines = Path("/proc/meminfo").read_text(encoding="utf-8").splitlines()
        free = int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    except (OSError, StopIteration):
        free = 4 * 2**30
    return int(min(free, memory_limit()))


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> float:
    """Return the bytes that this process's control groups and those above allow; infinity without a limit.

    groups: the file that names them, of version 1 or 2 (the manual page cgroups(7)); mounted: where they are.
    """
    limits = [math.inf]
    with contextlib.suppress(OSError):
        for line in groups.read_text(encoding="utf-8").splitlines():
            _, controllers, path = line.split(":", 2)
            if controllers not in ("", "memory"):
                continue
            root, name = (mounted / "memory", "memory.limit_in_bytes") if controllers else (mounted, "memory.max")
            group = root / path.lstrip("/")
            for folder in (group, *group.parents)[: len(group.parts) - len(root.parts) + 1]:
                with contextlib.suppress(OSError, ValueError):  # "max": no limit
                    limits.append(int((folder / name).read_text(encoding="utf-8")))
    return min(limits)


def compiler() -> str | None:
    """Return the path of the C++ compiler, or None."""
    names = (os.environ.get("CXX", ""), "g++", "clang++", "c++")
    return next(filter(None, (shutil.which(name) for name in names if name)), None)


def cannot_compile() -> str | None:
    """Return in one line why training runs eagerly here, or None if updates are compiled."""
    if os.environ.get("TORCH_COMPILE_DISABLE") == "1":
        return "TORCH_COMPILE_DISABLE is set: training runs eagerly"
    if compiler() is None:
        return "no C++ compiler (g++ or clang++) found: training runs eagerly, two to three times slower"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "no Python.h found (Debian's python3-dev has it): training runs eagerly, two to three times slower"
    return None


def user_folder() -> Path:
    """Return the folder of what this program keeps for a user on this machine; it may not exist."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sac-bench"


def cache_folder() -> Path:
    """Return the folder of compiled code, private to the user; create it if it does not exist."""
    folder = user_folder() / "compiled"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    folder.chmod(0o700)
    return folder


def keep_freed_memory() -> None:
    """Make glibc keep memory that an update frees for the next update; by default it returns large blocks.

    Without this, a cohort of 4 at 2x256 spent 4% of its time in page faults, 640 per update.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        m_trim_threshold, m_mmap_threshold = -1, -3
        mallopt(m_mmap_threshold, 32 * 2**20)  # glibc's maximum
        mallopt(m_trim_threshold, 2**30)


def fastest_float32_products(device: str) -> None:
    """Make torch use the device's fastest matrix product that has the error of float32.

    "medium" allows bfloat16 internally on CPUs that have it in hardware (AMX), and TF32 on CUDA. On other CPUs it only
    selects another library, which is twice as fast on some. The error is measured here. On CUDA, bfloat16 products sum
    in float32.
    """
    torch.set_float32_matmul_precision("highest" if device != "cpu" else "medium")
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    if device == "cpu" and float32_product_error() > 1e-6:
        torch.set_float32_matmul_precision("highest")


def check_precision(precision: str, device: str) -> None:
    """Raise InputError for a run's precision that the device lacks: tf32 on a CPU.

    There its products would be float32's, so that a comparison of the two would compare nothing.
    """
    if precision == "tf32" and device == "cpu":
        raise InputError(
            "precision = tf32 exists only on CUDA; on a CPU its numbers would be those of float32: use --device cuda, "
            "or precision = float32"
        )


def use_precision(precision: str, device: str) -> None:
    """Make this process's float32 products those of a run's precision, after `fastest_float32_products`.

    "tf32" allows CUDA's TF32, which rounds factors to 10 bits of mantissa and sums in float32. Raises InputError as
    `check_precision` does.
    """
    check_precision(precision, device)
    if precision == "tf32":
        torch.set_float32_matmul_precision("high")


def float32_product_error() -> float:
    """Return the largest error of a 256 x 256 float32 product, relative to its largest entry: about 3e-7 if exact."""
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 256, 256, generator=generator, dtype=torch.float64)
    exact = a @ b
    return float((a.float() @ b.float() - exact).abs().max() / exact.abs().max())
