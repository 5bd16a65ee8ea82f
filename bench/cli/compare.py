# SPDX-License-Identifier: Apache-2.0
"""`bench compare`: rows side by side, with verdicts."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import NO_RECORDS, Format, print_flat, print_lines, print_notes, print_parts, print_views
from bench.cli.options import Rows, View
from bench.cli.stored import Stored, matching
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judge.compare import Alone, Comparison
    from bench.judge.rows import Row

MARGIN = 0.01
"""Share of the score above chance that may be lost, unless the caller says another."""


class Across(StrEnum):
    """What may differ between rows that stand side by side."""

    BACKEND = "backend"
    KV = "kv"


@dataclass(frozen=True, kw_only=True)
class Comparing:
    """How to compare."""

    across: Annotated[
        str, typer.Option("--across", help="backend: engines of a model side by side; kv: its caches.", metavar="WHAT")
    ] = ""
    against: Annotated[
        str,
        typer.Option(
            "--against", help="Another result set: a folder, or a revision of this one.", metavar="REV|FOLDER"
        ),
    ] = ""
    per_byte: Annotated[bool, typer.Option("--per-byte", help="Models by size: score for each byte.")] = False
    margin: Annotated[
        float,
        typer.Option(
            "--margin",
            help="Loss that counts as none, of score or perplexity.",
            min=0.0001,
            max=0.5,
            metavar="SHARE",
        ),
    ] = MARGIN
    details: Annotated[
        bool, typer.Option("--details", help="Task by task too, with flips, p values and generated answers.")
    ] = False


def compare(asked: Rows, comparing: Comparing, output: View) -> None:
    """Compare each precision with the same model's own 16-bit row on the same device, or engines with each other.

    Example: bench compare --model 'smollm2-*' --across backend
    """
    if comparing.across and comparing.across not in list(Across):
        raise UserError(f"nothing to compare across {comparing.across!r}", f"one of: {', '.join(Across)}")
    stored = Stored(output.results)
    rows = stored.rows()
    if comparing.against:
        _print_against(matching(rows, asked), asked, comparing, output)
    elif comparing.across == Across.KV:
        print_caches(matching(rows, asked), output.format)
    elif comparing.across:
        _print_across(matching(rows, asked), output.format)
    elif comparing.per_byte:
        _print_per_byte(matching(rows, asked), output.format, comparing.margin)
    else:
        from bench.views import comparison

        # A row needs its reference beside it, so precision and scheme choose only after the pairing.
        rows = matching(rows, replace(asked, precision=[], scheme=[]))
        found, alone = _compared(rows, comparing.margin)
        chosen = {id(row) for row in matching(rows, asked)}
        found = [item for item in found if id(item.row) in chosen]
        print_comparisons(found, output.format, comparing, every=output.warnings)
        if not output.format.flat:
            print_lines([*comparison.lines(alone), *_marks(found, alone)], output.format)
        if not found and not alone and not output.format.flat:
            print_lines([NO_RECORDS])
    stored.finish()


def _compared(rows: Sequence[Row], margin: float) -> tuple[list[Comparison], list[Alone]]:
    import suites
    from bench.judge.compare import compare as paired
    from bench.judge.rows import with_any

    return paired(with_any(rows, suites.DEFAULT), margin)


def print_answer(rows: Sequence[Row]) -> list[Row]:
    """What `bench run` ends with: the answer and its two tables; returns the rows that it cannot compare."""
    from bench.views import comparison

    found, alone = _compared(rows, MARGIN)
    print_comparisons(found, Format.TABLE, Comparing())
    print_lines([*comparison.lines(alone), *_marks(found, alone)])
    told = {id(row) for item in found for row in (item.row, item.reference)}
    return [row for row in rows if id(row) not in told]


def _marks(found: Sequence[Comparison], alone: Sequence[Alone]) -> list[str]:
    """What the marks of weights that share a name stand for."""
    from bench.views.footnotes import checkpoint_notes

    return checkpoint_notes([*(item.row for item in found), *(item.row for item in alone)])


def print_comparisons(found: Sequence[Comparison], form: Format, comparing: Comparing, *, every: bool = False) -> None:
    """The answer in words, two tables, and with `--details` everything else; `every` warning in full."""
    from bench.judge.answer import answers
    from bench.views import answer, answer_tables, comparison, warnings

    judged = answers(found, comparing.margin)
    if form.flat:
        print_flat(comparison.flats(judged), form)
        return
    print_parts(answer.parts(judged, run_command()), form)
    print_views(answer_tables.views(judged, comparing.margin), form)
    if comparing.details:
        print_views(comparison.details(found, comparing.margin), form)
    if every:
        print_notes(warnings.every([item.row for item in found]), form)


def run_command(*, serve: bool = False) -> Callable[[Row], str | None]:
    """What runs a row of a catalogue entry, in the words of its engine; `serve`: what serves it, where it can."""
    from bench.catalog.entries import read_catalog
    from bench.engines.registry import backend, backend_names
    from bench.paths import CATALOG

    models = {model.name: model for model in read_catalog(CATALOG)}

    def command(row: Row) -> str | None:
        model = models.get(row.model)
        measured = next(((r.provenance, r.cell) for r in row.records.values() if r.provenance), None)
        if model is None or measured is None or row.backend not in backend_names():
            return None
        engine = backend(row.backend)
        found = (engine.serve(model, *measured) if serve else None) or engine.command(model, *measured)
        return found.replace("python -c", f"{_python()} -c", 1) if found else None

    return command


def _python() -> str:
    """This interpreter as one types it: it has the libraries that were measured, another may not."""
    own, usual = Path(sys.executable), shutil.which("python")
    if usual and Path(usual).parent == own.parent:
        return "python"
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else str(own)


def _print_against(rows: Sequence[Row], asked: Rows, comparing: Comparing, output: View) -> None:
    """What became of every row since, or elsewhere."""
    from bench.cli.other_results import other_results
    from bench.judge.against import against
    from bench.views import against as view

    with other_results(comparing.against, output.results) as other:  # its records are read as they are shown
        found, lone = against(rows, matching(other.rows(), asked), comparing.margin)
        other.index.save()
        if output.format.flat:
            print_flat(view.flats(found), output.format)
            return
        nothing = "nothing to compare: no row has new records of the same question"
        print_lines([view.summary(found) if found else nothing])
        print_views(view.views(found), output.format)
        print_lines(view.lines(found, lone), output.format)


def _print_per_byte(rows: Sequence[Row], form: Format, margin: float) -> None:
    """Models in the order of their size, with their score for each byte."""
    from bench.judge.score_per_byte import score_per_byte as ranked
    from bench.views import score_per_byte
    from bench.views.footnotes import checkpoint_notes

    rankings, unranked = ranked(rows, margin)
    if form.flat:
        print_flat(score_per_byte.flats(rankings), form)
        return
    print_views(score_per_byte.views(rankings), form)
    print_lines([*score_per_byte.lines(unranked), *checkpoint_notes(rows)], form)
    if not rankings and not unranked:
        print_lines([NO_RECORDS])


def print_caches(rows: Sequence[Row], form: Format) -> None:
    """What keys and values are kept in, side by side."""
    from bench.judge.caches import caches_side_by_side
    from bench.views import caches

    groups = caches_side_by_side(rows)
    if form.flat:
        print_flat(caches.flats(groups), form)
        return
    print_views(caches.views(groups), form)
    if not groups:
        print_lines([caches.NOTHING])


def _print_across(rows: Sequence[Row], form: Format) -> None:
    """The engines of each model side by side."""
    import suites
    from bench.judge.cross_engine import engines_side_by_side
    from bench.judge.rows import with_any
    from bench.views import cross_engine

    groups, alone = engines_side_by_side(with_any(rows, suites.DEFAULT))
    if form.flat:
        print_flat(cross_engine.flats(groups), form)
        return
    print_views(cross_engine.views(groups), form)
    print_lines(cross_engine.lines(alone), form)
    if not rows:
        print_lines([NO_RECORDS])
