# SPDX-License-Identifier: Apache-2.0
"""What a device can do at most: what its memory sustains, and the rate of matrix products by type.

The yardstick of a run, so it has to be above whatever a model reaches. Which rate a library reaches depends on the
layout and the shape it is asked in: on a CPU without 16-bit units torch multiplies bfloat16 row-major matrices ten
times slower than the same matrices as `F.linear` gets them. So every type is tried in the layouts and shapes that
engines use, from small to large, and the best is measured: a product of m x k and k x n counts 2 m k n operations.
On reading the best sample counts, as in STREAM: what another program slowed down says nothing of a roof.

Memory is asked twice. Copying counts every byte twice, read and written, as STREAM does; the write that fetches a line
first is not counted, so a reader alone may come out above it. Therefore a product of one row is timed too, as in
decoding, over weights that no cache holds, by type: it counts the bytes of the weights.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import cycle
from types import ModuleType
from typing import Any, Protocol

BUDGET_S = 0.15
"""Seconds of samples for each quantity: nine of them, trials and a start of torch take 3 s, twice a run."""
READ_S = 0.08
WARM_S = 0.1
"""Int8 products on a Xeon with AMX went from 1.8 to 3.4 Top/s within their first 40 ms, of 0.12 s that were samples.
Trials of other shapes warm the unit up too."""
LONGEST_S = 0.06
"""No product is tried that is expected to take longer: on a CPU that emulates a type the small ones tell enough."""
TRIAL_S, TRIAL_CALLS = 0.02, 5
HOPELESS = 4.0
"""A layout this many times slower than another at the same shape is not tried at larger ones."""
LEAST_REPEATS, MOST_REPEATS = 3, 25

Shape = tuple[int, int, int]
"""Tokens, inputs and outputs of a linear layer."""
SHAPES: tuple[Shape, ...] = (
    (128, 256, 256), (128, 576, 576), (256, 576, 1536), (512, 576, 1536), (512, 1536, 576), (512, 2048, 2048),
)  # fmt: skip
"""Linear layers of small models while a prompt is read, SmolLM2-135M's among them; each at most six times the work of
the one before, so that its seconds can be told from that."""
LARGER_SHAPES: dict[str, tuple[Shape, ...]] = {
    "cpu": ((2048, 2048, 2048),),
    "cuda": ((2048, 4096, 4096), (8192, 8192, 8192)),
    "mps": ((2048, 4096, 4096),),
}
COPY_BYTES = {"cpu": 256 << 20, "cuda": 1 << 30, "mps": 512 << 20}
"""More than any last-level cache, so that memory is measured and not the cache."""
READ_WIDTH = 2048
"""Inputs of the layer that a single row is multiplied with. It is one tall matrix, as a head is: many small ones would
measure how long starting a kernel takes."""
SLICES = 4
"""A sample reads so much of the weights; the next one reads on, so that none finds its own in a cache."""
TYPES = ("fp32", "bf16", "fp16", "int8")
FILLING = 0x3C
"""A byte that repeated is a normal number near 1 or 0.01 in every type: denormal ones would be slow."""


class Kernels(Protocol):
    """A library that can copy and multiply on one device."""

    name: str
    """Library and version."""
    threads: int | None
    layouts: tuple[str, ...]
    """How the weights of a product may lie: `linear` is [out, in], multiplied transposed; `matmul` is [in, out]."""

    def copy(self, size: int) -> Callable[[], object]:
        """A call that copies `size` bytes and returns when that is done."""

    def product(self, kind: str, layout: str, shape: Shape) -> Callable[[], object]:
        """A call that multiplies matrices of that type. Raises some error if it cannot."""

    def read(self, kind: str, size: int) -> Callable[[], object]:
        """A call that multiplies one row with the next of SLICES parts of `size` bytes of weights. Raises likewise."""


@dataclass(kw_only=True)
class Rates:
    """What was found, every sample."""

    copy_bytes_per_s: list[float] = field(default_factory=list)
    read_bytes_per_s: dict[str, list[float]] = field(default_factory=dict)
    matrix_per_s: dict[str, list[float]] = field(default_factory=dict)
    products: dict[str, str] = field(default_factory=dict)
    """Layout and shape of the product that was the fastest of its type."""
    lacking: dict[str, str] = field(default_factory=dict)
    """Why a quantity has no samples."""


def measure(kernels: Kernels, device: str, now: Callable[[], float] = time.perf_counter) -> Rates:
    """What memory sustains, and the matrix rate of every type the library has on this device."""
    rates = Rates()
    size, shapes = COPY_BYTES[device], SHAPES + LARGER_SHAPES[device]

    def copy() -> None:
        call = kernels.copy(size)
        call()  # touches the pages
        rates.copy_bytes_per_s = [2 * size / seconds for seconds in _repeat(call, now, BUDGET_S)]

    def multiply(kind: str) -> None:
        rates.products[kind], rates.matrix_per_s[kind] = _matrix_rate(kernels, kind, shapes, now)

    def read(kind: str) -> None:
        if kind in rates.lacking:  # what cannot multiply matrices is no type to read weights in
            return
        call = kernels.read(kind, size)
        call()
        rates.read_bytes_per_s[kind] = [size / SLICES / seconds for seconds in _repeat(call, now, READ_S)]

    quantities: dict[str, Callable[[], None]] = {"copy": copy}
    for kind in TYPES:
        quantities |= {kind: partial(multiply, kind), f"read {kind}": partial(read, kind)}
    for name, quantity in quantities.items():
        try:
            quantity()
        except Exception as error:  # noqa: BLE001 - libraries raise anything; the other quantities still count
            rates.lacking[name] = _line(error)
    return rates


def _matrix_rate(
    kernels: Kernels, kind: str, shapes: tuple[Shape, ...], now: Callable[[], float]
) -> tuple[str, list[float]]:
    """Layout and shape of the fastest product of a type, and samples of its operations per second."""
    began = now()
    layout, shape = _fastest(kernels, kind, shapes, now)
    call = kernels.product(kind, layout, shape)
    call()
    while now() - began < WARM_S:
        call()
    samples = [_operations(shape) / seconds for seconds in _repeat(call, now, BUDGET_S)]
    return f"{layout} {'x'.join(map(str, shape))}", samples


def _fastest(kernels: Kernels, kind: str, shapes: tuple[Shape, ...], now: Callable[[], float]) -> tuple[str, Shape]:
    """The layout and shape that does most operations a second, tried from small to large while that is quick."""
    best: dict[tuple[str, Shape], float] = {}
    growths = {layout: _Growth() for layout in kernels.layouts}
    for shape in shapes:
        amount, tried = _operations(shape), {}
        for layout, growth in growths.items():
            if growth.expected(amount) <= LONGEST_S:
                tried[layout] = _trial(kernels.product(kind, layout, shape), now)
                growth.add(amount, tried[layout])
                best[layout, shape] = tried[layout] / amount
        growths = {
            layout: growths[layout] for layout, seconds in tried.items() if seconds <= HOPELESS * min(tried.values())
        }
    return min(best, key=best.__getitem__)


class _Growth:
    """How a product's seconds grow with its work.

    From the last two: where others compute, each call waits for its threads however small it is.
    """

    def __init__(self) -> None:
        self.amount = self.seconds = self.slope = 0.0

    def add(self, amount: float, seconds: float) -> None:
        """What a product of so many operations took."""
        if self.amount and amount > self.amount:
            self.slope = max(0.0, (seconds - self.seconds) / (amount - self.amount))
        self.amount, self.seconds = amount, seconds

    def expected(self, amount: float) -> float:
        """Seconds of a product of so many."""
        return self.seconds + self.slope * (amount - self.amount)


def _trial(call: Callable[[], object], now: Callable[[], float]) -> float:
    """The least seconds of a few calls, the first alone where that is slow: it may have to prepare something."""
    least, spent, calls = math.inf, 0.0, 0
    while calls < TRIAL_CALLS and (spent < TRIAL_S or (calls == 1 and least <= LONGEST_S)):
        start = now()
        call()
        seconds = now() - start
        least, spent, calls = min(least, seconds), spent + seconds, calls + 1
    return least


def _operations(shape: Shape) -> int:
    return 2 * math.prod(shape)


def _repeat(call: Callable[[], object], now: Callable[[], float], budget: float) -> list[float]:
    """Seconds of each call, for `budget` seconds, within LEAST_REPEATS and MOST_REPEATS."""
    samples: list[float] = []
    began = now()
    while len(samples) < LEAST_REPEATS or (len(samples) < MOST_REPEATS and now() - began < budget):
        start = now()
        call()
        samples.append(now() - start)
    return samples


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".split("\n")[0][:160]


class NumpyKernels:
    """Copies in as many threads as CPUs may be used, and BLAS in single precision: all that NumPy has."""

    layouts: tuple[str, ...] = ("linear", "matmul")

    def __init__(self, threads: int | None = None) -> None:
        import numpy as np

        usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        self.np = np
        self.threads: int | None = threads or usable
        self.name = f"numpy {np.__version__}"

    def copy(self, size: int) -> Callable[[], object]:
        """Copy slices in parallel threads; NumPy releases the interpreter lock while it copies."""
        source, target = self.np.full(size, FILLING, self.np.uint8), self.np.empty(size, self.np.uint8)
        step = -(-size // (self.threads or 1))
        pairs = [(target[i : i + step], source[i : i + step]) for i in range(0, size, step)]
        pool = ThreadPoolExecutor(len(pairs))
        return lambda: list(pool.map(lambda pair: self.np.copyto(*pair), pairs))

    def product(self, kind: str, layout: str, shape: Shape) -> Callable[[], object]:
        """Single precision only."""
        self._check(kind)
        tokens, inputs, outputs = shape
        rows = self.np.full((tokens, inputs), 0.5, self.np.float32)
        weights = self.np.full((outputs, inputs) if layout == "linear" else (inputs, outputs), 0.25, self.np.float32)
        out = self.np.empty((tokens, outputs), self.np.float32)
        return lambda: self.np.matmul(rows, weights.T if layout == "linear" else weights, out=out)

    def read(self, kind: str, size: int) -> Callable[[], object]:
        """The product of a matrix and a vector."""
        self._check(kind)
        weights = self.np.full(size, FILLING, self.np.uint8).view(self.np.float32).reshape(-1, READ_WIDTH)
        row, parts = self.np.ones(READ_WIDTH, self.np.float32), cycle(self.np.split(weights, SLICES))
        return lambda: next(parts) @ row

    @staticmethod
    def _check(kind: str) -> None:
        if kind != "fp32":
            raise NotImplementedError("numpy multiplies matrices in fp32 alone")


class TorchKernels:
    """Torch's own copy and matrix products, waited for."""

    layouts: tuple[str, ...] = ("linear", "matmul")

    def __init__(self, torch: ModuleType, device: str, threads: int | None = None) -> None:
        self.torch, self.device = torch, device
        if threads:
            torch.set_num_threads(threads)
        torch.set_grad_enabled(False)
        self.threads = int(torch.get_num_threads()) if device == "cpu" else None
        self.name = f"torch {torch.__version__}"
        self.wait = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}.get(device, lambda: None)
        self.types = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16, "int8": torch.int8}
        self.filled = torch.empty(0, dtype=torch.uint8)

    def copy(self, size: int) -> Callable[[], object]:
        """One tensor into another."""
        source = self._filled(size).view(self.torch.float32)
        target = self.torch.empty_like(source)
        return lambda: (target.copy_(source), self.wait())

    def product(self, kind: str, layout: str, shape: Shape) -> Callable[[], object]:
        """`F.linear` as transformers asks for it, or `torch.matmul`; for int8 `torch._int_mm`, as bitsandbytes does."""
        tokens, inputs, outputs = shape
        size = (outputs, inputs) if layout == "linear" else (inputs, outputs)
        rows, weights = (
            self.torch.ones(*s, dtype=self.types[kind], device=self.device) for s in ((tokens, inputs), size)
        )
        multiply = self._multiply(kind, layout)
        return lambda: (multiply(rows, weights), self.wait())

    def read(self, kind: str, size: int) -> Callable[[], object]:
        """The product that decoding asks of a layer."""
        weights = self._filled(size).view(self.types[kind]).view(-1, READ_WIDTH)
        row = self.torch.ones(1, READ_WIDTH, dtype=self.types[kind], device=self.device)
        multiply, parts = self._multiply(kind, "linear"), cycle(weights.chunk(SLICES))
        return lambda: (multiply(row, next(parts)), self.wait())

    def _multiply(self, kind: str, layout: str) -> Callable[[Any, Any], object]:
        torch = self.torch
        if kind == "int8":  # the only int8 product torch has, with int32 sums
            return lambda rows, weights: torch._int_mm(rows, weights.t() if layout == "linear" else weights)  # noqa: SLF001
        multiply: Callable[[Any, Any], object] = torch.nn.functional.linear if layout == "linear" else torch.matmul
        return multiply

    def _filled(self, size: int) -> Any:
        """The same bytes for every call: touching fresh pages takes longer than reading them."""
        if len(self.filled) != size:
            self.filled = self.torch.full((size,), FILLING, dtype=self.torch.uint8, device=self.device)
        return self.filled
