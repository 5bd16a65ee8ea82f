# SPDX-License-Identifier: Apache-2.0
"""`bench catalog`: what there is to measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import Format, print_facts, print_flat, print_table, print_title
from bench.cli.options import Backend, Device, Models, Output, split
from bench.cli.show import print_rows
from bench.cli.stored import Stored

if TYPE_CHECKING:
    from bench.catalog.model import Model
    from bench.judge.rows import Row


@dataclass(frozen=True, kw_only=True)
class Entries:
    """Which entries."""

    name: Annotated[list[str], typer.Argument(help="Names or globs; one entry is shown in full.", metavar="NAME")] = (
        field(default_factory=list)
    )
    model: Models = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """What they need."""

    backend: Backend = "transformers"
    device: Device = None


def catalog(entries: Entries, asked: Needs, output: Output) -> None:
    """List the catalogue: what each entry is, needs here and gave, or why it never can be; with a NAME, all of one.

    Example: bench catalog smollm2-135m-instruct
    """
    from bench.catalog.entries import read_catalog, select
    from bench.engines.registry import backend
    from bench.instruments import machine
    from bench.judge.stand_ins import stand_ins
    from bench.plan.needs import needs_of
    from bench.views import overview

    every = read_catalog(output.folder)
    names = [*entries.name, *entries.model]
    chosen = select(every, split(names)) if names else every
    stored, kind = Stored(output.results), asked.device.value if asked.device else machine.device_kind()
    engine, described, free = backend(asked.backend), machine.describe(kind), machine.free_bytes(kind)
    needed = needs_of(chosen, engine, described, free)
    rows = stored.rows()
    done, others = overview.measured(rows), stand_ins(every, rows)
    if output.format.flat:
        flats = [overview.flat(m, needed[m.name], done.get(m.name), others.get(m.name)) for m in chosen]
        print_flat(flats, output.format)
    elif len(chosen) == 1:
        name = chosen[0].name
        print_facts(overview.entry(chosen[0], needed[name], others.get(name)), output.format)
        _print_measured(chosen[0], every, rows, stored, output.format)
    else:
        print_table(overview.listing(chosen, needed, done, others), output.format)
    stored.finish()


def _print_measured(model: Model, every: Sequence[Model], rows: Sequence[Row], stored: Stored, form: Format) -> None:
    """Of one entry: what became of its claims, and its figures."""
    from bench.judge.claims import judge
    from bench.plan.claims import predicted_for
    from bench.views.claims import people

    measured = {model.measured_for(claim) for claim in model.claims}
    judged = judge([model], stored.records(measured) if measured else [], predicted_for, every)
    if judged:
        print_title("claims", form)
        print_table(people(judged), form)
    own = [row for row in rows if row.model == model.name]
    if own:
        print_rows(own, "default", form)
