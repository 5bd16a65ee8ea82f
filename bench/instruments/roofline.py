# SPDX-License-Identifier: Apache-2.0
"""What a device can do at most: copy bandwidth and the rate of square matrix products by type.

The yardstick of a run. Copying counts every byte twice, read and written, as STREAM does; the write that fetches a
line first is not counted, so a reader alone may come out a little above it. A matrix product of n counts 2 n^3
operations. Sizes grow until one product takes MATRIX_S; then products are repeated, WARM_S to warm up and BUDGET_S that
count, and every rate of those is kept as a sample.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import ModuleType
from typing import Protocol

BUDGET_S = 0.25
"""Seconds for each quantity: five of them, twice a run, and two starts of the library stay under 10 s."""
WARM_S = 0.1
"""Int8 products on a Xeon with AMX went from 1.8 to 3.4 Top/s within their first 40 ms, of 0.12 s that were samples."""
MATRIX_S = 0.02
LEAST_REPEATS, MOST_REPEATS = 3, 25
FIRST_SIZE = 256
LARGEST_SIZE = {"cpu": 2048, "cuda": 8192, "mps": 4096}
COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30, "mps": 512 << 20}
"""More than any last-level cache, so that memory is measured and not the cache."""
TYPES = ("fp32", "bf16", "fp16", "int8")


class Kernels(Protocol):
    """A library that can copy and multiply on one device."""

    name: str
    """Library and version."""
    threads: int | None

    def copy(self, size: int) -> Callable[[], object]:
        """A call that copies `size` bytes and returns when that is done."""

    def product(self, kind: str, n: int) -> Callable[[], object]:
        """A call that multiplies two n x n matrices of that type. Raises some error if it cannot."""


@dataclass(kw_only=True)
class Rates:
    """What was found, every sample."""

    copy_bytes_per_s: list[float] = field(default_factory=list)
    matrix_per_s: dict[str, list[float]] = field(default_factory=dict)
    lacking: dict[str, str] = field(default_factory=dict)
    """Why a quantity has no samples."""


def measure(kernels: Kernels, device: str, now: Callable[[], float] = time.perf_counter) -> Rates:
    """Copy bandwidth and the matrix rate of every type the library has on this device."""
    rates = Rates()
    size = COPY_BYTES[device]

    def copy() -> None:
        call = kernels.copy(size)
        call()  # touches the pages
        rates.copy_bytes_per_s = [2 * size / seconds for seconds in _repeat(call, now)]

    def multiply(kind: str) -> None:
        n, call = _sized(kernels, kind, LARGEST_SIZE[device], now)
        rates.matrix_per_s[kind] = [2 * n**3 / seconds for seconds in _repeat(call, now)]

    quantities: dict[str, Callable[[], None]] = {"copy": copy, **{kind: partial(multiply, kind) for kind in TYPES}}
    for name, quantity in quantities.items():
        try:
            quantity()
        except Exception as error:  # noqa: BLE001 - libraries raise anything; the other quantities still count
            rates.lacking[name] = _line(error)
    return rates


def _sized(kernels: Kernels, kind: str, largest: int, now: Callable[[], float]) -> tuple[int, Callable[[], object]]:
    """The smallest size whose product takes MATRIX_S, warmed up."""
    n = FIRST_SIZE
    while True:
        call = kernels.product(kind, n)
        call()
        start = now()
        call()
        if now() - start >= MATRIX_S or n >= largest:
            return n, call
        n *= 2


def _repeat(call: Callable[[], object], now: Callable[[], float]) -> list[float]:
    """Seconds of each call, for BUDGET_S after WARM_S, within LEAST_REPEATS and MOST_REPEATS."""
    samples: list[float] = []
    began = now()
    while now() - began < WARM_S:
        call()
    began = now()
    while len(samples) < LEAST_REPEATS or (len(samples) < MOST_REPEATS and now() - began < BUDGET_S):
        start = now()
        call()
        samples.append(now() - start)
    return samples


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:160]


class NumpyKernels:
    """Copies in as many threads as CPUs may be used, and BLAS in single precision: all that NumPy has."""

    def __init__(self, threads: int | None = None) -> None:
        import numpy as np

        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.np = np
        self.threads: int | None = threads or usable
        self.name = f"numpy {np.__version__}"

    def copy(self, size: int) -> Callable[[], object]:
        """Copy slices in parallel threads; NumPy releases the interpreter lock while it copies."""
        source, target = self.np.ones(size, self.np.uint8), self.np.empty(size, self.np.uint8)
        step = -(-size // (self.threads or 1))
        pairs = [(target[i : i + step], source[i : i + step]) for i in range(0, size, step)]
        pool = ThreadPoolExecutor(len(pairs))
        return lambda: list(pool.map(lambda pair: self.np.copyto(*pair), pairs))

    def product(self, kind: str, n: int) -> Callable[[], object]:
        """Single precision only."""
        if kind != "fp32":
            raise NotImplementedError("numpy multiplies matrices in fp32 alone")
        a, b = (self.np.full((n, n), value, self.np.float32) for value in (0.5, 0.25))
        out = self.np.empty_like(a)
        return lambda: self.np.matmul(a, b, out=out)


class TorchKernels:
    """Torch's own copy and matrix products, waited for."""

    def __init__(self, torch: ModuleType, device: str, threads: int | None = None) -> None:
        self.torch, self.device = torch, device
        if threads:
            torch.set_num_threads(threads)
        self.threads = int(torch.get_num_threads()) if device == "cpu" else None
        self.name = f"torch {torch.__version__}"
        self.wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device, lambda: None)

    def copy(self, size: int) -> Callable[[], object]:
        """One tensor into another."""
        source = self.torch.ones(size // 4, dtype=self.torch.float32, device=self.device)
        target = self.torch.empty_like(source)
        return lambda: (target.copy_(source), self.wait())

    def product(self, kind: str, n: int) -> Callable[[], object]:
        """`torch.matmul`, and `torch._int_mm` for int8 with int32 sums."""
        torch = self.torch
        names = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
        a, b = (torch.ones(n, n, dtype=names[kind], device=self.device) for _ in range(2))
        if kind == "int8":
            return lambda: (torch._int_mm(a, b.t()), self.wait())  # noqa: SLF001 - the only int8 product torch has
        return lambda: (torch.matmul(a, b), self.wait())
