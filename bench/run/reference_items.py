# SPDX-License-Identifier: Apache-2.0
"""What the reference has answered of each task: its records on disk, so that another row knows when it has seen enough.

The reference is measured first, so in one run its record lies there before any other cell begins; an earlier run's
serves as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from bench.engines.contract import Backend
from bench.instruments.machine import installed
from bench.records.cell import MEMORY_LIMIT, REFERENCE, Cell
from bench.records.record import Ending, Measurement, Provenance, Record
from bench.records.scored import scored_after_itself
from bench.records.store import read_record

SUITE = "quality"
HOW_MUCH = {"tasks", "items", MEMORY_LIMIT}
"""Settings that say how much is asked, not how; a limit changes no answer."""


def reference_items(
    results: Path, backend: Backend, cell: Cell, kind: str, provenance: Provenance
) -> dict[str, tuple[Measurement, ...]]:
    """By task, the measurements of the reference's record that holds most items of it, the newest of equal ones.

    Only records of the very same weights that were asked in the same way count, those of the engine versions installed
    now before others. Empty for other suites, and for the reference itself.
    """
    scheme = backend.default_scheme(REFERENCE, kind)
    if cell.suite != SUITE or scheme is None or scheme.name == cell.scheme:
        return {}
    wanted = cell.model_copy(update={"scheme": scheme.name, "precision": scheme.precision})
    now = installed(backend.requires)
    best: dict[str, tuple[tuple[bool, int, bool, str], tuple[Measurement, ...]]] = {}
    for record in _records(results, wanted, provenance):
        packages = record.versions.packages
        current = all(packages.get(name) == version for name, version in now.items())
        for task, found in _by_task(record).items():
            if any(map(scored_after_itself, found)):
                continue
            rank = (current, max(_items(m) for m in found), *record.when)
            if task not in best or rank > best[task][0]:
                best[task] = (rank, tuple(found))
    return {task: found for task, (_, found) in best.items()}


def _records(results: Path, wanted: Cell, provenance: Provenance) -> Iterator[Record]:
    """The `ok` records of that cell, whatever was asked of how many items."""
    folder = results / wanted.device / wanted.model / f"{wanted.backend}-{wanted.scheme}" / SUITE
    for path in sorted(folder.glob("*.json")):
        try:
            record = read_record(path)
        except Exception:  # noqa: BLE001,S112 - the views name it, whatever it does to a parser
            continue
        same = record.provenance is not None and record.provenance.same_files(provenance)
        alike = _question(record.cell) == _question(wanted)
        if record.outcome.ending is Ending.OK and same and alike:
            yield record


def _question(cell: Cell) -> Mapping[str, object]:
    settings = {name: value for name, value in cell.settings.items() if name not in HOW_MUCH}
    return cell.model_dump(mode="json", exclude={"settings", "profile", "fingerprint"}) | settings


def _by_task(record: Record) -> dict[str, list[Measurement]]:
    found: dict[str, list[Measurement]] = {}
    for measurement in record.measurements:
        if "task" in measurement.labels:
            found.setdefault(str(measurement.labels["task"]), []).append(measurement)
    return found


def _items(measurement: Measurement) -> int:
    right = measurement.labels.get("right")
    return len(right) if isinstance(right, list) else len(measurement.values)
