# SPDX-License-Identifier: Apache-2.0
"""What is handed out: loads, each a model at one precision with its cells, and what each asks of a box."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import groupby

from bench.fleet.wire import Box, Handout, Needs, Seen
from bench.plan.plan import HEADROOM, LeftOut
from bench.plan.questions import Planned
from bench.records.record import Record
from bench.records.store import to_text
from bench.records.surroundings import Machine
from bench.run.options import RunOptions

TRIES = 3
"""So often a load is handed out whose box is lost: it may be the load that its boxes die of."""


@dataclass(kw_only=True)
class Load:
    """One load that is still to be measured, on any box that is its machine."""

    run: str
    machine: Machine
    options: RunOptions
    cells: list[Planned]
    """Those without a record of this run."""
    references: Mapping[str, Planned] = field(default_factory=dict)
    """By key, the reference cells whose distributions its own are compared with, where they are no cells of its own."""
    left_out: tuple[LeftOut, ...] = ()
    budget_s: float | None = None
    forced: bool = False
    """Whether what is predicted not to fit is tried all the same."""
    lost: int = 0
    """How often its box was lost."""

    def __str__(self) -> str:
        if not self.cells:
            return f"{len(self.left_out)} cells that do not fit"
        cell, count = self.cells[0].cell, len(self.cells)
        return f"{cell.model} {cell.precision} ({cell.scheme}, {count} {'cell' if count == 1 else 'cells'})"

    @property
    def family(self) -> tuple[str, ...]:
        """Loads whose rows are compared with each other: they stay on one box where that costs no waiting."""
        if not self.cells:
            return ()
        cell = self.cells[0].cell
        return (self.machine.device, cell.model, cell.backend, str(cell.fingerprint))

    @property
    def needed_bytes(self) -> int:
        """The most that it is predicted to need, its process included."""
        return _most(self.cells)

    def fits(self, seen: Seen, held: Collection[str]) -> bool:
        """Whether a box has what it is predicted to need, and what the references need that the box does not keep.

        What was forced is tried anywhere.
        """
        needed = max(self.needed_bytes, _most(p for key, p in self.references.items() if key not in held))
        return self.forced or not seen.free_bytes or needed <= HEADROOM * seen.free_bytes

    def needs(self, box: Box) -> Needs:
        """What its task asks the cluster for: all CPUs of a box whose CPUs compute, else one GPU and a CPU beside it.

        Ray hands these out and enforces nothing; that no other task of Ray gets them meanwhile is what is wanted.
        """
        if not self.cells:
            return Needs()
        memory = min(self.needed_bytes, box.memory_bytes)
        if self.machine.kind == "cuda":
            # The GPU holds the model; how much the host needs is what its process has without one.
            memory = min(max((p.predicted.baseline_bytes or 0 for p in self.cells), default=0), box.memory_bytes)
            return Needs(cpus=min(1.0, box.cpus), gpus=1, memory_bytes=memory, accelerator=box.accelerator)
        return Needs(cpus=box.cpus, memory_bytes=memory)

    @cached_property
    def makes(self) -> frozenset[str]:
        """Keys of the references whose distributions a box keeps once it has measured this."""
        own = {p.cell.key for p in self.cells if p.reference and p.reference.key == p.cell.unlimited.key}
        return frozenset(own | set(self.references))

    @property
    def asked(self) -> frozenset[str]:
        """Keys of all cells that a box may send a record of."""
        left = {left.planned.cell.key for left in self.left_out if left.planned}
        return frozenset({planned.cell.key for planned in self.cells} | set(self.references) | left)

    @property
    def done(self) -> bool:
        """Whether nothing of it is open."""
        return not self.cells and not self.left_out

    def settle(self, key: str) -> None:
        """A cell has its record."""
        self.__dict__.pop("makes", None)
        self.cells = [planned for planned in self.cells if planned.cell.key != key]
        self.left_out = tuple(left for left in self.left_out if left.planned and left.planned.cell.key != key)

    def handout(self, records: Iterable[Record]) -> Handout:
        """The question for a box. Records that its cells are compared with while they are measured go with it."""
        mine = {planned.cell.key for planned in self.cells}
        first = [planned for key, planned in self.references.items() if key not in mine]
        return Handout(
            run=self.run, machine=self.machine, cells=(*first, *self.cells),
            needed=tuple(planned.cell.key for planned in first), left_out=self.left_out,
            records=tuple(to_text(record) for record in records), threads=self.options.threads,
            timeout_s=self.options.timeout_s, patience=self.options.patience,
            budget_s=self.budget_s, whole_budget_s=self.options.budget_s,
        )  # fmt: skip


def _most(cells: Iterable[Planned]) -> int:
    return max((planned.predicted.needed_bytes or 0 for planned in cells), default=0)


def loads(
    run: str, machine: Machine, options: RunOptions, cells: Sequence[Planned], *, shares: Mapping[str, float] | None,
    known: Mapping[str, Planned], forced: bool = False,
) -> Iterator[Load]:  # fmt: skip
    """The loads of a plan's cells, in its order. `known` has the plan's reference cells by key.

    `shares` are the seconds that each cell may take, as the call's budget is spread before anything is measured; what
    one box has left of its part is not known to another.
    """
    for _, group in groupby(cells, key=lambda planned: planned.cell.load_key):
        mine = list(group)
        wanted = {p.reference.key for p in mine if p.reference and p.reference.key != p.cell.unlimited.key}
        yield Load(
            run=run, machine=machine, options=options, cells=mine, forced=forced,
            references={key: known[key] for key in sorted(wanted) if key in known},
            budget_s=None if shares is None else sum(shares.get(planned.cell.key, 0.0) for planned in mine)
            + sum(known[key].predicted.seconds or 0.0 for key in wanted if key in known),
        )  # fmt: skip


def chosen(
    waiting: Sequence[Load], seen: Seen, held: Collection[str], here: Collection[tuple[str, ...]],
    elsewhere: Collection[str], families: Collection[tuple[str, ...]],
) -> Load | None:  # fmt: skip
    """The load that a free box is best given, None if none.

    `held` are the references that this box keeps, `here` the families that it measured before, `families` those that
    others have begun. `elsewhere` has the references that another living box keeps or is measuring: who needs one of
    these waits for that box, or for the load that makes it, for a reference made twice is measured for nothing.
    """
    best = 3
    found: Load | None = None
    to_come: set[str] | None = None
    for load in waiting:
        if load.machine.device != seen.machine.device or not load.fits(seen, held):
            continue
        if load.references and to_come is None:
            to_come = {key for other in waiting for key in other.makes - set(other.references)}
        if any(key not in held and (key in elsewhere or key in (to_come or ())) for key in load.references):
            continue
        rank = 0 if load.family in here else 1 if load.family not in families else 2
        if rank == 0:  # none that stands behind it is better: with thousands waiting, looking at all takes long
            return load
        if rank < best:
            best, found = rank, load
    return found
