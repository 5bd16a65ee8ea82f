# SPDX-License-Identifier: Apache-2.0
"""`bench export`: figures in the formats of other tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import NO_RECORDS, err, out
from bench.cli.options import Folders, Rows, split
from bench.cli.stored import Stored, matching
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.views.exports import Exported


class To(StrEnum):
    """A format of another tool."""

    MODEL_INDEX = "model-index"
    EVAL_RESULTS = "eval-results"
    EVERY_EVAL_EVER = "every-eval-ever"
    LLAMA_BENCH = "llama-bench"
    OPTIMUM_BENCHMARK = "optimum-benchmark"


@dataclass(frozen=True, kw_only=True)
class Exports(Folders):
    """Output."""

    to: Annotated[To | None, typer.Option("--to", help="Whose format.", show_default=False)] = None
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder to write into.", show_default=False, metavar="FOLDER")
    ] = None
    dataset: Annotated[
        list[str],
        typer.Option("--dataset", help="Data set of the Hub that a task reads: TASK=ORG/NAME.", metavar="TASK=REPO"),
    ] = field(default_factory=list)
    organisation: Annotated[
        str, typer.Option("--organisation", help="Who measured (every-eval-ever).", metavar="NAME")
    ] = "not named"


def export(rows: Rows, output: Exports) -> None:
    """Write scores and speeds in the format of another tool, each precision told apart.

    Example: bench export --to every-eval-ever --out exported
    """
    from bench.catalog.entries import read_catalog
    from bench.instruments.distributions import is_installed
    from bench.views.exports import FORMATS, NEEDS, Asked

    if output.to is None or output.out is None:
        raise UserError("what to export is not said", f"pass --to {'|'.join(To)} and --out FOLDER")
    needed = NEEDS.get(output.to)
    if needed and not is_installed(needed):
        raise UserError(f"--to {output.to} needs {needed}", "pip install -e '.[publish]'")
    datasets = _datasets(output.dataset)
    models = {model.name: model for model in read_catalog(output.folder)}
    stored = Stored(output.results)
    chosen = matching(stored.rows(), rows)
    made = FORMATS[output.to](Asked(rows=chosen, models=models, datasets=datasets, organisation=output.organisation))
    _say(made)
    if not made.files:
        raise UserError(f"nothing to export to {output.to}", NO_RECORDS if not chosen else "see what was left out")
    write(output.out, made.files)
    out.print(f"{len(made.files)} file{'s' * (len(made.files) > 1)} in {output.out}", markup=False)
    stored.finish()


def _say(made: Exported) -> None:
    for line in made.left_out:
        err.print(f"left out: {line}", markup=False)


def _datasets(given: Sequence[str]) -> dict[str, str]:
    """By task, the data set that was named. Raises UserError."""
    from bench.views.exports.identity import REPOSITORY

    found = {}
    for pair in split(given):
        task, _, repo = pair.partition("=")
        if not task or not REPOSITORY.fullmatch(repo):
            raise UserError(f"--dataset {pair} names no task and data set", "write TASK=ORG/NAME")
        found[task] = repo
    return found


def write(folder: Path, files: Mapping[str, bytes]) -> None:
    """Each file whole: beside its old one, then in its place. Raises UserError."""
    from bench.processes import write_whole

    try:
        for name, content in files.items():
            write_whole(folder / name, content)
    except OSError as error:
        raise UserError(f"cannot export to {folder}: {error.strerror}", "check the path and its permissions") from None
