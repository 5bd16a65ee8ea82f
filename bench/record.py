# SPDX-License-Identifier: Apache-2.0
"""The answer: the record schema, the one place where every stored field is declared and documented."""

from __future__ import annotations

from enum import StrEnum
from typing import Self

from pydantic import Field, FiniteFloat, JsonValue, model_validator

from bench.cell import Cell, Value

SCHEMA_VERSION = 1


class Unit(StrEnum):
    """One base unit per dimension; text such as "3.2 GiB" exists only at the edge."""

    BYTE = "byte"
    SECOND = "second"
    TOKEN = "token"  # noqa: S105 - a unit
    FRACTION = "fraction"
    """Between 0 and 1; a right or wrong item is 1.0 or 0.0. A change of a fraction may be negative."""
    NAT = "nat"
    """Natural-log units: log-likelihoods and KL divergence."""
    BIT = "bit"
    COUNT = "count"
    JOULE = "joule"
    USD = "usd"


class How(StrEnum):
    """How a figure was obtained."""

    MEASURED = "measured"
    COMPUTED = "computed"
    CLAIMED = "claimed"


class Measurement(Value):
    """Raw samples of one quantity. Statistics are made on reading, never stored."""

    name: str
    """What was measured, its unit as suffix where one applies: `prefill_s`, `peak_bytes`, `acc`."""
    unit: Unit
    values: tuple[FiniteFloat, ...]
    """Every sample, in the order taken; finite."""
    how: How = How.MEASURED
    counter: str | None = None
    """The counter or method that gave it (`VmHWM`, `perf_counter`, `census` …), None where the suite says it."""
    labels: dict[str, JsonValue] = Field(default_factory=dict)
    """What the samples belong to: task, prompt tokens, batch, the item digest …"""


class Text(Value):
    """A text a model produced while it was measured, so that an empty or looping answer is seen."""

    name: str
    text: str
    sha256: str
    tokens: int


class Ending(StrEnum):
    """How a cell ended."""

    OK = "ok"
    DOES_NOT_FIT = "does_not_fit"
    UNSUPPORTED = "unsupported"
    TIMED_OUT = "timed_out"
    KILLED = "killed"
    STOPPED = "stopped"
    """A limit of the caller's or of a server ended it early; what was done until then is kept."""
    FAILED = "failed"

    @property
    def settled(self) -> bool:
        """Whether asking again would give the same answer."""
        return self in {Ending.OK, Ending.DOES_NOT_FIT, Ending.UNSUPPORTED}


class Outcome(Value):
    """An ending with its reason. A reason is required for every ending but `ok`."""

    ending: Ending
    reason: str = ""
    """One line for a table."""
    detail: str = ""
    """Traceback or the end of the worker's log, empty if there is none."""

    @model_validator(mode="after")
    def _has_reason(self) -> Self:
        if self.ending is not Ending.OK and not self.reason:
            raise ValueError(f"an outcome of {self.ending} needs a reason")
        return self


class Caveat(Value):
    """A typed warning that a table can print, with advice."""

    kind: str
    """`low_bit_grid`, `not_steady`, `empty_output`, `busy_machine` …"""
    text: str
    advice: str = ""


class Machine(Value):
    """What ran it. Fields a platform does not tell are None."""

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


class Roof(Value):
    """What the device can do at most, as measured at one moment (`bench.instruments.roofline` says how)."""

    engine: str
    """Library and version that copied and multiplied; `known` where the device is virtual."""
    threads: int | None = None
    """CPU threads it used, None on a GPU."""
    seconds: float = 0.0
    """What measuring it cost."""
    copy_bytes_per_s: tuple[FiniteFloat, ...] = ()
    """Samples of copy bandwidth, bytes read plus bytes written; empty if it could not be measured."""
    matrix_per_s: dict[str, tuple[FiniteFloat, ...]] = Field(default_factory=dict)
    """Samples of operations per second of a square matrix product, by type: fp32, bf16, fp16, int8."""
    lacking: dict[str, str] = Field(default_factory=dict)
    """Why `copy` or a type has no samples."""


class Wander(Value):
    """How far this machine's speed moves from one moment to another (`bench.wander` says how it is known)."""

    looks: int
    """Roofs that tell it, of runs of this device."""
    shares: dict[str, FiniteFloat]
    """Half of the 95 % range as a share of the middle, by quantity: `copy`, and fp32, bf16, fp16, int8 products."""


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
    """None where there is no battery, or none is told of."""
    governor: str | None = None
    """CPU frequency governor and its driver; None where there is none, as in most virtual machines."""
    temperature_c: float | None = None
    """The hottest sensor, degrees Celsius."""
    throttle_count: int | None = None
    """How often heat has slowed the CPU package since the machine started."""
    container_cpus: float | None = None
    """CPUs that the control group's quota allows, None without one."""
    container_throttled: int | None = None
    """How often that quota has stopped this group."""
    gpu: GpuCondition | None = None
    """None unless the device is a GPU whose driver answers."""
    roof: Roof | None = None
    """Only in the condition before a run and in the one after it, which its `Run` holds."""


