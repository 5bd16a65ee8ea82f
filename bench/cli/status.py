# SPDX-License-Identifier: Apache-2.0
"""`bench status`: what is being measured, asked from another terminal."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cli.console import Format, print_flat, print_lines
from bench.cli.options import FormatOption, ResultsFolder
from bench.paths import RESULTS


@dataclass(frozen=True, kw_only=True)
class Asking:
    """Options."""

    format: FormatOption = Format.TABLE
    results: ResultsFolder = RESULTS


def status(options: Asking) -> None:
    """Show what runs measure into a folder of results: how far, until when, what failed; or what the last run came to.

    Example: bench status --format json
    """
    from bench.cli.selecting import place
    from bench.records import progress
    from bench.records.mirror import mirror_of
    from bench.records.store import Runs, Store
    from bench.views import status as view

    running, last = progress.running(options.results), progress.last(options.results)
    if options.format.flat:
        told = running or ([last] if last else [])
        print_flat(view.flats(told, progress.now()), options.format)
        return
    open_calls = Runs(options.results).open_calls()
    where = place(Store(options.results, mirror_of(options.results)))
    print_lines(view.lines(running, last, open_calls, where, progress.now()), options.format)
