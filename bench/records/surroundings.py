# SPDX-License-Identifier: Apache-2.0
"""The machine that measured, its state at one moment, and its measured limits (roof). Stored in every record."""

from __future__ import annotations

from statistics import median
from typing import Annotated

from pydantic import Field, FiniteFloat

from bench.records.cell import Value


class Machine(Value):
    """The machine. Fields that a platform does not report are None."""

    device: str
    """Slug: kind and model, as in `results/<device>/`."""
    kind: str
    """`cpu`, `cuda` or `mps`."""
    name: str
    """The device's own name."""
    os: str
    kernel: str
    python: str
    cpu: str
    cpu_flags: tuple[str, ...]
    """The instruction sets that matter to inference, sorted."""
    logical_cpus: int
    """CPUs this process may use, container limits and affinity included."""
    memory_bytes: int
    """Memory this process may use: the machine's, or the container's limit where smaller."""
    gpu_memory_bytes: int | None = None
    driver: str | None = None
    cuda: str | None = None
    unit: str | None = None
    """Which of several equal cards it is, as `cuda:1`; None where the first was taken without a choice."""


Rate = Annotated[float, Field(gt=0, lt=1e24, allow_inf_nan=False)]
"""A second: no device does nothing, and none a yotta of anything; both would end in a division."""
ROOF_METHOD = 2
"""How roofs are measured today. 1: square products of row-major matrices, and copies; a row may exceed such a roof, for
the layout decides; the median of the samples counts. 2: the best of the layouts and shapes that engines use, reading
weights too; the best sample counts, as in STREAM, for what another program slowed down says nothing of a roof."""


READ = "read "
"""Begins the name of the rate at which a type's weights are read, in `Roof.movable`."""


class Roof(Value):
    """What the device can do at most, as measured at one moment (`bench.instruments.roofline` says how)."""

    method: int = 1
    """Which ROOF_METHOD measured it; looks of different methods are not comparable. Older records do not say: 1."""
    engine: str
    """Library and version that copied and multiplied; `known` where the device is virtual."""
    threads: int | None = None
    """CPU threads it used, None on a GPU."""
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 0.0
    """What measuring it cost."""
    copy_bytes_per_s: tuple[Rate, ...] = ()
    """Samples of copy bandwidth, bytes read plus bytes written; empty if it could not be measured."""
    read_bytes_per_s: dict[str, tuple[Rate, ...]] = Field(default_factory=dict)
    """Samples of the bytes of weights a product of one row reads per second, by type; none in method 1."""
    matrix_per_s: dict[str, tuple[Rate, ...]] = Field(default_factory=dict)
    """Samples of operations per second of the fastest matrix product, by type: fp32, bf16, fp16, int8."""
    products: dict[str, str] = Field(default_factory=dict)
    """Which product that was: `linear 512x576x1536` is layout, tokens, inputs and outputs. None in method 1."""
    lacking: dict[str, str] = Field(default_factory=dict)
    """Why `copy`, a type, or `read` with a type has no samples."""

    def rates(self) -> dict[str, float]:
        """Of what has samples: `copy` in bytes per second, products by type in operations per second."""
        return self._of({"copy": self.copy_bytes_per_s, **self.matrix_per_s})

    def reads(self) -> dict[str, float]:
        """Bytes of weights read per second, by type."""
        return self._of(self.read_bytes_per_s)

    def _of(self, samples: dict[str, tuple[float, ...]]) -> dict[str, float]:
        rate = median if self.method == 1 else max
        return {name: rate(values) for name, values in samples.items() if values}

    def memory(self) -> float | None:
        """Bytes per second that memory sustains: the best of copying and of reading in any type. None if unknown."""
        copied = self.rates().get("copy")
        return max([*self.reads().values(), *([copied] if copied is not None else [])], default=None)

    def quantities(self) -> dict[str, float]:
        """What a row may use: `memory` in bytes per second, and the matrix rate of every type."""
        memory = self.memory()
        found = {name: rate for name, rate in self.rates().items() if name != "copy"}
        return found if memory is None else {"memory": memory, **found}

    def movable(self) -> dict[str, float]:
        """The same and, as `read TYPE`, the rate at which weights of each type are read: what moves between looks.

        Decoding depends on the type that it reads. What is the most that memory sustains may be copying, which doubled
        on one virtual machine from one look to the next while reading weights moved by 3 %.
        """
        return {**self.quantities(), **{f"{READ}{kind}": rate for kind, rate in self.reads().items()}}

    def comparable(self, other: Roof) -> bool:
        """Whether a difference between the two is the device's: same library, threads and method."""
        return (self.engine, self.threads, self.method) == (other.engine, other.threads, other.method)


class Variability(Value):
    """How far this machine's speed moves from one moment to another, as `bench.judge.variability` finds it."""

    looks: int
    """Roofs that tell it, of runs of this device."""
    shares: dict[str, FiniteFloat]
    """Half of the 95 % range as a share of the middle, by quantity: `memory`, and fp32, bf16, fp16, int8 products.
    Of roofs of method 1 `copy` instead of `memory`."""
    within: dict[str, FiniteFloat] = Field(default_factory=dict)
    """The same between the beginning and the end of one run, the mean of such runs; empty where none looked twice."""


class GpuCondition(Value):
    """The state of the GPU at one moment. None where the driver does not tell."""

    sm_mhz: int | None = None
    """Clock of its processors."""
    temperature_c: int | None = None
    """Degrees Celsius."""
    reasons: tuple[str, ...] | None = None
    """What holds its clocks below what it can: `power cap`, `thermal slowdown` …"""
    others: int | None = None
    """Processes that compute on it and are not ours; those of other containers may be hidden."""
    others_bytes: int | None = None
    """Memory they hold, as far as the driver tells."""
    used_bytes: int | None = None
    """Memory in use by everybody, the hidden and this process included."""
    busy: float | None = None
    """Share of the last moment (up to a second) in which somebody computed on it, between 0 and 1."""


class Condition(Value):
    """The state of the machine at one moment."""

    load_1min: float | None = None
    """Runnable processes, averaged over one minute; None where the platform has no such figure."""
    available_bytes: int
    cpu_mhz: float | None = None
    others_cpu: float | None = None
    """CPUs that other processes used: before a run over 0.2 s, after a cell since it began; None if nobody looked."""
    others: dict[str, float] = Field(default_factory=dict)
    """The busiest of them, by process name, in CPUs."""
    swap_used_bytes: int | None = None
    """Swap in use on the whole machine."""
    swapped_in_bytes: int | None = None
    """Bytes read back from swap since the machine started."""
    swapped_out_bytes: int | None = None
    """Bytes written to swap since the machine started."""
    on_battery: bool | None = None
    """None if there is no battery or it is not reported."""
    governor: str | None = None
    """CPU frequency governor and its driver; None if there is none, as in most virtual machines."""
    temperature_c: float | None = None
    """The hottest sensor, degrees Celsius."""
    throttle_count: int | None = None
    """How often heat has slowed the CPU package since the machine started."""
    container_cpus: float | None = None
    """CPUs that the control group's quota allows, None without one."""
    container_throttled: int | None = None
    """How often that quota has stopped this group."""
    niceness: int | None = None
    """Of the process that looked: above 0, whatever else computes comes first. None where there is no such thing, and
    in older records."""
    gpu: GpuCondition | None = None
    """None unless the device is a GPU whose driver answers."""
    roof: Roof | None = None
    """Only in the condition before a run and in the one after it, which its `Run` holds."""
