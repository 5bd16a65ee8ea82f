# SPDX-License-Identifier: Apache-2.0
"""`bench plan`: what would run."""

from __future__ import annotations

from bench.cli.console import print_flat, print_lines, print_table
from bench.cli.options import Cells, How, Limits, Output
from bench.cli.selecting import opened, planned, selection


def plan(cells: Cells, how: How, limits: Limits, output: Output) -> None:
    """Show what would run, with predicted bytes and seconds, and what is left out and why. Loads nothing.

    Example: bench plan --model 'pythia-*' --precision fp16,int4
    """
    from bench.views import plan as view

    asked = selection(cells, how, limits, fetch=False)
    made = planned(asked, output, *opened(asked, output))
    if output.format.flat:
        print_flat(view.flats(made), output.format)
        return
    if made.cells:
        print_table(view.table(made), output.format)
    print_lines(view.lines(made))
