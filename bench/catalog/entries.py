# SPDX-License-Identifier: Apache-2.0
"""`catalog/*.yaml` to Models: one file per family, one mapping per entry, unknown keys are errors."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from bench.catalog import address, dimensions
from bench.catalog.model import Kind, Model
from bench.catalog.prompts import TEMPLATES
from bench.errors import UserError
from bench.paths import CATALOG
from bench.records.cell import Slug, Value
from bench.records.document import Document, read_all, read_yaml, validate

DEFAULT_MODEL = "smollm2-135m-instruct"


class Head(Value):
    """The keys at the top of a file, shared by all its entries."""

    family: Slug
    organisation: str | None = None


def read_catalog(folder: Path = CATALOG) -> tuple[Model, ...]:
    """Every entry of every family file, in file and then entry order.

    Raises UserError naming file, line, entry and field when a file is malformed, a name or a claim's id stands
    twice, or an entry refers to one, or to a prompt template, that is not there.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"no catalogue in {folder}", "pass --catalog FOLDER, or run from a checkout")
    placed = [(doc.path, index, model) for doc in read_all(files) for index, model in enumerate(entries_of(doc))]
    _check_unique(placed)
    _check_uses(placed)
    names = {model.name for _, _, model in placed}
    for path, index, model in placed:
        for place, name in _references(model):
            if name not in names:
                near = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.4)
                expected = f"nearest: {near[0]}" if near else "`bench catalog` lists the names"
                where = f"{_at(path, index, *place)}: entry {model.name!r} field {_field(place)!r}"
                raise UserError(f"{where}: no entry {name!r} in the catalogue", expected)
    return tuple(model for _, _, model in placed)


def _references(model: Model) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Where an entry names another, and the name."""
    if model.base_model:
        yield ("base_model",), model.base_model
    for number, claim in enumerate(model.claims):
        if claim.stand_in:
            yield ("claims", number, "stand_in"), claim.stand_in


def _check_unique(placed: Sequence[tuple[Path, int, Model]]) -> None:
    """Raise UserError, with both places, where a model's name or a claim's id is used again."""
    names: dict[str, str] = {}
    ids: dict[str, str] = {}
    for path, index, model in placed:
        if model.name in names:
            raise UserError(
                f"{_at(path, index, 'name')}: name {model.name!r} stands in {names[model.name]} already",
                "rename one of the two entries",
            )
        names[model.name] = path.name
        for number, claim in enumerate(model.claims):
            if claim.id in ids:
                where = _at(path, index, "claims", number, "id")
                raise UserError(
                    f"{where}: entry {model.name!r} field 'claims.id': {claim.id!r} is a claim of {ids[claim.id]!r}",
                    "claims' ids are unique in the catalogue: change one",
                )
            ids[claim.id] = model.name


def _check_uses(placed: Sequence[tuple[Path, int, Model]]) -> None:
    """Raise UserError if an entry names an unknown prompt template or the caller's own key, or has a field of others.

    Loading or quality would only find out later, or never.
    """
    for path, index, model in placed:
        if model.remote and model.remote.key_variable == address.OWN_KEY_VARIABLE:
            where = f"{_at(path, index, 'remote', 'key_variable')}: entry {model.name!r} field 'remote.key_variable'"
            mine = f"{address.OWN_KEY_VARIABLE} goes where its owner says with --api-url, and to no entry's address"
            raise UserError(f"{where}: {mine}", "name a variable of its own, such as PROVIDER_API_KEY")
        if model.added_rows != "zero" and model.kind is not Kind.DELTA:
            where = f"{_at(path, index, 'added_rows')}: entry {model.name!r} field 'added_rows'"
            raise UserError(f"{where}: only a delta adds rows to a base, this is {model.kind}", "leave it out")
        if wrong := dimensions.fault(model.architecture or {}):
            where = (
                f"{_at(path, index, 'architecture', wrong[0])}: entry {model.name!r} field 'architecture.{wrong[0]}'"
            )
            raise UserError(f"{where}: {wrong[1]}", "correct that field")
        if model.template and model.template not in TEMPLATES:
            where = f"{_at(path, index, 'template')}: entry {model.name!r} field 'template'"
            raise UserError(
                f"{where}: no prompt template {model.template!r}", f"one of: {', '.join(sorted(TEMPLATES))}"
            )


def _at(path: Path, index: int, *place: str | int) -> str:
    return f"{path}:{read_yaml(path).line(('models', index, *place))}"


def _field(place: tuple[str | int, ...]) -> str:
    return ".".join(map(str, place))


def read_family(path: Path) -> list[Model]:
    """The entries of one file; `family` and `organisation` are given once at its top."""
    return entries_of(read_yaml(path))


def entries_of(document: Document) -> list[Model]:
    """The entries of one file that has been read."""
    path = document.path
    head = document.data if isinstance(document.data, dict) else {}
    unknown = sorted(map(str, set(head) - {"family", "organisation", "models"}))
    if unknown or not isinstance(head.get("models"), list) or "family" not in head:
        what = f"unknown key {unknown[0]!r}" if unknown else "needs `family` and a list `models`"
        raise UserError(f"{path}:{document.line(unknown[:1])}: {what}", "see any other file of catalog/")
    shared = {key: head[key] for key in ("family", "organisation") if key in head}
    validate(Head, shared, document)
    models = []
    for index, entry in enumerate(head["models"]):
        data = shared | entry if isinstance(entry, dict) else entry
        models.append(validate(Model, data, document, at=("models", index)))
    return models


def select(models: Sequence[Model], patterns: Iterable[str]) -> list[Model]:
    """The models whose names match any of the globs, in catalogue order.

    Raises UserError with the nearest names when a pattern matches nothing.
    """
    chosen: set[str] = set()
    names = [model.name for model in models]
    for pattern in patterns:
        matched = fnmatch.filter(names, pattern.lower())
        matched += [m.name for m in models if pattern.lower() in {m.display.lower(), (m.repo or "").lower()}]
        if not matched:
            near = difflib.get_close_matches(pattern.lower(), names, n=3, cutoff=0.4)
            raise UserError(
                f"no model {pattern!r} in the catalogue",
                f"nearest: {', '.join(near)}" if near else "`bench catalog` lists the names",
            )
        chosen.update(matched)
    return [model for model in models if model.name in chosen]


def unmeasurable(model: Model, *, served: bool = False) -> str | None:
    """The reason this entry can never be measured as it stands, None if it can be.

    Loaded here, that is, or with `served` asked over the network.
    """
    if served:
        return None if model.remote else f"{model.kind}: the catalogue names no API that serves it"
    if model.reason:
        return f"{model.kind}: {model.reason}"
    if model.kind in {Kind.API, Kind.NEVER_RELEASED, Kind.NOT_A_MODEL}:
        return str(model.kind)
    if model.repo is None and model.package is None:
        return f"{model.kind}: no repository is known"
    return None