NO_WIDER_WEIGHTS = "no 16-bit weights of this checkpoint to compare with"
"""Why what its maker published in 8 or 4 bits alone has no distance and no verdict."""


class Provenance(Value):
    """Which bytes were loaded."""

    source: str
    """Package and version, repository, folder name or `random`."""
    revision: str | None = None
    """Commit found, None if the source has none; of a merged model one for each name in `source`."""
    files: dict[str, str] = Field(default_factory=dict)
    """Weight file names and `size:sha256-prefix` of each (the whole file is hashed when made, else its head)."""
    random: bool = False
    """True if the values are random: then nothing here says anything about quality."""
    stored_as: str | None = None
    """How the source stores its weights (`Q4_1`, `bfloat16` …; a scheme if its maker quantized it), None if unknown."""

    def is_stored_in(self, scheme: str) -> bool:
        """Whether the weights were published in this very scheme: 16-bit ones of the same checkpoint do not exist."""
        return self.stored_as == scheme


class Versions(Value):
    """What measured it."""

    bench: str
    git: str | None
    """Revision of this project, `+` appended if the tree had changes; None outside a checkout."""
    suite_sha256: str
    """First 12 digits of the suite file's hash."""
    packages: dict[str, str]
    """Installed versions of the packages that can change a figure."""


class Prediction(Value):
    """What was expected before loading, kept beside what was found. None where nothing could be said."""

    weights_bytes: int | None = None
    kv_bytes: int | None = None
    workspace_bytes: int | None = None
    """Temporary buffers while the prompt is read."""
    peak_bytes: int | None = None
    """All of these, and what loading and the first pass leave in the process (`bench.workspace.runtime_bytes`)."""
    baseline_bytes: int | None = None
    """The process with its libraries, on a GPU its driver context, before anything is loaded: no part of `peak_bytes`,
    but of what a limit counts (`bench.baseline`). None in older records."""
    seconds: float | None = None
    context_tokens: int | None = None
    """Capacity alone: positions of the longest context that fits its budget."""
    batch: dict[str, int] | None = None
    """Capacity alone: the largest batch that does, by prompt tokens."""

    @property
    def needed_bytes(self) -> int | None:
        """The peak with the process itself: what a memory limit, or what is free, must hold. None without a peak."""
        return None if self.peak_bytes is None else self.peak_bytes + (self.baseline_bytes or 0)


class MemoryLimit(Value):
    """A hard limit that a process ran under."""

    bytes: int
    """What the process, or on a CPU the process tree, could have at most."""
    enforced_by: str
    """`cgroup v2`, `cgroup v1`, `systemd scope`, `RLIMIT_DATA`, `CUDA allocator`: they count differently."""
    highest_bytes: int | None = None
    """The most that was charged against it from the process's start on, on a GPU the driver's figure for the process;
    None where the mechanism does not tell."""


class Record(Value):
    """One answer: the cell, how it ended, the samples, and everything needed to believe them."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    id: str = Field(pattern=r"^[0-9a-f]{8}$")
    """Eight hexadecimal digits, unique within the device."""
    run: str
    """The call that asked for it."""
    cell: Cell
    outcome: Outcome
    started: str
    """UTC, ISO 8601, to the second."""
    seconds: float
    """Wall-clock seconds the suite took; for a load that failed, the load."""
    measurements: tuple[Measurement, ...] = ()
    texts: tuple[Text, ...] = ()
    warnings: tuple[Caveat, ...] = ()
    predicted: Prediction = Prediction()
    memory_limit: MemoryLimit | None = None
    """The hard limit it ran under, None without one. An `ok` then proves that load and work fit."""
    provenance: Provenance | None = None
    """None if loading never got that far."""
    threads: int | None = None
    """Threads the engine computed with."""
    machine: Machine
    before: Condition
    after: Condition
    versions: Versions
    wander: Wander | None = Field(default=None, exclude=True)
    """Never stored: what the runs beside it tell of its machine, joined on reading. None where there is one look."""

    def measurement(self, name: str, **labels: JsonValue) -> Measurement | None:
        """The measurement of that name whose labels include these, None if there is none."""
        for measurement in self.measurements:
            if measurement.name == name and labels.items() <= measurement.labels.items():
                return measurement
        return None


class Run(Value):
    """What only the end of a call tells. Records are on disk by then, so it has a file of its own."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    """As a record's."""
    run: str
    """The call, as in its records."""
    device: str
    """As in `results/<device>/`."""
    ended: str
    """UTC, ISO 8601, to the second."""
    before: Condition
    """The very condition that this call's records hold; a call that went on with an interrupted run has its own."""
    after: Condition
    """When the last record was on disk."""
