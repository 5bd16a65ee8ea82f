# SPDX-License-Identifier: Apache-2.0
"""What is published of the results beside the catalogue: tables in five formats, plots and a site, all made of records.

Every file is made in memory first, written beside its old one and put in its place, so that a half-published folder is
whole again after the next call; the same records give the same bytes. What needs a library that is not installed is
left out and named.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import JsonValue

from bench import escape
from bench.errors import UserError
from bench.instruments.distributions import is_installed
from bench.judge.answer import answers
from bench.judge.compare import compare
from bench.judge.rows import Row
from bench.judge.stats import MARGIN
from bench.processes import write_whole
from bench.views import answer_tables, comparison, formats, table
from bench.views.columns import VIEWS
from bench.views.formats import Flat, Table
from bench.views.site import plot
from bench.views.site.data import entries

if TYPE_CHECKING:
    import pyarrow as pa

INSTALL = "pip install -e '.[publish]'"
NEEDS = {".parquet": "pyarrow", ".svg": "vl-convert-python", ".png": "vl-convert-python", ".html": "jinja2"}
"""The distribution that makes files of that ending."""
MADE_BY = "<!-- made by `bench publish` from the records beside it; do not edit -->\n"
PLOT_WIDTH, SCALE = 720, 2.0


@dataclass(frozen=True, kw_only=True)
class Publication:
    """Files by their path below the results folder, and what could not be made."""

    files: Mapping[str, bytes]
    left_out: tuple[str, ...]


def made(rows: Sequence[Row]) -> Publication:
    """Tables and plots of these rows."""
    found: dict[str, bytes] = {}
    lacking: dict[str, None] = {}
    for name, make in _files(rows):
        needed = NEEDS.get(Path(name).suffix)
        if needed and not is_installed(needed):
            lacking[f"{Path(name).suffix} files need {needed}"] = None
        else:
            found[name] = make()
    return Publication(files=found, left_out=tuple(lacking))


def _files(rows: Sequence[Row]) -> Iterator[tuple[str, Callable[[], bytes]]]:
    compared = comparison.flats(answers(compare(rows)[0]))
    for name, flats in (("rows", table.flats(rows)), ("comparisons", compared)):
        yield f"tables/{name}.csv", partial(_csv, flats)
        yield f"tables/{name}.json", partial(_json, flats)
        yield f"tables/{name}.parquet", partial(_parquet, flats)
    plotted: dict[str, bool] = {}
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        yield f"tables/{device}.tex", partial(_tex, here)
        shown = plot.points(entries(here))
        plotted[device] = bool(shown)
        if shown:
            yield f"plots/{device}.svg", partial(_svg, device, shown)
            yield f"plots/{device}.png", partial(_png, device, shown)
    yield "README.md", partial(_readme, rows, plotted)


def _csv(flats: Sequence[Flat]) -> bytes:
    return formats.to_csv(flats).encode()


def _json(flats: Sequence[Flat]) -> bytes:
    return formats.to_json(flats).encode()


def _tex(rows: Sequence[Row]) -> bytes:
    return latex(_main(rows), f"Memory, speed and quality on {rows[0].device}.").encode()


def _main(rows: Sequence[Row]) -> Table:
    return table.people(rows, VIEWS["default"])


def _readme(rows: Sequence[Row], plotted: Mapping[str, bool]) -> bytes:
    """For each device, its plot if it has one, what each precision costs where quality was measured, and every row."""
    parts = [MADE_BY, "# Results\n", "As a page: [site/index.html](site/index.html). As files: [tables/](tables/).\n"]
    for device, has_plot in plotted.items():
        here = [row for row in rows if row.device == device]
        parts.append(f"## {escape.markdown(device)}\n")
        if has_plot:
            parts.append(f"![Decode by memory on {escape.markdown(device)}](plots/{device}.svg)\n")
        judged = [answer for answer in answers(compare(here)[0]) if answer.findings]
        for view in answer_tables.views(judged, MARGIN):
            parts += [f"### {escape.markdown(view.title)}\n", formats.markdown(view.table)]
            parts.append("".join(f"- {escape.markdown(note)}\n" for note in view.notes))
        parts += ["<details>\n<summary>all rows</summary>\n", formats.markdown(_main(here)), "</details>\n"]
    return "\n".join(parts).encode()


def latex(made: Table, caption: str) -> str:
    """A table for a paper: plain `tabular`, no package needed; footnotes beneath it."""
    form = "".join("l" if formats.is_words(title) else "r" for title in made.titles)
    lines = [" & ".join(map(escape.latex, cells)) + r" \\" for cells in [made.titles, *made.rows]]
    notes = [f"\\par\\footnotesize [{index}] {escape.latex(note)}" for index, note in enumerate(made.notes, 1)]
    body = [
        r"\begin{table}", r"\centering", f"\\caption{{{escape.latex(caption)}}}", f"\\begin{{tabular}}{{{form}}}",
        r"\hline", lines[0], r"\hline", *lines[1:], r"\hline", r"\end{tabular}", *notes, r"\end{table}",
    ]  # fmt: skip
    return "\n".join(body) + "\n"


def _parquet(flats: Sequence[Flat]) -> bytes:
    import pyarrow.parquet as pq

    file = io.BytesIO()
    pq.write_table(_arrow(flats), file, compression="zstd")
    return file.getvalue()


def _arrow(flats: Sequence[Flat]) -> pa.Table:
    """Columns of one type each: text where any value is text, else numbers."""
    import pyarrow as pa

    names = list(dict.fromkeys(name for flat in flats for name in flat))
    columns = {}
    for name in names:
        values = [flat.get(name) for flat in flats]
        kinds = {type(value) for value in values if value is not None}
        if str in kinds or not kinds:
            columns[name] = pa.array([None if value is None else str(value) for value in values], pa.string())
        elif kinds == {bool}:
            columns[name] = pa.array(values, pa.bool_())
        else:
            numbers = [None if value is None else float(value) for value in values if not isinstance(value, str)]
            columns[name] = pa.array(numbers, pa.float64())
    return pa.table(columns)


def _specification(device: str, shown: Sequence[JsonValue]) -> str:
    marked, line = plot.with_front(shown)
    title = f"decode by memory, {escape.visible(device)}"
    return json.dumps(plot.specification(marked, line, title=title, width=PLOT_WIDTH, background="white"))


def _svg(device: str, shown: Sequence[JsonValue]) -> bytes:
    import vl_convert

    text: str = vl_convert.vegalite_to_svg(_specification(device, shown), allowed_base_urls=[])
    return text.encode()


def _png(device: str, shown: Sequence[JsonValue]) -> bytes:
    import vl_convert

    data: bytes = vl_convert.vegalite_to_png(_specification(device, shown), scale=SCALE, allowed_base_urls=[])
    return data


def stale(folder: Path, found: Publication) -> list[str]:
    """The files whose content is not what the records give, and those that are there and are made no more."""
    changed = [name for name, content in found.files.items() if _read(folder / name) != content]
    endings = {Path(name).suffix for name in found.files}
    there = [path for kind in ("tables", "plots") for path in sorted((folder / kind).glob("*")) if path.is_file()]
    names = {str(path.relative_to(folder)) for path in there if path.suffix in endings}
    return [*changed, *sorted(names - found.files.keys())]


def write(folder: Path, found: Publication) -> bool:
    """Bring these files up to date, each whole; returns whether one was stale. Raises UserError."""
    changed = stale(folder, found)
    try:
        for name in changed:
            path = folder / name
            if name not in found.files:
                path.unlink()
                continue
            write_whole(path, found.files[name])
    except OSError as error:
        refused = f"cannot publish to {folder}: {error.strerror}"
        raise UserError(refused, "check the path and its permissions") from None
    return bool(changed)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None
