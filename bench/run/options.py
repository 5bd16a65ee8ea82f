# SPDX-License-Identifier: Apache-2.0
"""What the caller gives a runner: an observer of its progress, and the options and limits of its workers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import suites
from bench.engines.registry import backend
from bench.plan.questions import Planned
from bench.records.cell import Cell
from bench.records.owner import Owner
from bench.records.record import Record
from bench.units import parse_seconds

DEFAULT_BUDGET_S = 480.0
"""Seconds of measuring for each model and engine of a call that does not say: an answer within ten minutes, loading
included."""


PATIENCE = 30.0
"""Predictions are within a factor of two where a device has records, and within ten where it has none."""
MOST_PATIENCE = 1e6


def timeout(text: str) -> tuple[float | None, float]:
    """What `--timeout` says: seconds or None, and how many times the prediction. Raises ValueError."""
    if not text.strip():
        return None, PATIENCE
    times = re.fullmatch(r"\s*(\d{1,7}(?:\.\d{1,6})?)\s*x\s*", text, re.ASCII)
    if times is None:
        return parse_seconds(text), PATIENCE
    if not 1 <= float(times[1]) <= MOST_PATIENCE:
        raise ValueError(text)
    return None, float(times[1])


def default_budget_s(profile: str, cells: Iterable[Cell]) -> float | None:
    """The budget of a call without `--budget`, None without an end.

    Only the standard profile has one, for the suites that are measured where none is named: `smoke` is short anyway,
    `full` is asked for to have everything, capacity is a search, and what servers take is waiting.
    """
    asked = list(cells)
    if profile != "standard" or any(c.suite not in suites.DEFAULT or backend(c.backend).text_only for c in asked):
        return None
    return DEFAULT_BUDGET_S * len({(cell.model, cell.backend) for cell in asked})


def budget_s(text: str) -> float | None:
    """What `--budget` says: seconds, None for `none` and `0`. Raises ValueError."""
    return None if text.strip().lower() in {"none", "0"} else parse_seconds(text)


class Observer:
    """Hears what happens, to show it; what it does not look at is nothing to it."""

    def load(self, first: Planned) -> None:
        """A worker begins to load."""

    def cell(self, planned: Planned) -> None:
        """A cell begins."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Progress within a load or a cell; total 0 where unknown."""

    def record(self, record: Record) -> None:
        """A record is on disk."""

    def finishing(self, planned: Planned | None) -> None:
        """Nothing more begins after this cell: somebody asked for the end."""

    def again(self, cells: Sequence[Planned]) -> None:
        """There is time left for these, which were cut."""

    def undecided(self, cells: Sequence[Planned]) -> None:
        """The budget is spent, and these are not answered."""

    def elsewhere(self, cells: Sequence[Planned]) -> None:
        """Another process has answered these since the call began."""

    def waits(self, owner: Owner | None) -> None:
        """That process has what is left; None: no longer."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options and limits of the workers of one run."""

    timeout_s: float | None = None
    """Seconds that weights may take to be made ready, a load, or a cell; None for `patience` times its prediction."""
    patience: float = PATIENCE
    """How many times its predicted seconds each of them may take (`bench.run.limits`)."""
    threads: int | None = None
    """CPU threads of every load, None for the engine's own choice or `swept`."""
    swept: Mapping[tuple[str | int | None, ...], int] = field(default_factory=dict)
    """CPU threads by load key (`bench.run.threads`)."""
    request_seconds: Callable[[Record], float | None] | None = None
    """Given, every load's thread count is swept first where this machine does not know it yet: the count is best whose
    record this finds fastest."""
    budget_s: float | None = None
    """Seconds of measuring, loading apart, that all cells of the call share (`bench.run.budget`); None for no end."""
    whole_budget_s: float | None = None
    """What records say that the call allowed, where these cells have a part of it; None where they have it all."""
    cache_limit_bytes: int | None = None
    """What this machine's cache may hold when a load begins (`bench.run.evict`), None for no limit."""
    max_cost_usd: float | None = None
    """What the answers of paid APIs may cost in this call, None for no limit."""

    @property
    def stated_budget_s(self) -> float | None:
        """What records say that the call allowed all its cells together."""
        return self.budget_s if self.whole_budget_s is None else self.whole_budget_s

    def threads_of(self, cell: Cell) -> int | None:
        """CPU threads to compute this cell with, None for the engine's own choice."""
        return self.threads or self.swept.get(cell.load_key)
