# SPDX-License-Identifier: Apache-2.0
"""The roof that a plan's seconds are predicted from: known from records, kept in the cache, or measured now."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.engines.contract import Backend
from bench.instruments.disturbance import OTHERS
from bench.instruments.machine import condition
from bench.instruments.roof import measure_roof
from bench.paths import cache_folder
from bench.processes import write_whole
from bench.records.record import Record, Run
from bench.records.surroundings import ROOF_METHOD, Machine, Roof


def device_roof(machine: Machine, engines: Sequence[Backend], records: Iterable[Record]) -> Roof | None:
    """What this device can do at most, by the library that these engines compute with; None if they are all remote.

    On a device without records this takes about 3 s once.
    """
    here = [engine for engine in engines if not engine.remote]
    if not here:
        return None
    known = next((engine.roof for engine in here if engine.roof), None)
    if known:
        return known()
    library = "torch" if any("torch" in engine.requires and not engine.missing() for engine in here) else "numpy"
    quiet = (r for r in records if r.cell.device == machine.device and (r.before.others_cpu or 0.0) <= OTHERS)
    for record in sorted(quiet, key=lambda record: record.when, reverse=True):
        roof = record.before.roof
        if roof and roof.method == ROOF_METHOD and roof.memory() and roof.engine.split()[0] == library:
            return roof
    return _kept(cache_folder() / "roofs" / f"{machine.device}-{library}-{ROOF_METHOD}.json", library, machine.kind)


def known_memory(machine: Machine, results: Path) -> float | None:
    """Bytes per second that this device's memory sustains, by its newest run or a look that a plan kept; measures none.

    Reads one file, however many records there are.
    """
    for path in sorted((results / machine.device / "runs").glob("*.json"), reverse=True)[:1]:
        with contextlib.suppress(OSError, ValueError):
            roof = Run.model_validate_json(path.read_text(encoding="utf-8")).before.roof
            if roof and roof.memory():
                return roof.memory()
    for path in sorted((cache_folder() / "roofs").glob(f"{machine.device}-*-{ROOF_METHOD}.json")):
        with contextlib.suppress(OSError, ValueError):
            return Roof.model_validate_json(path.read_text(encoding="utf-8")).memory()
    return None


def _kept(path: Path, library: str, kind: str) -> Roof:
    """The roof in a file of the cache, measured and written there if there is none.

    A look while other programs compute is not kept: on a crowded machine products were a thousand times too slow.
    """
    try:
        return Roof.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        busy = (condition(kind).others_cpu or 0.0) > OTHERS
        roof = measure_roof(library, kind)
        if busy:
            return roof
        write_whole(path, roof.model_dump_json())
        return roof
