# SPDX-License-Identifier: Apache-2.0
"""The answer: the record schema, every stored field declared and documented here, of the machine in `surroundings`."""

from __future__ import annotations

import contextlib
import re
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Self

from pydantic import AfterValidator, Field, FiniteFloat, JsonValue, model_validator

from bench.records.cell import Cell, Json, Slug, Value
from bench.records.provenance import Merge, same_files
from bench.records.surroundings import Condition, Machine, Variability

SCHEMA_VERSION = 1
RunName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
"""Names a call of `bench run`, and a file of `results/`: no path."""
DATED = "%Y-%m-%dT%H:%M:%SZ"
"""How moments are written."""

WRITTEN = re.compile(r"[1-9]\d{3}-\d\d-\d\dT\d\d:\d\d:\d\dZ", re.ASCII)
"""The same as a pattern, of years that need no nought in front."""


def _moment(text: str) -> str:
    """A moment as every record writes it: views sort by it, and file names hold it."""
    if WRITTEN.fullmatch(text):
        with contextlib.suppress(ValueError):  # there is no such day: the slower reader says so
            datetime.fromisoformat(text)
            return text
    if datetime.strptime(text, DATED).strftime(DATED) != text:  # noqa: DTZ007 - UTC by its last letter
        raise ValueError("not written as 2026-01-31T23:59:59Z")
    return text


Moment = Annotated[str, AfterValidator(_moment)]
"""UTC, ISO 8601, to the second."""
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def moment(text: str) -> datetime:
    """A written moment as a time."""
    return datetime.strptime(text, DATED).replace(tzinfo=UTC)


class Unit(StrEnum):
    """One base unit for each quantity. Text such as "3.2 GiB" is only made for output."""

    BYTE = "byte"
    SECOND = "second"
    TOKEN = "token"  # noqa: S105 - a unit
    FRACTION = "fraction"
    """Between 0 and 1; a right or wrong item is 1.0 or 0.0. A change of a fraction may be negative."""
    NAT = "nat"
    """Natural-log units: log-likelihoods and KL divergence."""
    SCORE = "score"
    """A metric's own scale, as its task defines it: BLEU from 0 to 100, Matthews' coefficient from -1 to 1."""
    BIT = "bit"
    COUNT = "count"
    JOULE = "joule"
    USD = "usd"


class How(StrEnum):
    """How a figure was obtained: measured here, computed from other figures, or claimed by someone."""

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
    labels: dict[str, Json] = Field(default_factory=dict)
    """What the samples belong to: task, prompt tokens, batch, the item digest …"""

    @property
    def count(self) -> int:
        """How many samples there are."""
        return len(self.values)


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
    """A limit set by the user or a server ended it early; what was measured until then is kept."""
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


CUT = frozenset({"cut_by_budget", "items_cut"})
"""Kinds of caveats that say that the budget left something of a cell out."""
NO_WIDER_WEIGHTS = "no 16-bit weights of this checkpoint to compare with"
"""Why a checkpoint that was only published in 8 or 4 bits has no distance and no verdict."""


class Provenance(Value):
    """Which bytes were loaded."""

    source: str
    """Package and version, repository, folder name or `random`."""
    revision: str | None = None
    """Commit found, None if the source has none; of a merged model one for each name in `source`."""
    files: dict[str, str] = Field(default_factory=dict)
    """By name, `size:sha256-prefix` of each file that decides an answer: weights, configuration, tokenizer; in a merged
    model each is of its part (`base/config.json`, `1/adapter_config.json`). The prefix is of the first and last MiB, of
    a larger file a second one is of all of it. Older records hold weights alone, and the first prefix."""
    random: bool = False
    """True if the values are random: then nothing here says anything about quality."""
    stored_as: str | None = None
    """How the source stores its weights (`Q4_1`, `bfloat16` …; a scheme if its maker quantized it), None if unknown."""
    merges: tuple[Merge, ...] = ()
    """One for each adapter, in their order; empty where none was merged, and in older records."""

    def same_files(self, other: Provenance) -> bool:
        """Whether both were read from the very same files, as far as both tell."""
        return same_files(self.files, other.files)

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

    weights_bytes: int | None = Field(default=None, gt=0)
    kv_bytes: int | None = None
    workspace_bytes: int | None = None
    """Temporary buffers while the prompt is read."""
    peak_bytes: int | None = None
    """All of these, and what loading and the first pass leave in the process (`bench.plan.workspace.runtime_bytes`)."""
    baseline_bytes: int | None = None
    """The process with its libraries, on a GPU its driver context, before anything is loaded: no part of `peak_bytes`,
    but of what a limit counts (`bench.plan.baseline`). None in older records."""
    seconds: FiniteFloat | None = None
    context_tokens: int | None = None
    """Capacity alone: positions of the longest context that fits its budget."""
    batch: dict[str, int] | None = None
    """Capacity alone: the largest batch that does, by prompt tokens."""

    @property
    def needed_bytes(self) -> int | None:
        """The peak with the process itself: what a memory limit, or what is free, must hold. None without a peak."""
        return None if self.peak_bytes is None else self.peak_bytes + (self.baseline_bytes or 0)


CRUDE = "RLIMIT_DATA"
"""The mechanism whose outcome proves nothing: it counts what is never touched and misses what is mapped."""


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
    run: RunName
    """The call that asked for it."""
    cell: Cell
    outcome: Outcome
    started: Moment
    """When the cell began."""
    seconds: Seconds
    """Wall-clock seconds the suite took; for a load that failed, the load."""
    measurements: tuple[Measurement, ...] = ()
    texts: tuple[Text, ...] = ()
    warnings: tuple[Caveat, ...] = ()
    predicted: Prediction = Prediction()
    memory_limit: MemoryLimit | None = None
    """The hard limit it ran under, None if there was none. With a limit, `ok` proves that loading and work fit."""
    provenance: Provenance | None = None
    """None if loading never got that far."""
    threads: int | None = None
    """Threads the engine computed with."""
    budget_s: Seconds | None = None
    """Seconds of measuring that the call allowed all its cells together (`--budget`), None without an end."""
    machine: Machine
    before: Condition
    after: Condition
    versions: Versions
    variability: Variability | None = Field(default=None, exclude=True)
    """Never stored: what the runs beside it tell of its machine, joined on reading. None where there is one look."""
    ahead: bool = Field(default=False, exclude=True)
    """Never stored: whether it was dated in the future when it was read, by a clock that was ahead."""

    @property
    def cut(self) -> bool:
        """Whether the budget left something of this cell out."""
        return any(caveat.kind in CUT for caveat in self.warnings)

    @property
    def when(self) -> tuple[bool, str]:
        """What records are sorted by in time: those of a clock that was ahead come before all that others dated."""
        return not self.ahead, self.started

    def measurement(self, name: str, **labels: JsonValue) -> Measurement | None:
        """The measurement of that name whose labels include these, None if there is none."""
        for measurement in self.measurements:
            if measurement.name == name and labels.items() <= measurement.labels.items():
                return measurement
        return None


class Run(Value):
    """What is only known at the end of a run. Its records are on disk by then, so this is a separate file."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    """As a record's."""
    run: RunName
    """The call, as in its records."""
    device: Slug
    """As in `results/<device>/`."""
    ended: Moment
    """When the last record was on disk."""
    before: Condition
    """The very condition that this call's records hold; a call that went on with an interrupted run has its own."""
    after: Condition
    """When the last record was on disk."""
