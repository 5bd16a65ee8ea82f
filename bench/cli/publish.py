# SPDX-License-Identifier: Apache-2.0
"""`bench publish`: the figures beside the entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import err, out
from bench.cli.options import Folders
from bench.cli.stored import Stored
from bench.errors import UserError
from bench.paths import RESULTS, ROOT

if TYPE_CHECKING:
    from bench.catalog.model import Model
    from bench.judge.claims import Judged


@dataclass(frozen=True, kw_only=True)
class Published(Folders):
    """Output."""

    check: Annotated[bool, typer.Option("--check", help="Write nothing; exit 1 if a file is stale.")] = False
    drop: Annotated[bool, typer.Option("--drop", help="Also remove figures that these records lack.")] = False


def publish(output: Published) -> None:
    """Write the figures into the catalogue's README, and tables, plots and a site into the results folder.

    Example: bench publish --check
    """
    from bench.records.mirror import mirror_of, shown

    if (mirror := mirror_of(output.results)) is not None:
        what = f"publishing writes beside the records, and {shown(mirror.address)} takes records alone"
        raise UserError(what, "copy them into a folder, and publish with --results FOLDER")
    stored = Stored(output.results)
    write_figures(output, stored, check=output.check, drop=output.drop)
    _write_results(output, stored)
    stored.finish()


def _write_results(output: Published, stored: Stored) -> None:
    """What is published beside the records; with `--check`, end with 1 where it is not up to date."""
    import suites
    from bench.catalog.entries import read_catalog
    from bench.instruments.distributions import is_installed
    from bench.judge.rows import with_any
    from bench.records.store import Store
    from bench.views import publication
    from bench.views.publish import publish_readme
    from bench.views.site import publish as site

    rows, models = with_any(stored.rows(), suites.DEFAULT), read_catalog(output.folder)
    found = publication.made(rows)
    pages: dict[str, bytes] = {}
    if is_installed("jinja2"):
        pages = dict(site.files(rows, _judged(models, stored), list(Store(output.results).runs())))
    stale = publication.stale(output.results, found)
    if output.results.resolve() == RESULTS.resolve() and publish_readme(
        ROOT / "README.md", rows, f"{RESULTS.name}/plots", check=output.check
    ):
        stale.append("README.md of the project")
    if pages and site.stale(output.results / "site", pages):
        stale.append("site/")
    left = [*found.left_out, *([] if pages else ["the site needs jinja2"])]
    if left:
        err.print(f"left out: {'; '.join(left)}: {publication.INSTALL}", markup=False)
    if output.check:
        if stale:
            err.print(f"{output.results}: stale: {', '.join(stale)}: run `bench publish`", markup=False)
            raise typer.Exit(1)
    elif stale:
        publication.write(output.results, found)
        if pages:
            site.write(output.results / "site", pages)
    out.print(f"{output.results} " + (f"updated: {', '.join(stale)}" if stale else "is up to date"), markup=False)


def require_publishable(folders: Folders, measured: set[str]) -> None:
    """Raise UserError, before anything is measured, where publishing would refuse what these models would add to."""
    from bench.views.publish import dropped

    path = folders.folder / "README.md"
    gone = dropped(path, measured | {head.row[1] for head in Stored(folders.results).index.shown()})
    if gone:
        raise UserError(
            f"nothing measured: publishing to {path} would drop the figures of {', '.join(gone)}",
            "give the results folder that holds them too, or leave --publish out",
        )


def write_figures(folders: Folders, stored: Stored, *, check: bool, drop: bool = False) -> None:
    """Bring the catalogue's README up to date; with `check`, end with 1 where it is not."""
    from bench.catalog.entries import read_catalog
    from bench.views.publish import publish as write

    path, models = folders.folder / "README.md", read_catalog(folders.folder)
    stale = write(path, models, stored.rows(), _judged(models, stored), check=check, drop=drop)
    if check and stale:
        err.print(f"{path} is stale: run `bench publish`", markup=False)
        raise typer.Exit(1)
    out.print(f"{path} " + ("updated" if stale else "is up to date"), markup=False)


def _judged(models: Sequence[Model], stored: Stored) -> list[Judged]:
    """Every claim, judged by the records of the models that can decide it."""
    from bench.judge.claims import judge
    from bench.plan.claims import predicted_for

    measured = {model.measured_for(claim) for model in models for claim in model.claims}
    return judge(models, stored.records(measured), predicted_for)
