# SPDX-License-Identifier: Apache-2.0
"""Figures written back into `catalog/README.md`, between markers: a function of catalogue and results alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.catalog import unmeasurable
from bench.cell import Model
from bench.compare import compare, ratio_table, task_table
from bench.errors import UserError
from bench.record import Ending
from bench.table import VIEWS, Row, footnotes, markdown, people


def marker(name: str, end: str) -> str:
    """The comment that begins or ends a generated block."""
    return f"<!-- bench:{name}:{end} -->"


def blocks(models: Sequence[Model], rows: Sequence[Row]) -> dict[str, str]:
    """The generated blocks by name."""
    return {"measured": measured(rows), "catalogue": catalogue(models, rows)}


def measured(rows: Sequence[Row]) -> str:
    """For each device: figures, what each precision costs, and the footnotes."""
    if not rows:
        return "Nothing has been measured yet: run `nox -s bench`.\n"
    parts = []
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        facts = next(record.machine for row in here for record in row.records.values())
        ram = f"{(facts.gpu_memory_bytes or facts.memory_bytes) / 2**30:.0f} GiB"
        parts.append(f"### {facts.name}, {facts.kind}, {facts.logical_cpus} CPUs, {ram}\n")
        parts.append(markdown(people(here, VIEWS["default"])))
        comparisons, _ = compare(here)
        if comparisons:
            parts.append("Against each model's own 16-bit row:\n")
            parts.append(markdown(ratio_table(comparisons)))
            if any(item.tasks for item in comparisons):
                parts.append(markdown(task_table(comparisons)))
        parts.append("\n".join(f"- {line}" for line in footnotes(here)) + "\n")
    return "\n".join(parts)


def catalogue(models: Sequence[Model], rows: Sequence[Row]) -> str:
    """Every entry: what it is, what its makers claim, and whether it has been measured or why it cannot be."""
    done = {row.model for row in rows if any(r.outcome.ending is Ending.OK for r in row.records.values())}
    lines = [
        "| model | organisation | parameters | made from | tuned on | how | claimed hardware and cost | here |",
        "| --- | --- | ---: | --- | --- | --- | --- | --- |",
    ]
    for model in models:
        here = "measured" if model.name in done else unmeasurable(model) or "not measured yet"
        parameters = f"{model.parameters / 1e6:,.0f} M" if model.parameters else ""
        cells = [model.name, model.organisation, parameters, model.base, model.data, model.finetune, model.claim, here]
        lines.append("| " + " | ".join(_plain(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


def annotated(text: str, found: dict[str, str], path: Path) -> str:
    """`text` with each block's content replaced. Raises UserError where a marker is missing."""
    for name, content in found.items():
        begin, end = marker(name, "begin"), marker(name, "end")
        head, opened, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not opened or not closed:
            raise UserError(f"{path} has no {begin} … {end}", "restore the two comments where the block belongs")
        text = f"{head}{begin}\n\n{content}\n{end}{tail}"
    return text


def publish(path: Path, models: Sequence[Model], rows: Sequence[Row], *, check: bool) -> bool:
    """Bring the file up to date; returns whether it was stale. With `check` nothing is written."""
    try:
        before = path.read_text(encoding="utf-8")
        after = annotated(before, blocks(models, rows), path)
        if after != before and not check:
            path.write_text(after, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot publish to {path}: {error.strerror}", "check the path and its permissions") from None
    return after != before
