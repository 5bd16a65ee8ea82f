# SPDX-License-Identifier: Apache-2.0
"""What a caller asked for, and what that means for each model: which weights, which suites, which settings."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

import suites
from bench import architecture, catalog
from bench.cell import Kind, Model, Objective, Precision, Weights, digest
from bench.engine import Backend
from bench.errors import UserError
from bench.suite import PROFILES, suite

QUALITY = ("divergence", "quality")
RANDOM_SAYS_NOTHING = "random weights say nothing about quality"
OBJECTIVES = {"bert": Objective.MASKED, "t5": Objective.SEQ2SEQ}
"""What architectures that are not causal predict, for models that no catalogue describes."""


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What the caller asked for; empty means the default."""

    models: tuple[str, ...] = ()
    precisions: tuple[Precision, ...] = ()
    schemes: tuple[str, ...] = ()
    backends: tuple[str, ...] = ("transformers",)
    suites: tuple[str, ...] = ()
    weights: Weights | None = None
    path: str | None = None
    """Folder of local weights; adapters of a chain as FIRST,SECOND."""
    base: str | None = None
    """Folder of the base that adapters or a difference are added to, None for the one the entry names."""
    trust_remote_code: bool = False
    """Let a repository's own code run where its entry allows it."""
    profile: str = "standard"
    tasks: tuple[str, ...] = ()
    device: str = "cpu"
    missing: bool = False
    """Only what no settled record of this device and these versions answers."""
    force: bool = False
    """Try cells that are predicted not to fit."""

    @property
    def key(self) -> str:
        """Identifies the same call made again."""
        folders = {
            name: local_name(path) if path else None for name, path in (("path", self.path), ("base", self.base))
        }
        data = vars(self) | folders
        return digest(json.loads(json.dumps(data, default=str)))


def chosen_models(selection: Selection, models: Sequence[Model]) -> list[Model]:
    """The models a selection names: catalogue entries, else a Hub repository, else the local folder itself."""
    patterns = list(selection.models)
    if selection.path and not patterns:
        first, base = selection.path.split(",")[0], selection.base
        return [_own_model(Path(first).resolve(), Path(base).resolve() if base else None)]
    if not patterns:
        return [model for model in models if model.name == catalog.DEFAULT_MODEL]
    known, unknown = [], []
    for pattern in patterns:
        try:
            known += catalog.select(models, [pattern])
        except UserError:
            if not re.fullmatch(r"[\w.-]+/[\w.-]+", pattern):
                raise
            unknown.append(pattern)
    own = [Model(name=slug(p), display=p, family="own", organisation="-", kind=Kind.OPEN, repo=p) for p in unknown]
    found = list({model.name: model for model in [*known, *own]}.values())
    if selection.path and len(found) > 1:
        raise UserError(f"--weights local=FOLDER is one model, {len(found)} are selected", "name one with --model")
    return found


def local_name(paths: str) -> str:
    """Names of local folders given as one argument, never their paths."""
    return "+".join(Path(path).resolve().name for path in paths.split(","))


def _own_model(folder: Path, base: Path | None) -> Model:
    """A model that no catalogue names, described by its own config.json, or an adapter by that of its base."""
    adapter = (folder / "adapter_config.json").is_file()
    if adapter and base is None:
        raise UserError(f"{folder} is an adapter and nothing without its base", "pass --base FOLDER")
    try:
        config = json.loads(((base if adapter and base else folder) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{folder} is no model folder ({error})", "give a folder in Hub layout") from None
    return Model(
        name=slug(folder.name),
        display=folder.name,
        family="own",
        organisation="-",
        kind=Kind.ADAPTER if adapter else Kind.OPEN,
        objective=OBJECTIVES.get(config.get("model_type"), Objective.CAUSAL),
        repo=f"local/{folder.name}",
        architecture=config,
    )


def slug(name: str) -> str:
    """A name that can be a folder of `results/`."""
    return re.sub(r"[^a-z0-9._-]+", "-", name.lower()).strip("-.") or "model"


def never(selection: Selection, model: Model) -> str | None:
    """Why nothing of this model can be measured from the weights asked for, None if it can."""
    if selection.weights is Weights.RANDOM:
        return (
            None
            if architecture.is_known(model.architecture)
            else "its architecture is not known, so it cannot be built"
        )
    return None if selection.path else catalog.unmeasurable(model)


def suites_of(selection: Selection) -> list[str]:
    """The suites asked for, in their order. Raises UserError for an unknown one."""
    for name in selection.suites:
        suite(name)  # refuses unknown names
    return [name for name in suites.ORDER if not selection.suites or name in selection.suites]


def source_of(selection: Selection, model: Model, engine: Backend) -> tuple[Weights, str]:
    """Where the weights come from, and what a record calls it."""
    weights = selection.weights or model.default_weights
    if not engine.needs_repository:
        return Weights.RANDOM, engine.name
    if weights is Weights.RANDOM:
        return weights, "random"
    if weights is Weights.PACKAGE:
        return weights, model.package or ""
    source = local_name(str(selection.path)) if weights is Weights.LOCAL else model.repo or "+".join(model.adapters)
    return weights, f"{source} on {local_name(selection.base)}" if selection.base else source


def settings_of(
    selection: Selection, model: Model, profiles: Mapping[str, Mapping[str, JsonValue]]
) -> dict[str, JsonValue]:
    """A suite's settings for this model; its objective and prompt template are part of the question."""
    if selection.profile not in PROFILES:
        raise UserError(f"no profile {selection.profile!r}", f"one of: {', '.join(PROFILES)}")
    settings: dict[str, JsonValue] = dict(profiles[selection.profile])
    if model.objective is not Objective.CAUSAL:
        settings["objective"] = str(model.objective)
    if "tasks" in settings:
        if selection.tasks:
            settings["tasks"] = list(selection.tasks)
        if model.template:
            settings["template"] = model.template
    return settings
