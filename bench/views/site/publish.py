# SPDX-License-Identifier: Apache-2.0
"""Writes the site: the same files for the same records, whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from bench.errors import UserError
from bench.judge.claims import Judged
from bench.judge.rows import Row
from bench.records.cell import COMPARED
from bench.records.record import Run
from bench.units import slug
from bench.views import claims, formats
from bench.views.site import model_page, plot
from bench.views.site.data import HEADINGS, Entry, entries, page_of

if TYPE_CHECKING:
    from jinja2 import Environment

HERE = Path(__file__).parent
VENDORED = ("dataTables.min.css", "dataTables.min.js", "vega.min.js", "vega-lite.min.js", "vega-interpreter.js")
ASSETS = ("site.css", "begin.js", "site.js")


def stale(folder: Path, pages: Mapping[str, bytes]) -> bool:
    """Whether the folder holds anything else than these files."""
    there = {str(path.relative_to(folder)): path for path in folder.rglob("*") if path.is_file()}
    return there.keys() != pages.keys() or any(path.read_bytes() != pages[name] for name, path in there.items())


def write(folder: Path, pages: Mapping[str, bytes]) -> None:
    """Put the site in place of the old one. Raises UserError where the folder refuses.

    The new one stands beside it until it is complete. What an interrupted call left is removed.
    """
    part, old = folder.with_name(f".{folder.name}.part"), folder.with_name(f".{folder.name}.old")
    try:
        for left in (part, old):
            shutil.rmtree(left, ignore_errors=True)
        for name, content in pages.items():
            path = part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        if folder.exists():
            folder.replace(old)
        part.replace(folder)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        refused = f"cannot write the site to {folder}: {error.strerror}"
        raise UserError(refused, "give a folder that can be written") from None


def files(rows: Sequence[Row], judged: Sequence[Judged], runs: Sequence[Run]) -> Iterator[tuple[str, bytes]]:
    """Every file of the site by its path."""
    for name in VENDORED:
        yield f"assets/{name}", (HERE / "vendor" / name).read_bytes()
    yield "assets/LICENSES.txt", (HERE / "vendor" / "LICENSES.txt").read_bytes()
    for name in ASSETS:
        yield f"assets/{name}", (HERE / "assets" / name).read_bytes()
    devices = sorted({row.device for row in rows})
    found = entries(rows)
    yield "index.html", _index(found, devices)
    newest = model_page.newest_versions(rows)
    models = dict.fromkeys(row.model for row in rows)
    for model in models:
        own = [row for row in rows if row.model == model]
        said = [item for item in judged if item.model.name == model]
        yield f"model/{page_of(model)}.html", _page(model, model_page.of_model(own, said, newest), devices, "../")
    for device in devices:
        here = [row for row in rows if row.device == device]
        of = [run for run in runs if run.device == device]
        facts = next(record.machine for row in here for record in row.records.values())
        texts = [f"{facts.name}, {facts.logical_cpus} CPUs, {facts.memory_bytes / 2**30:.0f} GiB, {facts.os}"]
        yield f"device/{slug(device)}.html", _page(device, model_page.of_device(here, of), devices, "../", texts)
    stated = [
        model_page.Section(title="claims and verdicts", before=(claims.counts(judged),), table=claims.people(judged))
    ]
    yield "claims.html", _page("what makers claim", stated, devices, "")


def _index(found: Sequence[Entry], devices: Sequence[str]) -> bytes:
    present = {one.row.precision for one in found}
    counts = {name: sum(one.row.device == name for one in found) for name in devices}
    data = {
        "titles": {heading.key: heading.title for heading in HEADINGS},
        "spec": plot.specification(width=600),
        "device": max(devices, key=lambda name: counts[name]) if devices else "",
    }  # fmt: skip
    return _rendered(
        "index.html", title="What 8 and 4 bits cost", root="", devices=list(devices), entries=found, headings=HEADINGS,
        precisions=[str(precision) for precision in COMPARED if precision in present], data=data,
    )  # fmt: skip


def _page(
    title: str, sections: Sequence[model_page.Section], devices: Sequence[str], root: str, texts: Sequence[str] = ()
) -> bytes:  # fmt: skip
    return _rendered(
        "page.html", title=title, root=root, devices=list(devices), sections=sections, texts=texts,
        words=formats.is_words,
    )  # fmt: skip


def _rendered(template: str, **values: object) -> bytes:
    """A page. Every value is escaped by the library; nothing of a record is taken for markup."""
    text: str = _environment().get_template(template).render(**values)
    return text.encode("utf-8", errors="replace")


@lru_cache(maxsize=1)
def _environment() -> Environment:
    """The templates, each compiled once."""
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise UserError("the site needs jinja2", "pip install -e '.[publish]'") from None
    return Environment(
        loader=FileSystemLoader(HERE / "templates"), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
