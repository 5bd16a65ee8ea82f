# SPDX-License-Identifier: Apache-2.0
"""What the page of one model and that of one device hold: sections of text, tables and commands. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import fsum

import suites
from bench.judge.answer import answers
from bench.judge.claims import Judged
from bench.judge.compare import compare
from bench.judge.pairing import NEVER_COMPUTE
from bench.judge.rows import Row
from bench.judge.stats import MARGIN
from bench.records.cell import Weights
from bench.records.record import Measurement, Record, Run
from bench.units import significant, slug
from bench.views import answer_tables, claims, roofs
from bench.views.answer import label, parts, text
from bench.views.cells import labelled
from bench.views.columns import VIEWS
from bench.views.footnotes import variability
from bench.views.formats import Table
from bench.views.table import people

WIDTH = 110
FEW = 8
"""Samples that are written out; of more the first ones and their number."""
SESSIONS = {
    "transformers": "bench", "llamacpp": "bench-llamacpp", "onnxruntime": "bench-onnxruntime",
    "openvino": "bench-openvino", "api": "bench-api",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of a page."""

    title: str
    before: tuple[str, ...] = ()
    table: Table | None = None
    code: str = ""
    after: tuple[str, ...] = ()
    folded: bool = False
    """Whether the table is folded away."""


def of_model(rows: Sequence[Row], judged: Sequence[Judged], newest: Mapping[str, Mapping[str, str]]) -> list[Section]:
    """The page of one model; `newest` has by device the newest version of each package that any record there names."""
    compared, _ = compare(rows)
    each = answers(compared)
    found = [
        *(Section(title=part.title, code="\n".join(text(part, WIDTH))) for part in parts(each)),
        *(Section(title=view.title, table=view.table, after=view.notes) for view in answer_tables.views(each, MARGIN)),
    ]
    if not each:
        found.append(Section(title="figures", table=people(rows, VIEWS["default"], name_device=True)))
    if judged:
        found.append(Section(title="what its makers claim", table=claims.people(judged)))
    found += [
        Section(title="memory, part by part", table=people(rows, VIEWS["memory"], name_device=True)),
        Section(title="speed", table=people(rows, VIEWS["speed"], name_device=True)),
        Section(title="distance from 16 bits and its tail", table=people(rows, VIEWS["quality"], name_device=True)),
    ]
    by_register = registers(rows)
    if by_register.rows:
        found.append(Section(title="KL divergence by register", table=by_register))
    found += [
        Section(title="how to measure it again", code="\n".join(commands(rows))),
        Section(title="age", table=age(rows, newest)),
        Section(title="samples behind each figure", table=samples(rows), folded=True),
    ]
    return found


def of_device(rows: Sequence[Row], runs: Sequence[Run]) -> list[Section]:
    """The page of one device: what it can do at most, how far that moves, and all its rows."""
    found = [
        Section(title="what this device can do at most", table=view.table, after=view.notes)
        for view in roofs.views(runs)
    ]
    moves = tuple(variability(rows))
    found.append(Section(title="all rows", table=people(rows, VIEWS["default"]), after=moves))
    return found


def registers(rows: Sequence[Row]) -> Table:
    """Mean KL divergence from the 16-bit row in each register of the probe text."""
    table = Table(["model", "precision", "device"])
    names: list[str] = []
    told: list[tuple[Row, dict[str, float]]] = []
    for row in rows:
        record = row.records.get("divergence")
        kld = record.measurement("kld_nat") if record else None
        own = _by_register(kld) if kld else {}
        if own:
            told.append((row, own))
            names += [name for name in own if name not in names]
    table.titles += names
    for row, own in told:
        values = [significant(own[name]) if name in own else "-" for name in names]
        table.rows.append([labelled(row), label(row), row.device, *values])
    return table


def _by_register(kld: Measurement) -> dict[str, float]:
    named, size = kld.labels.get("registers"), kld.labels.get("window_tokens")
    if not isinstance(named, list) or not isinstance(size, int) or size < 1:
        return {}
    found: dict[str, list[float]] = {}
    for index, name in enumerate(named):
        found.setdefault(str(name), []).extend(kld.values[index * size : (index + 1) * size])
    return {name: fsum(values) / len(values) for name, values in found.items() if values}


def commands(rows: Sequence[Row]) -> Iterator[str]:
    """What measures each row again, from a checkout."""
    for row in rows:
        session = SESSIONS.get(row.backend)
        call = f"nox -s {session} --" if session else f"bench run --backend {row.backend}"
        yield f"{call}{_subject(row)} --scheme {row.scheme}"


def _subject(row: Row) -> str:
    """The options that ask for these very weights: local ones by the folder's name, which is all a record knows."""
    if row.weights is not Weights.LOCAL:
        return f" --model {row.model}" + (" --weights random" if row.weights is Weights.RANDOM else "")
    source, _, base = next(iter(row.records.values())).cell.source.partition(" on ")
    paths = source.replace("+", ",") if base else source  # adapters, one after the other
    named = "" if row.model in {slug(source), slug(source.removesuffix(".gguf"))} else f" --model {row.model}"
    return f"{named} --weights {shlex.quote(f'local={paths}')}" + (f" --base {shlex.quote(base)}" if base else "")


def age(rows: Sequence[Row], newest: Mapping[str, Mapping[str, str]]) -> Table:
    """When each record was measured, and what moved since."""
    table = Table(["precision", "suite", "device", "measured", "record", "moved since"])
    for row in rows:
        for name, record in row.records.items():
            moved = "; ".join(_moved(record, newest.get(row.device, {}))) or "nothing"
            table.rows.append([label(row), name, row.device, record.started[:10], record.id, moved])
    return table


def _moved(record: Record, newest: Mapping[str, str]) -> Iterator[str]:
    """What is newer than this record: its suite, or a library that a later record of its device names."""
    cell = record.cell
    if cell.suite in suites.ORDER and cell.backend != "api":
        now = suites.suite(cell.suite).VERSION
        if now != cell.suite_version:
            yield f"the suite is at version {now}, this is {cell.suite_version}"
    for name, version in record.versions.packages.items():
        if name in newest and newest[name] != version and name not in NEVER_COMPUTE:
            yield f"{name} {version}, now {newest[name]}"


def newest_versions(rows: Sequence[Row]) -> dict[str, dict[str, str]]:
    """By device, each package in the version that the newest record naming it has."""
    found: dict[str, dict[str, str]] = {}
    records = [record for row in rows for record in row.records.values()]
    for record in sorted(records, key=lambda record: record.when):
        found.setdefault(record.cell.device, {}).update(record.versions.packages)
    return found


def samples(rows: Sequence[Row]) -> Table:
    """Every measurement of every record."""
    table = Table(["precision", "device", "suite", "record", "quantity", "unit", "of", "samples", "values"])
    for row in rows:
        for name, record in row.records.items():
            for one in record.measurements:
                values = ", ".join(significant(value, 4) for value in one.values[:FEW])
                more = " …" if len(one.values) > FEW else ""
                table.rows.append([
                    label(row), row.device, name, record.id, one.name, str(one.unit), _of(one), str(len(one.values)),
                    values + more,
                ])  # fmt: skip
    return table


def _of(one: Measurement) -> str:
    told = ("task", "point", "batch", "prompt_tokens", "part", "storage", "counter")
    return ", ".join(f"{name} {one.labels[name]}" for name in told if name in one.labels)
