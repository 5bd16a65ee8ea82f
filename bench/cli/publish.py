# SPDX-License-Identifier: Apache-2.0
"""`bench publish`: the figures beside the entries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import err, out
from bench.cli.options import Folders
from bench.cli.stored import exit_for_unreadable, joined_records, opened

if TYPE_CHECKING:
    from bench.records.store import Store


@dataclass(frozen=True, kw_only=True)
class Published(Folders):
    """Output."""

    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if the file is stale.")] = False
    drop: Annotated[bool, typer.Option("--drop", help="Also remove figures that these records lack.")] = False


def publish(output: Published) -> None:
    """Write the figures into the catalogue's README, between its markers.

    Example: bench publish --check
    """
    exit_for_unreadable(write_figures(output, check=output.check, drop=output.drop))


def write_figures(folders: Folders, *, check: bool, drop: bool = False) -> Store:
    """Bring the catalogue's README up to date; with `check`, end with 1 where it is not.

    Returns the records, whose odd ones were named and left out.
    """
    from bench.catalog.entries import read_catalog
    from bench.views.publish import publish as write

    store = opened(folders.results)
    records = joined_records(store)
    path = folders.folder / "README.md"
    stale = write(path, read_catalog(folders.folder), records, check=check, drop=drop)
    if check and stale:
        err.print(f"{path} is stale: run `bench publish`", markup=False)
        raise typer.Exit(1)
    out.print(f"{path} " + ("updated" if stale else "is up to date"), markup=False)
    return store
