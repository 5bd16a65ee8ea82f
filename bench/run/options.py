# SPDX-License-Identifier: Apache-2.0
"""What the caller gives a runner: an observer of its progress, and the options and limits of its workers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.plan.plan import Planned
from bench.records.cell import Cell
from bench.records.record import Record


class Observer(Protocol):
    """Hears what happens, to show it."""

    def load(self, first: Planned) -> None:
        """A worker begins to load."""

    def cell(self, planned: Planned) -> None:
        """A cell begins."""

    def phase(self, name: str, done: int, total: int) -> None:
        """Progress within a load or a cell; total 0 where unknown."""

    def record(self, record: Record) -> None:
        """A record is on disk."""

    def undecided(self, cells: Sequence[Planned]) -> None:
        """The budget is spent, and these are not answered."""


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Options and limits of the workers of one run."""

    timeout_s: float | None = None
    """Seconds one load or one cell may take, None for a generous multiple of its prediction."""
    threads: int | None = None
    """CPU threads of every load, None for the engine's own choice or `swept`."""
    swept: Mapping[tuple[str | int | None, ...], int] = field(default_factory=dict)
    """CPU threads by load key (`bench.run.threads`)."""
    request_seconds: Callable[[Record], float | None] | None = None
    """Given, every load's thread count is swept first where this machine does not know it yet: the count is best whose
    record this finds fastest."""
    budget_s: float | None = None
    """Seconds of measuring, loading apart, that all cells of the call share (`bench.run.budget`); None for no end."""
    max_cost_usd: float | None = None
    """What the answers of paid APIs may cost in this call, None for no limit."""

    def threads_of(self, cell: Cell) -> int | None:
        """CPU threads to compute this cell with, None for the engine's own choice."""
        return self.threads or self.swept.get(cell.load_key)
