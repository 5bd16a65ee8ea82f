# SPDX-License-Identifier: Apache-2.0
"""`bench recommend`: which model at which precision, under what one can spend and lose."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.compare import run_command
from bench.cli.console import Format, out, print_flat, print_lines, print_title, print_views
from bench.cli.options import Output, Rows, split
from bench.cli.run import RunCells, RunHow, RunLimits, RunOutput, measure
from bench.cli.stored import Stored, matching
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.judge.recommend import Limits as Wanted
    from bench.judge.recommendation import Recommended
    from bench.judge.rows import Row
    from bench.views.recommend import Guess

PIPE_WIDTH = 100
MOST_LOSS = 0.5
BEST_FIRST = ("fp16", "int8", "int4")
"""The order in which --measure tries the precisions of a model."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """Limits."""

    memory: Annotated[
        str,
        typer.Option(
            "--memory", help="What the process may hold: 12GB, 12GiB, 512M.", show_default=False, metavar="SIZE"
        ),
    ] = ""
    min_decode: Annotated[
        float | None, typer.Option("--min-decode", help="Tokens a second, at least.", min=0, metavar="RATE")
    ] = None
    max_loss: Annotated[
        str,
        typer.Option(
            "--max-loss", help="Loss against 16 bits, at most: 1% or 0.01.", show_default=False, metavar="SHARE"
        ),
    ] = ""
    context: Annotated[int | None, typer.Option("--context", help="Positions that fit.", min=1, metavar="TOKENS")] = (
        None
    )


@dataclass(frozen=True, kw_only=True)
class Money:
    """Costs."""

    price: Annotated[str, typer.Option("--price", help="Of the box: 0.60/h.", show_default=False, metavar="PRICE")] = ""
    tariff: Annotated[
        str, typer.Option("--tariff", help="Of energy: 0.30/kWh.", show_default=False, metavar="PRICE")
    ] = ""
    api_price: Annotated[
        str,
        typer.Option("--api-price", help="Of an API's tokens: 0.60/1M.", show_default=False, metavar="PRICE"),
    ] = ""


@dataclass(frozen=True, kw_only=True)
class Among(Rows):
    """Which records."""

    predicted: Annotated[
        bool, typer.Option("--predicted", help="Also what nobody measured here and is predicted to fit.")
    ] = False
    measure: Annotated[
        bool,
        typer.Option("--measure", help="Measure --model from 16 bits down until a precision satisfies the limits."),
    ] = False


def recommend(asked: Asked, money: Money, among: Among, output: Output) -> None:
    """Say which model to take at which precision under your limits, from the records, and what others miss.

    Example: bench recommend --memory 12GB --min-decode 20 --max-loss 1%
    """
    from bench.catalog.contexts import longest_context
    from bench.judge.costs import Prices
    from bench.judge.recommendation import recommended

    wanted = _limits(asked)
    prices = Prices(
        hour=_price(money.price, "/h", "--price 0.60/h"),
        kwh=_price(money.tariff, "/kwh", "--tariff 0.30/kWh"),
        api_million=_price(money.api_price, "/1m", "--api-price 0.60/1M"),
    )
    if prices.api_million is not None and prices.hour is None and prices.kwh is None:
        raise UserError(
            "an API's price is compared with nothing", "say what the box costs: --price 0.60/h, or --tariff"
        )
    if among.measure:
        _measure(wanted, among, output)
    stored = Stored(output.results)
    rows = _rows(stored, among)
    if not rows:
        _require_device(stored, among)
    found = recommended(rows, wanted, prices, longest_context(output.folder))
    guesses = _predicted(wanted, rows, among, output) if among.predicted else []
    if output.format.flat:
        from bench.views import recommend as view

        print_flat([*(flat for one in found for flat in view.flats(one)), *map(view.guess, guesses)], output.format)
    else:
        _print(found, guesses, wanted, among, output.format)
    stored.finish()
    if not any(one.places for one in found):
        raise typer.Exit(1)


def _limits(asked: Asked) -> Wanted:
    from bench.judge.recommend import Limits as Wanted
    from bench.run.memory_limit import parse_bytes

    return Wanted(
        memory_bytes=parse_bytes(asked.memory) if asked.memory else None,
        min_decode=asked.min_decode,
        max_loss=_share(asked.max_loss) if asked.max_loss else None,
        context_tokens=asked.context,
    )


def _share(text: str) -> float:
    """`1%` or `0.01`. Raises UserError."""
    found = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(%?)", text.strip())
    value = float(found[1]) / (100 if found[2] else 1) if found else 0.0
    if not 0 < value <= MOST_LOSS:
        raise UserError(f"no loss {text!r}", "1% or 0.01, above 0 and at most 50%")
    return value


def _price(text: str, unit: str, example: str) -> float | None:
    """An amount by that unit, None where nothing was said. Raises UserError."""
    if not text:
        return None
    found = re.fullmatch(r"([0-9]{1,20}(?:\.[0-9]{1,20})?)\s*(.*)", text.strip())
    if found is None or found[2].lower() != unit or float(found[1]) <= 0:
        raise UserError(f"no price {text!r}", example)
    return float(found[1])


def _rows(stored: Stored, among: Among) -> list[Row]:
    """The rows that may be recommended."""
    import suites
    from bench.judge.rows import with_any

    return matching(with_any(stored.rows(), suites.ORDER), among)


def _require_device(stored: Stored, among: Among) -> None:
    """Raise UserError, with those that have records, where no record is of the device that is asked for."""
    devices = sorted({row.device for row in stored.rows()})
    if devices and not any(fnmatch(device, among.device) for device in devices):
        raise UserError(f"no record is of a device {among.device!r}", f"one of: {', '.join(devices)}")


def _predicted(wanted: Wanted, rows: Sequence[Row], among: Among, output: Output) -> list[Guess]:
    """Entries that nobody measured on this machine and that are predicted to fit, the largest first."""
    from bench.catalog.entries import read_catalog, select, unmeasurable
    from bench.engines.registry import backend
    from bench.instruments import machine
    from bench.plan.needs import needs
    from bench.views.recommend import Guess

    every, kind = read_catalog(output.folder), machine.device_kind()
    described = machine.describe(kind)
    free = int(wanted.memory_bytes) if wanted.memory_bytes else machine.free_bytes(kind)
    measured = {row.model for row in rows if row.device == described.device and "memory" in row.records}
    chosen = select(every, split(among.model)) if among.model else every
    found = []
    for model in chosen:
        if model.name in measured or unmeasurable(model):
            continue
        fitting = [need for need in needs(model, backend("transformers"), described, free).values() if need.fits]
        if fitting:
            widest = fitting[0]  # precisions stand widest first
            found.append(Guess(model=model.name, precision=str(widest.precision), bytes=widest.whole_bytes or 0))
    return sorted(found, key=lambda guess: -guess.bytes)


def _measure(wanted: Wanted, among: Among, output: Output) -> None:
    """Measure precision after precision, from 16 bits down, until one satisfies every limit."""
    from bench.catalog.contexts import longest_context
    from bench.judge.recommend import best_of_models, candidates

    if not among.model:
        raise UserError("--measure needs a model", "bench recommend --measure --model NAME --memory 12GB")
    folders = RunOutput(folder=output.folder, results=output.results)
    engines = among.backend or ["transformers"]
    for precision in BEST_FIRST:
        cells = RunCells(model=among.model, precision=[precision], backend=engines, missing=True)
        measure(cells, RunHow(), RunLimits(), folders)
        found = candidates(_rows(Stored(output.results), among), wanted, longest_context(output.folder))
        if best_of_models(found):
            return


def _print(found: Sequence[Recommended], guesses: Sequence[Guess], wanted: Wanted, among: Among, form: Format) -> None:
    """For people: what to take and what it costs, then the table, then what missed."""
    from bench.views import recommend as view

    width = out.width if sys.stdout.isatty() else PIPE_WIDTH
    command = run_command(serve=True)
    for one in found:
        if len(found) > 1:
            print_title(one.device, form)
        print_lines(view.sentences(one, command, width))
        print_views(view.views(one), form)
    if guesses:
        print_lines(view.guessed(guesses, width))
    unknown = [name for name in split(among.model) if not any(_has(one, name) for one in found)]
    for name in unknown:
        print_lines([f"no record of {name}: bench run --model {name} --budget 8min decides"])
    if not found and not unknown:
        print_lines([f"no record to recommend from under {view.asked(wanted)}: bench run makes some"])


def _has(found: Recommended, pattern: str) -> bool:
    rows = [*(place.candidate.row for place in found.places), *(one.row for one in found.others)]
    return any(fnmatch(row.model, pattern) for row in rows)
