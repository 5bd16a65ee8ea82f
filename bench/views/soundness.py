# SPDX-License-Identifier: Apache-2.0
"""Whether all that views, plans and comparisons make of one record can be made. Pure.

The schema says what a field may hold, and cannot say all that a figure needs of it: as many items as hashes, a batch
that is a number, a reference that is not zero. So everything is made once of the record alone, compared with itself;
whatever that raises is the record's fault, and it is left out by name before it ends a table of all the others.
"""

from __future__ import annotations

from bench.catalog.model import Claim, Kind, Model, Quantity
from bench.judge.answer import answers
from bench.judge.claims import judge
from bench.judge.compare import against, compare
from bench.judge.cross_engine import Group
from bench.judge.joined import joined
from bench.judge.kept import once
from bench.judge.rows import Row, newest
from bench.judge.score_per_byte import score_per_byte
from bench.plan.seconds import Estimator
from bench.records.cell import Cell
from bench.records.record import Record, Run
from bench.views import answer, answer_tables, comparison, cross_engine, formats, layout, listings, table, warnings
from bench.views import claims as claim_views
from bench.views.columns import COLUMNS, PREDICTED
from bench.views.footnotes import footnotes
from bench.views.formats import Table

LONGEST = 200
MARGIN = 0.01


def fault(record: Record) -> str:
    """What goes wrong with a record, in a line; empty if nothing does."""
    try:
        with once():
            _made(record)
    except Exception as error:  # noqa: BLE001 - whatever it is, it is this record's alone
        return " ".join(f"{type(error).__name__}: {error}".split())[:LONGEST]
    return ""


def _made(record: Record) -> None:
    """Everything, of the record as the only one there is."""
    (seen,) = joined([record], [Run(run=record.run, device=record.cell.device, ended=record.started,
                                    before=record.before, after=record.after)])  # fmt: skip
    (row,) = newest([seen])
    _shown(row, seen)
    _compared(row)
    _judged(seen, _model(record.cell))
    _planned(seen, _model(record.cell))


def _shown(row: Row, record: Record) -> None:
    """Every column, listing, footnote and key."""
    _written(table.people([row], (*COLUMNS, *PREDICTED)))
    footnotes([row], tuple(COLUMNS))
    warnings.every([row])
    formats.to_json([table.flat(record)])
    for listing in listings.LISTINGS.values():
        if listing.suite in row.records:
            _written(listing.table([row]))


def _written(made: Table) -> None:
    layout.widths(layout.shown(made), 0)


def _compared(row: Row) -> None:
    """With itself: then whatever two records must have in common is there."""
    judged = answers([against(row, row)])
    answer.parts(judged)
    for view in (*answer_tables.views(judged, MARGIN), *comparison.details([judged[0].comparison], MARGIN)):
        _written(view.table)
    comparison.flats(judged)
    compare([row])
    score_per_byte([row])
    beside = [Group(device=row.device, model=row.model, weights=row.weights, rows=(row,))]
    cross_engine.flats(beside)
    for view in cross_engine.views(beside):
        _written(view.table)


def _judged(record: Record, model: Model) -> None:
    """By a claim of each quantity that is measured."""
    claim_views.people(judge([model], [record], lambda model, claim: None))


def _planned(record: Record, model: Model) -> None:
    """What a plan learns of how long cells take."""
    here = record.machine.model_copy(update={"kind": "cpu", "device": record.cell.device})
    Estimator(here, [record], [model])


def _model(cell: Cell) -> Model:
    """An entry of that name, with a claim of each quantity that is measured."""
    measured = (Quantity.PEAK, Quantity.WEIGHTS, Quantity.DECODE)
    stated = tuple(
        Claim(id="any", text="", source="", quantity=quantity, precision=cell.precision, at_most=1.0, tokens=1)
        for quantity in measured
    )
    return Model(name=cell.model, display="", family="any", organisation="", kind=Kind.OPEN, claims=stated)
