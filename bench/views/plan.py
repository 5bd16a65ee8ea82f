# SPDX-License-Identifier: Apache-2.0
"""A plan as `bench plan` writes it: the cells with their predictions, and what is left out. Pure."""

from __future__ import annotations

from bench.plan.plan import Plan, Planned
from bench.records.record import Prediction
from bench.units import human_bytes, human_seconds
from bench.views.formats import Flat, Table
from bench.views.outputs import PLAN


def flats(made: Plan) -> list[Flat]:
    """One row for each cell, then one for each thing that is left out."""
    left_out = [{"model": left.model, "precision": left.what, "left_out": left.reason} for left in made.left_out]
    return [*(PLAN.flat(_flat(planned)) for planned in made.cells), *(PLAN.flat(row) for row in left_out)]


def _flat(planned: Planned) -> Flat:
    cell, predicted = planned.cell, planned.predicted
    return {
        "model": cell.model, "precision": str(cell.precision), "scheme": cell.scheme, "suite": cell.suite,
        "weights": str(cell.weights), "predicted_weights_bytes": predicted.weights_bytes,
        "predicted_peak_bytes": predicted.peak_bytes, "predicted_baseline_bytes": predicted.baseline_bytes,
        "predicted_s": predicted.seconds, "why": planned.why or None, "left_out": None, **flat_capacity(predicted),
    }  # fmt: skip


def flat_capacity(predicted: Prediction) -> Flat:
    """What is predicted to fit a budget, as keys of a flat row; none for other suites than capacity."""
    context: Flat = {} if predicted.context_tokens is None else {"predicted_context_tokens": predicted.context_tokens}
    return context | {f"predicted_batch_{prompt}": batch for prompt, batch in (predicted.batch or {}).items()}


def table(made: Plan) -> Table:
    """One line for each cell."""
    rows = Table(["model", "precision", "scheme", "suite", "weights", "peak memory", "about"])
    for planned in made.cells:
        cell, predicted = planned.cell, planned.predicted
        suite = cell.suite + (" (reference)" if planned.why else "")
        seconds = "unknown" if predicted.seconds is None else human_seconds(predicted.seconds)
        sizes = [_size(predicted.weights_bytes), _size(predicted.peak_bytes)]
        rows.rows.append([cell.model, str(cell.precision), cell.scheme, suite, *sizes, seconds])
    return rows


def _size(count: int | None) -> str:
    return human_bytes(count) if count else "unknown"


def lines(made: Plan) -> list[str]:
    """What is predicted to fit a budget, what is left out, and how much there is to do in all."""
    capacity = [planned for planned in made.cells if planned.cell.suite == "capacity"]
    found = [f"predicted to fit, {planned.cell}: {fitting(planned.predicted)}" for planned in capacity]
    return [*found, *left_out(made), total(made)]


def left_out(made: Plan) -> list[str]:
    """One line for each thing that was asked for and will not run."""
    return [f"left out: {left.model} {left.what}: {left.reason}" for left in made.left_out]


def total(made: Plan) -> str:
    """How much there is to do in all."""
    if not made.cells:
        return f"nothing to run: {made.settled} cells are settled" if made.settled else "nothing to run"
    settled = f", {made.settled} settled already" if made.settled else ""
    return f"{len(made.cells)} cells, about {human_seconds(made.seconds)}{settled}"


def fitting(predicted: Prediction) -> str:
    """What is predicted to fit a budget, for people."""
    if predicted.context_tokens is None:
        return "unknown, the search starts small"
    if not predicted.context_tokens:
        return "nothing"
    batches = [f"{batch:,} x {prompt}" for prompt, batch in (predicted.batch or {}).items()]
    return "; ".join([f"context of {predicted.context_tokens:,} tokens", *(f"batch of {text}" for text in batches)])
