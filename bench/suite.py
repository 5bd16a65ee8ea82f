# SPDX-License-Identifier: Apache-2.0
"""What a suite is given and how suites are found: the public face of `bench` towards `suites/`."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

from pydantic import JsonValue

from bench.engines.contract import Engine, NotFinite, TextEngine
from bench.instruments import Instruments, Reading
from bench.records.cell import Cell, Value
from bench.records.record import Caveat, How, Measurement, Prediction, Text, Unit
from bench.scoring.journal import Journal
from bench.scoring.task_files import unchanged


@dataclass(frozen=True, kw_only=True)
class Work:
    """What a suite will have the model do, from which seconds are predicted."""

    prefill_tokens: int
    """Tokens read in batches or long rows."""
    decode_tokens: int
    """Tokens generated one at a time."""
    compared_tokens: int = 0
    """Tokens read whose whole distributions are taken out of the model and compared, which costs by the vocabulary."""
    rounds: int = 0
    """Times that a suite begins anew: what each costs beside its tokens is not the model's."""
    answer_positions: int = 0
    """Positions of the longest answer with its prompt, where answers stand side by side; 0 where none is generated."""


class Pace(Value):
    """Seconds that one token takes, and what is done beside it."""

    prefill_s: float = 0.0
    """Of reading."""
    decode_s: float = 0.0
    """Of a decode step."""
    compared_s: float = 0.0
    """Of comparing one token's distribution, beside reading the token."""
    round_s: float = 0.0
    """Of beginning a round."""
    guess: bool = False
    """Whether no record of the device stands behind it."""

    def seconds(self, work: Work) -> float:
        """Of so much work."""
        tokens = work.prefill_tokens * self.prefill_s + work.decode_tokens * self.decode_s
        return tokens + work.compared_tokens * self.compared_s + work.rounds * self.round_s

    def times(self, factor: float) -> Pace:
        """So many times slower."""
        return Pace(
            prefill_s=factor * self.prefill_s, decode_s=factor * self.decode_s, compared_s=factor * self.compared_s,
            round_s=factor * self.round_s, guess=self.guess,
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Loading:
    """What loading cost, seen from outside the engine."""

    seconds: float
    baseline: Reading
    """Before loading, libraries imported."""
    peak: Reading
    """Highest from the start of loading to ready."""
    ready: Reading
    """Ready, nothing run yet but the backend's own one-token warm-up."""
    loaded: Reading
    """The same after freed memory went back to the system."""


class RestartWorker(Exception):
    """A suite asks to be called again in a process that has run nothing; what it knows is in its journal."""


class Spent(Protocol):
    """Whether a cell's share of the budget is spent."""

    def __call__(self, ahead_s: float = 0.0) -> bool:
        """Whether less than `ahead_s` seconds of the share are left."""


def no_end(ahead_s: float = 0.0) -> bool:
    """Without a budget no share is ever spent."""
    return False


@dataclass(kw_only=True)
class Answering:
    """One cell being answered: what every suite may use, and where it leaves what is not a measurement."""

    cell: Cell
    files: Mapping[str, str] = field(default_factory=dict)
    """Paths on this machine of what the settings name by hash: `text`, `task:NAME`."""
    phase: Callable[[str, int, int], None] = lambda name, done, total: None
    """Tell the person waiting: what, how many done, of how many."""
    spent: Spent = no_end
    """Whether this cell's share of the budget is spent, or would be after `ahead_s` more seconds.

    A suite works in rounds. It always does its stated minimum (`least`), and asks this before every further round, with
    the seconds that its last round took.
    """
    caveats: list[Caveat] = field(default_factory=list)
    texts: list[Text] = field(default_factory=list)

    def cut(self, text: str) -> None:
        """Say what the budget left out, in a caveat by which a later call knows that this cell was cut."""
        advice = "a larger --budget measures the rest, and --budget none all of it"
        self.caveats.append(Caveat(kind="cut_by_budget", text=text, advice=advice))

    @property
    def settings(self) -> Mapping[str, Any]:
        """The suite's flat settings for this profile."""
        return self.cell.settings

    @property
    def task_files(self) -> dict[str, str]:
        """Files of the caller's own tasks, by name. Raises UserError if they are no longer those that were planned."""
        found = {name.removeprefix("task:"): path for name, path in self.files.items() if name.startswith("task:")}
        unchanged(found, self.settings.get("tasks_sha256"))
        return found

    def keep_text(self, name: str, text: str, tokens: int) -> None:
        """Store a text the model produced, with its hash."""
        self.texts.append(Text(name=name, text=text, sha256=hashlib.sha256(text.encode()).hexdigest(), tokens=tokens))


@dataclass(kw_only=True)
class SuiteRun(Answering):
    """A cell answered by a model that is loaded here."""

    engine: Engine
    instruments: Instruments
    loading: Loading
    predicted: Prediction = field(default_factory=Prediction)
    """What was expected of this cell before anything was loaded."""
    deaths: int = 0
    """How often this call's processes were killed for memory while they answered this very cell."""
    used: bool = False
    """Whether this process has run anything but the load, which may show in later peaks."""
    renewable: bool = False
    """Whether `RestartWorker` is heard."""
    cache: Path
    """A folder of this machine for what can be computed again."""
    reference: Path | None = None
    """File with the reference's distributions for this cell, None if the suite needs none."""
    reference_reason: str | None = None
    """Why that cell ended without them in this call, None if it did not."""
    is_reference: bool = False
    """Whether this cell is the one others are compared with."""
    anchor: Path | None = None
    """File with the fp32 distributions that rows of every engine are compared with, None if the suite needs none."""
    is_anchor: bool = False
    """Whether this cell writes that file."""
    reference_items: Mapping[str, tuple[Measurement, ...]] = field(default_factory=dict)
    """By task, what the reference has answered of it on this device: its scores and choices, item by item. Empty for
    the reference itself, and where it has not been measured: then nothing is settled before its last item."""
    journal: Journal = field(default_factory=Journal)
    """What an interrupted attempt at this very cell has already scored."""

    def require_finite(self, finite: bool, where: str) -> None:
        """Raise NotFinite, naming the precision, unless the logits were numbers."""
        if not finite:
            raise NotFinite(f"NaN or infinite logits at {self.cell.precision} ({self.cell.scheme}): {where}")


@dataclass(kw_only=True)
class TextRun(Answering):
    """A cell answered by a model that someone else serves."""

    engine: TextEngine
    instruments: Instruments | None = None
    """What measures the server that this call has launched, None of a server that is somebody else's."""
    loading: Loading | None = None
    """How that server came to be there, None as well."""
    anchor: Path | None = None
    """Folder with the model's fp32 distributions on this machine, None where nothing is compared with them."""


class Method(Protocol):
    """What every suite's module declares."""

    VERSION: int
    """Raised when the same settings would no longer give comparable figures."""
    PROFILES: dict[str, dict[str, JsonValue]]
    __doc__: str

    def work(self, settings: Mapping[str, Any]) -> Work:
        """Tokens these settings need."""


class Suite(Method, Protocol):
    """A module of `suites/`: the method for a model that is loaded here."""

    def least(self, settings: Mapping[str, Any]) -> Work:
        """Tokens of the stated minimum, which is measured whatever the budget."""

    def done(self, settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
        """Tokens that a record's measurements show to have been worked on, counted as `work` counts them."""

    def measure(self, run: SuiteRun) -> list[Measurement]:
        """Measure. Raises DoesNotFit, Unsupported."""


class TextSuite(Method, Protocol):
    """A module of `suites/served/`: the suite of the same name for a model that someone else serves."""

    def measure(self, run: TextRun) -> list[Measurement]:
        """Measure. Raises Stopped, Unsupported, UserError."""


def measured(
    name: str,
    unit: Unit,
    values: Sequence[float] | float,
    *,
    how: How = How.MEASURED,
    counter: str | None = None,
    digits: int = 9,
    labels: Mapping[str, JsonValue] = MappingProxyType({}),
) -> Measurement:
    """A Measurement from one value or many, kept to `digits` significant digits.

    Raises ValueError when a value is not finite: a figure that is not a number is an error, not a sample.
    """
    samples = [float(v) for v in (values if isinstance(values, Sequence) else [values])]
    if not all(map(math.isfinite, samples)):
        raise ValueError(f"{name}: a sample is not finite")
    whole = unit in {Unit.BYTE, Unit.TOKEN, Unit.COUNT}
    kept = tuple(v if whole else float(f"{v:.{digits}g}") for v in samples)
    return Measurement(name=name, unit=unit, values=kept, how=how, counter=counter, labels=dict(labels))
