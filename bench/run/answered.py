# SPDX-License-Identifier: Apache-2.0
"""What a call remembers of a record that is on disk: how its cell ended. Whole records of a week would fill it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from bench.records.cell import Cell
from bench.records.record import Ending, Outcome, Record

OK = Outcome(ending=Ending.OK)
"""One object for all that went well."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """A cell that has its record."""

    cell: Cell
    run: str
    started: str
    """As in the record."""
    seconds: float
    outcome: Outcome
    """Without its detail, which may be a worker's whole log."""
    loaded: bool
    """Whether an engine had loaded the model."""
    cut: bool
    """Whether there was less time than its suite asks for."""

    @classmethod
    def of(cls, record: Record, cell: Cell | None = None) -> Self:
        """`cell` is the record's own as the plan holds it already."""
        ended = record.outcome
        return cls(
            cell=cell or record.cell, run=record.run, started=record.started, seconds=record.seconds,
            outcome=OK if ended == OK else ended.model_copy(update={"detail": ""}),
            loaded=record.provenance is not None, cut=record.cut,
        )  # fmt: skip
