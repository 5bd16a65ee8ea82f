# SPDX-License-Identifier: Apache-2.0
"""`bench plan`: what would run."""

from __future__ import annotations

from dataclasses import dataclass

from bench.cli.console import print_flat, print_lines, print_table
from bench.cli.options import Budget, Cells, How, Limits, Output
from bench.cli.selecting import budget_s, planned, selection
from bench.cli.stored import Stored


@dataclass(frozen=True, kw_only=True)
class PlanLimits(Limits):
    """Limits."""

    budget: Budget = ""


def plan(cells: Cells, how: How, limits: PlanLimits, output: Output) -> None:
    """Show what would run, with predicted bytes and seconds, and what is left out and why. Loads nothing.

    Example: bench plan --model 'pythia-*' --precision fp16,int4
    """
    from bench.instruments.machine import describe
    from bench.run import needs, options
    from bench.views import plan as view

    asked = selection(cells, how, limits, fetch=False)
    given = budget_s(limits.budget, how.profile)
    made = planned(asked, output, Stored(output.results), describe(asked.device), budget_s=given)
    budget = given if limits.budget else options.default_budget_s(how.profile, (p.cell for p in made.cells))
    shares = needs.shares(budget, made.cells)
    if output.format.flat:
        print_flat(view.flats(made, shares), output.format)
        return
    if made.cells:
        print_table(view.table(made), output.format)
    print_lines(view.lines(made, budget, shares), output.format)
