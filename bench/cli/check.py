# SPDX-License-Identifier: Apache-2.0
"""`bench check`: whether records from elsewhere can be true."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.cli.console import out, print_lines
from bench.cli.options import CatalogFolder
from bench.errors import UserError
from bench.paths import CATALOG, RESULTS

if TYPE_CHECKING:
    from bench.records.record import Record


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What to check."""

    results: Annotated[
        list[Path], typer.Argument(help="Folder of records; default: the project's own.", metavar="RESULTS")
    ] = field(default_factory=list)
    quarantine: Annotated[
        str,
        typer.Option(
            "--quarantine", help="Move what cannot be true here, with the reason.", show_default=False, metavar="FOLDER"
        ),
    ] = ""
    folder: CatalogFolder = CATALOG


def check(asked: Checked) -> None:
    """Check records from another box: what cannot be read or cannot be true is named, and exit 1.

    Example: bench check their-results --quarantine doubtful
    """
    folders = asked.results or [RESULTS]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"no folder {folder}", "give a results folder: RESULTS/DEVICE/MODEL/ENGINE-SCHEME/SUITE")
    checked, doubted = 0, 0
    for folder in folders:
        count, found = _doubted(folder, asked.folder)
        checked, doubted = checked + count, doubted + len(found)
        for path, reasons in found.items():
            print_lines(f"{path}: {reason}" for reason in reasons)
            if asked.quarantine:
                _move(path, folder, Path(asked.quarantine), reasons)
    moved = f", moved to {asked.quarantine}" if asked.quarantine and doubted else ""
    out.print(f"{checked} records, {doubted} doubtful{moved}", markup=False)
    if doubted:
        raise typer.Exit(1)


def _doubted(folder: Path, catalog: Path) -> tuple[int, dict[Path, list[str]]]:
    """How many records there are, and those that cannot be believed with every reason."""
    from bench.catalog.entries import read_catalog
    from bench.judge.plausible import doubts, repeated
    from bench.plan.expected import expected_weights
    from bench.records.store import Store, read_record
    from bench.views.soundness import fault

    store = Store(folder)
    found: dict[Path, list[str]] = {}
    records: dict[Path, Record] = {}
    for path in store.paths():
        try:
            records[path] = read_record(path)
        except UserError as error:
            found[path] = [str(error).removeprefix(f"{path}:").strip()]
        except Exception as error:  # noqa: BLE001 - whatever a file does to a parser is its own fault
            found[path] = [f"{type(error).__name__}: {error}"]
    now, expected, twice = datetime.now(UTC), expected_weights(read_catalog(catalog)), repeated(records.values())
    for path, record in records.items():
        reasons = doubts(record, expected, now)
        if why := fault(record):
            reasons.append(f"nothing can be shown of it: {why}")
        if path.parent != store.path(record).parent:
            reasons.append("lies in the folder of another cell")
        if (record.cell.device, record.id) in twice:
            reasons.append(f"id {record.id} stands here more than once")
        if reasons:
            found[path] = reasons
    return len(records) + len(found.keys() - records.keys()), found


def _move(path: Path, folder: Path, quarantine: Path, reasons: list[str]) -> None:
    """Keep a doubtful file out of every table, its reasons beside it."""
    target = quarantine / path.relative_to(folder)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(path, target)
        target.with_suffix(".reasons.txt").write_text("\n".join(reasons) + "\n", encoding="utf-8")
    except OSError as error:
        refused = f"cannot move {path} to {quarantine}: {error.strerror}"
        raise UserError(refused, "give a folder that can be written") from None
