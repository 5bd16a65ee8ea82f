# SPDX-License-Identifier: Apache-2.0
"""In which order cells are measured: what decides most in an hour first, and what belongs together on one device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

from bench.plan.plan import Plan
from bench.plan.questions import Planned


def jobs(cells: Iterable[Planned]) -> list[list[Planned]]:
    """Cells that stand together in a plan and belong together: a model's loads in one engine, its reference first."""
    return [list(group) for _, group in groupby(cells, key=_job)]


def _job(planned: Planned) -> tuple[str | None, ...]:
    cell = planned.cell
    return (cell.device, cell.model, cell.weights, cell.source, cell.fingerprint, cell.backend)


def most_decided_first(plan: Plan) -> Plan:
    """The plan with the jobs first that take the least for each of their rows.

    Within a job nothing moves: the reference before what is compared with it, the rows of one model together. Where no
    seconds are known, the order stays.
    """
    ordered = sorted(jobs(plan.cells), key=_seconds_a_row)
    return replace(plan, cells=tuple(planned for job in ordered for planned in job))


def _seconds_a_row(job: list[Planned]) -> float:
    loads = {planned.cell.load_key: planned.loading_s for planned in job}
    return (sum(loads.values()) + sum(planned.predicted.seconds or 0.0 for planned in job)) / len(loads)
