# SPDX-License-Identifier: Apache-2.0
"""`bench run --ray ADDRESS`: the same question to every box of a Ray cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.cli.console import err, warn
from bench.cli.options import Cells, Devices, Folders, How, Limits
from bench.cli.publish import require_publishable
from bench.cli.selecting import budget_s, selection
from bench.cli.stored import Stored
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.fleet.call import Ended
    from bench.fleet.wire import Seen
    from bench.plan.plan import Plan
    from bench.plan.selection import Selection
    from bench.records.record import Record
    from bench.records.store import Store
    from bench.run.options import RunOptions


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A call of `bench run --ray`."""

    address: str
    cells: Cells
    how: How
    limits: Limits
    folders: Folders
    threads: int | None
    timeout: str
    budget: str
    fresh: bool
    quiet: bool
    publish: bool


def require_heard(said: Mapping[str, bool]) -> None:
    """Refuse what says nothing to the boxes of a cluster, by option whether it was given. Raises UserError."""
    for option in (option for option, given in said.items() if given):
        raise UserError(f"{option} says nothing to the boxes of a cluster", f"leave {option} out, or --ray")


def measure_on_boxes(asked: Asked, store: Store) -> tuple[Ended, set[str]]:
    """Measure on every device that the boxes are; returns what that came to, and the suites that were asked."""
    from bench.fleet import call
    from bench.fleet.link import RayLink

    chosen, known, suites = _selection(asked), store.ids(), set[str]()

    def planned(seen: Seen) -> tuple[Plan, RunOptions]:
        made, options = _planned(asked, chosen, seen, None if asked.fresh else known)
        suites.update(planned.cell.suite for planned in made.cells)
        return made, options

    if asked.cells.device and asked.cells.device.very:
        raise UserError("--device of a cluster is a kind", "cpu, cuda or mps; each of its boxes has its own cards")
    kind = asked.cells.device.value if asked.cells.device else None

    def of_run(run: str, device: str) -> list[Record]:
        return Stored(store.root).of_run(run, device)

    ended = call.run_on_boxes(
        lambda: RayLink(asked.address), chosen, kind, store, planned, of_run, err, quiet=asked.quiet, fresh=asked.fresh
    )
    if ended.open:
        warn([f"{ended.open} cells stay open; the same command goes on from here"])
    return ended, suites


def _selection(asked: Asked) -> Selection:
    """What the options ask for, whichever device the boxes turn out to be. Raises UserError."""
    from bench.engines.registry import backend
    from bench.run import memory_limit

    said = asked.limits.memory_limit
    anywhere = replace(asked.cells, device=Devices("cpu"))
    here = selection(anywhere, asked.how, replace(asked.limits, memory_limit=""), fetch=True)
    for name in here.backends:
        if backend(name).text_only:
            raise UserError(f"backend {name} asks a server, and one box is enough for that", "leave --ray out")
    return replace(here, elsewhere=True, memory_limit_bytes=memory_limit.parse_bytes(said) if said else None)


def _planned(asked: Asked, chosen: Selection, seen: Seen, known: frozenset[str] | None) -> tuple[Plan, RunOptions]:
    """The plan for a box's machine, from the records that are here; which references it keeps is not known here."""
    from bench.catalog.entries import read_catalog
    from bench.engines.registry import backend
    from bench.plan.plan import make_plan
    from bench.run import options
    from bench.views.plan import left_out

    given, stored = budget_s(asked.budget, asked.how.profile), Stored(asked.folders.results)
    records = stored.of_device(seen.machine.device)
    roof = next((engine.roof() for engine in map(backend, chosen.backends) if engine.roof), None)
    made = make_plan(
        replace(chosen, device=seen.machine.kind), read_catalog(asked.folders.folder), seen.machine, records,
        seen.free_bytes, roof=roof, budget_s=given, known=known, held=lambda cell: False,
    )  # fmt: skip
    stored.warn()
    stored.index.save()
    if asked.publish:
        require_publishable(asked.folders, {planned.cell.model for planned in made.cells})
    warn(left_out(made))
    timeout_s, patience = options.timeout(asked.timeout)
    if not asked.budget:
        given = options.default_budget_s(asked.how.profile, (planned.cell for planned in made.cells))
    return made, options.RunOptions(timeout_s=timeout_s, patience=patience, threads=asked.threads, budget_s=given)
