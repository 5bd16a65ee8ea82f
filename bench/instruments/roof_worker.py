# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.instruments.roof_worker KIND ENGINE [THREADS]`: measure a device's roofs, print one line of JSON.

It is a separate process, so that the waiting parent never loads a framework. ENGINE is `torch` or `numpy`. It imports
its library at once and measures when a line, or the end, comes on stdin.
"""

from __future__ import annotations

import dataclasses
import gc
import json
import sys
import time

from bench.instruments import roofline
from bench.records.surroundings import ROOF_METHOD


def main() -> int:
    """Measure and answer on stdout."""
    gc.disable()  # a short life: looking for garbage takes a quarter of the time of importing
    kind, engine, *rest = sys.argv[1:]
    began = time.perf_counter()
    threads = int(rest[0]) if rest else None
    kernels: roofline.Kernels
    if engine == "torch":
        import torch

        kernels = roofline.TorchKernels(torch, kind, threads)
    else:
        kernels = roofline.NumpyKernels(threads)
    imported = time.perf_counter()
    sys.stdin.readline()
    began += time.perf_counter() - imported  # waiting is no part of what it took
    rates = roofline.measure(kernels, kind)
    answer = {
        "method": ROOF_METHOD, "engine": kernels.name, "threads": kernels.threads,
        "seconds": round(time.perf_counter() - began, 3), **dataclasses.asdict(rates),
    }  # fmt: skip
    sys.stdout.write(json.dumps(answer) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
