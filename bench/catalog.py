# SPDX-License-Identifier: Apache-2.0
"""`catalog/*.yaml` to Models: one file per family, one mapping per entry, unknown keys are errors."""

from __future__ import annotations

import difflib
import fnmatch
from collections.abc import Iterable, Sequence
from pathlib import Path

from bench.cell import Kind, Model, Slug, Value
from bench.document import read_yaml, validate
from bench.errors import UserError
from bench.places import CATALOG

DEFAULT_MODEL = "smollm2-135m-instruct"


def read_catalog(folder: Path = CATALOG) -> tuple[Model, ...]:
    """Every entry of every family file, in file and then entry order.

    Raises UserError naming file, line, entry and field when a file is malformed.
    """
    files = sorted(folder.glob("*.yaml"))
    if not files:
        raise UserError(f"no catalogue in {folder}", "pass --catalog FOLDER, or run from a checkout")
    seen: dict[str, tuple[Model, Path]] = {}
    for path in files:
        for index, model in enumerate(read_family(path)):
            if model.name in seen:
                line = read_yaml(path).line(["models", index])
                raise UserError(
                    f"{path}:{line}: the name {model.name!r} stands in {seen[model.name][1].name} too",
                    "rename one of the two entries",
                )
            seen[model.name] = (model, path)
    return tuple(model for model, _ in seen.values())


class Head(Value):
    """What the entries of one file share."""

    family: Slug
    organisation: str | None = None


def read_family(path: Path) -> list[Model]:
    """The entries of one file; `family` and `organisation` are given once at its top."""
    document = read_yaml(path)
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


def unmeasurable(model: Model) -> str | None:
    """The reason this entry can never be measured as it stands, None if it can be."""
    if model.reason:
        return f"{model.kind}: {model.reason}"
    if model.kind in {Kind.API, Kind.NEVER_RELEASED, Kind.NOT_A_MODEL}:
        return str(model.kind)
    if model.repo is None and model.package is None:
        return f"{model.kind}: no repository is known"
    return None
