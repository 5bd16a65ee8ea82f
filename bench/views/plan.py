# SPDX-License-Identifier: Apache-2.0
"""A plan as `bench plan` writes it: the cells with their predictions, and what is left out. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from bench.plan.plan import Plan
from bench.plan.questions import Planned
from bench.records.cell import ATTENTION, UNTRIED
from bench.records.record import Prediction
from bench.units import human_bytes, human_seconds
from bench.views.formats import Flat, Table
from bench.views.outputs import PLAN

CUT = 0.99
"""A cell whose share of a budget is below so much of what it needs is cut."""


Shares = Mapping[str, float] | None
"""By key, the seconds of a budget that each cell may take; None without an end."""


def flats(made: Plan, shares: Shares = None) -> list[Flat]:
    """One row for each cell, then one for each thing that is left out."""
    cells = [_flat(planned, shares) for planned in made.cells]
    left_out: list[Flat] = [
        {"model": left.model, "precision": left.what, "left_out": left.reason} for left in made.left_out
    ]
    return [PLAN.flat(row) for row in [*cells, *left_out]]


def _flat(planned: Planned, shares: Shares) -> Flat:
    cell, predicted = planned.cell, planned.predicted
    share = None if shares is None else round(shares.get(cell.key, 0.0), 1)
    return {
        "model": cell.model, "precision": str(cell.precision), "scheme": cell.scheme, "suite": cell.suite,
        "weights": str(cell.weights), "way": cell.way or None, "predicted_weights_bytes": predicted.weights_bytes,
        "predicted_peak_bytes": predicted.peak_bytes, "predicted_baseline_bytes": predicted.baseline_bytes,
        "predicted_s": predicted.seconds, "budget_s": share, "why": planned.why or None, "left_out": None,
        **flat_capacity(predicted),
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


def lines(made: Plan, budget_s: float | None = None, shares: Shares = None) -> list[str]:
    """What is predicted to fit a budget, what is left out, how much there is to do, and what the call's budget cuts."""
    capacity = [planned for planned in made.cells if planned.cell.suite == "capacity"]
    found = [f"predicted to fit, {planned.cell}: {fitting(planned.predicted)}" for planned in capacity]
    return [*found, *_unknown(made), *left_out(made), total(made), *_within(made, budget_s, shares)]


def _unknown(made: Plan) -> list[str]:
    """A line for each engine whose way of attending on this device is not known yet."""
    unknown = (p.cell.backend for p in made.cells if p.cell.settings.get(ATTENTION) == UNTRIED)
    return [
        f"not known yet: which of its ways {name} attends faster on this device; the run tries them before it measures"
        for name in dict.fromkeys(unknown)
    ]


def _within(made: Plan, budget_s: float | None, shares: Shares) -> list[str]:
    """A line for what a budget would cut, and one for what it would leave undecided, as far as is predicted."""
    if budget_s is None or shares is None or not made.cells:
        return []
    several = len({planned.cell.model for planned in made.cells}) > 1
    cut, undecided = [], []
    for planned in made.cells:
        cell, needed = planned.cell, planned.predicted.seconds or 0.0
        named = (f"{cell.model} " if several else "") + f"{cell.scheme} {cell.suite}"
        share = shares.get(cell.key)
        if share is None:
            undecided.append(named)
        elif share < CUT * needed:
            cut.append(f"{named} to {human_seconds(share)} of {human_seconds(needed)}")
    head = f"a budget of {human_seconds(budget_s)} (--budget)"
    found = [f"{head} cuts {'; '.join(cut)}"] if cut else []
    found += [f"{head} leaves undecided {', '.join(undecided)}"] if undecided else []
    return found or [f"{head} is enough, loading apart"]


def left_out(made: Plan) -> list[str]:
    """One line for each thing that was asked for and will not run."""
    return [f"left out: {left.model} {left.what}: {left.reason}" for left in made.left_out]


def total(made: Plan) -> str:
    """How much there is to do in all."""
    if not made.cells:
        return f"nothing to run: {made.settled} cells are settled" if made.settled else "nothing to run"
    settled = f", {made.settled} settled already" if made.settled else ""
    loading = f", {human_seconds(made.loading_s)} of it loading" if made.loading_s else ""
    return f"{len(made.cells)} cells, about {human_seconds(made.seconds)}{loading}{settled}"


def fitting(predicted: Prediction) -> str:
    """What is predicted to fit a budget, for people."""
    if predicted.context_tokens is None:
        return "unknown, the search starts small"
    if not predicted.context_tokens:
        return "nothing"
    batches = [f"{batch:,} x {prompt}" for prompt, batch in (predicted.batch or {}).items()]
    return "; ".join([f"context of {predicted.context_tokens:,} tokens", *(f"batch of {text}" for text in batches)])
