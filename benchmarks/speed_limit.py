"""Only matrix products, on command: the limit that benchmarks/speed.py measures an update against.

    python benchmarks/speed_limit.py "cpu float32"

Speaks as benchmarks/speed_ours.py does; what it calls updates are floating-point operations of products of
256 x 256 matrices, in the cache, the same ones that an update with 2x256 networks and batches of 256 is made of.
"""

from __future__ import annotations

import sys
import time

import torch
from speed_ours import peak_bytes, say

from sac_bench.execution.machine import fastest_float32_products

SIZE = 256


def main() -> None:
    device, precision = sys.argv[1].split()
    torch.set_num_threads(1)
    fastest_float32_products(device)
    a, b, out = (torch.randn(2, SIZE, SIZE, device=device, dtype=getattr(torch, precision)) for _ in range(3))
    say({"ready": True})
    for line in sys.stdin:
        _, seconds = line.split()
        began, products = time.perf_counter(), 0
        while time.perf_counter() - began < float(seconds):
            for _ in range(20):
                torch.bmm(a, b, out=out)
            products += 2 * 20
        if device == "cuda":
            torch.cuda.synchronize()
        flops = products * 2 * SIZE**3
        say({"seconds": time.perf_counter() - began, "steps": 0, "updates": flops, "peak_bytes": peak_bytes()})


if __name__ == "__main__":
    main()
