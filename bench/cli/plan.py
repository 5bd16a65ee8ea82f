# SPDX-License-Identifier: Apache-2.0
"""`bench plan`: what would run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.cli.console import out, print_flat, print_lines, print_table
from bench.cli.options import Cells, How, Limits, Output
from bench.cli.selecting import left_out, nothing, planned, selection

if TYPE_CHECKING:
    from bench.plan.plan import Plan
    from bench.views.formats import Table


def plan(cells: Cells, how: How, limits: Limits, output: Output) -> None:
    """Show what would run, with predicted bytes and seconds, and what is left out and why. Loads nothing.

    Example: bench plan --model 'pythia-*' --precision fp16,int4
    """
    from bench.plan.capacity import words
    from bench.units import human_seconds

    made, _, _ = planned(selection(cells, how, limits, fetch=False), output)
    if output.format.flat:
        print_flat(_flat(made), output.format)
        return
    if made.cells:
        print_table(_table(made), output.format)
    print_lines(f"predicted to fit, {p.cell}: {words(p.predicted)}" for p in made.cells if p.cell.suite == "capacity")
    print_lines(left_out(made.left_out))
    if not made.cells:
        out.print(nothing(made))
    else:
        settled = f", {made.settled} settled already" if made.settled else ""
        out.print(f"{len(made.cells)} cells, about {human_seconds(made.seconds)}{settled}")


def _flat(made: Plan) -> list[dict[str, object]]:
    """Cells in the order of running, then what is left out."""
    from bench.plan.capacity import flat

    rows: list[dict[str, object]] = [
        {
            "model": p.cell.model, "precision": str(p.cell.precision), "scheme": p.cell.scheme, "suite": p.cell.suite,
            "weights": str(p.cell.weights), "predicted_weights_bytes": p.predicted.weights_bytes,
            "predicted_peak_bytes": p.predicted.peak_bytes, "predicted_baseline_bytes": p.predicted.baseline_bytes,
            "predicted_s": p.predicted.seconds, "why": p.why or None,
            "left_out": None, **flat(p.predicted),
        }
        for p in made.cells
    ]  # fmt: skip
    return rows + [{"model": left.model, "precision": left.what, "left_out": left.reason} for left in made.left_out]


def _table(made: Plan) -> Table:
    from bench.units import human_bytes, human_seconds
    from bench.views.formats import Table

    table = Table(["model", "precision", "scheme", "suite", "weights", "peak memory", "about"])
    for p in made.cells:
        size, peak, seconds = p.predicted.weights_bytes, p.predicted.peak_bytes, p.predicted.seconds
        table.rows.append(
            [
                p.cell.model,
                str(p.cell.precision),
                p.cell.scheme,
                p.cell.suite + (" (reference)" if p.why else ""),
                human_bytes(size) if size else "unknown",
                human_bytes(peak) if peak else "unknown",
                human_seconds(seconds) if seconds is not None else "unknown",
            ]
        )
    return table
