# SPDX-License-Identifier: Apache-2.0
"""What the user asked for, and what it means for each model: its weights, suites and settings."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydantic import JsonValue

import suites
from bench.catalog import architecture, entries, remote
from bench.catalog import launch as launches
from bench.catalog.local_model import own_model
from bench.catalog.model import Kind, Model, Objective
from bench.engines.contract import Backend
from bench.errors import UserError
from bench.plan.local_weights import REPOSITORY, refuse_path, told_apart
from bench.plan.overrides import Overrides
from bench.records.cell import (
    ASSUMED,
    ATTENTION,
    COMPARED,
    KV,
    KV_READ_IN_PIECES,
    LAUNCH,
    MEMORY_LIMIT,
    PROFILES,
    QUALITY_SUITES,
    RANDOM_SAYS_NOTHING,
    REFERENCE,
    UNTRIED,
    Precision,
    Scheme,
    Weights,
    digest,
)
from bench.records.surroundings import Machine
from bench.units import slug

ORDER = (REFERENCE, Precision.FP32, Precision.INT8, Precision.INT4, Precision.SERVED)
"""The reference first: the others are compared with what it leaves."""
GENERATED = 32
"""Tokens generated at a chosen context, the rest is prompt: the same cache at the end, and prefill needs more."""


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
    """Folder or GGUF file of local weights; adapters of a chain as FIRST,SECOND."""
    launch: str | None = None
    """Command line of the server to launch."""
    api_url: str | None = None
    """Address of an OpenAI-compatible server; models are asked there by name."""
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
    plain_scoring: bool = False
    """Score every row by itself, computing again what rows share."""
    memory_limit_bytes: int | None = None
    """Hard limit of every process, None for none."""
    kv: str | None = None
    """Precision of keys and values, None for the engine's own."""
    overrides: Overrides = field(default_factory=Overrides)
    """What is asked of the suites beyond the profile."""
    tokens: int | None = None
    """Positions that the memory suite holds at its peak, None for the profile's own."""
    elsewhere: bool = False
    """Whether it is planned for another box, of which nothing can be tried here."""

    @property
    def key(self) -> str:
        """Identifies the same call made again."""
        folders: dict[str, str | None] = {
            name: local_name(path) if path else None for name, path in (("path", self.path), ("base", self.base))
        }
        data = vars(self) | folders | ({"fingerprint": told_apart(self.path, self.base)} if self.path else {})
        return digest(json.loads(json.dumps(data, default=str)))


def chosen_models(selection: Selection, models: Sequence[Model]) -> list[Model]:
    """The models that a selection names: catalogue entries, Hub repositories, a local folder, or a server's models.

    Raises UserError where a name is a place on this machine.
    """
    patterns = list(selection.models)
    if selection.api_url:
        return remote.named(patterns, models, selection.api_url)
    if selection.path and not patterns:
        first, base = selection.path.split(",")[0], selection.base
        return [own_model(Path(first).resolve(), Path(base).resolve() if base else None)]
    if not patterns:
        return [model for model in models if model.name == entries.DEFAULT_MODEL]
    known, unknown = [], []
    for pattern in patterns:
        try:
            known += entries.select(models, [pattern])
        except UserError:
            if selection.weights is not Weights.HUB:
                refuse_path(pattern)
            if not REPOSITORY.fullmatch(pattern):
                raise
            unknown.append(pattern)
    own = [Model(name=slug(p), display=p, family="own", organisation="-", kind=Kind.OPEN, repo=p) for p in unknown]
    found = list({model.name: model for model in [*known, *own]}.values())
    if selection.path and len(found) > 1:
        raise UserError(f"--weights local=PATH is one model, {len(found)} are selected", "name one with --model")
    return found


def local_name(paths: str) -> str:
    """The names of the local folders in one argument, without their paths."""
    return "+".join(Path(path).resolve().name for path in paths.split(","))


def refuse_unknown(selection: Selection, backends: Sequence[Backend]) -> None:
    """Raise UserError for an unknown name, even if nothing could run anyway."""
    known = {scheme.name for engine in backends for scheme in engine.schemes}
    lacking = {name: why for engine in backends for name, why in engine.lacks.items()}
    for name in selection.schemes:
        if name not in known:
            why = f": {lacking[name]}" if name in lacking else ""
            raise UserError(f"no scheme {name!r}{why}", f"one of: {', '.join(sorted(known))}")
    for name in selection.suites:
        suites.suite(name)
    if selection.profile not in PROFILES:
        raise UserError(f"no profile {selection.profile!r}", f"one of: {', '.join(PROFILES)}")


def never(selection: Selection, model: Model, engine: Backend) -> str | None:
    """Why this engine cannot measure this model with these weights at all, None if it can."""
    weights = selection.weights or model.default_weights
    if weights is Weights.RANDOM and engine.needs_repository:
        if not engine.builds_random:
            return f"{engine.name} cannot build a model from its architecture alone"
        if not architecture.is_known(model.architecture):
            return "its architecture is not known, so it cannot be built"
    elif not selection.path:
        reason = entries.unmeasurable(model, served=engine.remote)
        if reason:
            return reason
        if weights is Weights.PACKAGE and not (model.package or engine.remote):
            return "no package ships its weights"
    refused = engine.refuses(model, weights) or (engine.refuses_kv(model, selection.kv) if selection.kv else None)
    return f"{engine.name}: {refused}" if refused else None


def schemes_of(selection: Selection, engine: Backend, kind: str) -> list[tuple[str, Scheme | None]]:
    """Precisions or schemes that are meant, by name, None for one that the engine lacks on that kind of device."""
    if selection.schemes:
        return [(name, engine.scheme(name)) for name in selection.schemes if engine.scheme(name)]
    several = COMPARED if not selection.models else COMPARED[1:]
    if engine.launches:
        return [(name, engine.scheme(name)) for name in [launches.parsed(str(selection.launch)).server]]
    wanted = selection.precisions or ((Precision.SERVED,) if engine.remote else several)
    return [(p.value, engine.default_scheme(p, kind)) for p in sorted(wanted, key=ORDER.index)]


def telling_suites(selection: Selection, engine: Backend) -> tuple[list[str], dict[str, str]]:
    """The suites asked for, in order: those that mean something for these weights and this cache; why others do not."""
    default = suites.KV_DEFAULT if selection.kv else suites.DEFAULT
    names = [name for name in suites.ORDER if name in (selection.suites or default)]
    silent: dict[str, str] = {}
    if selection.weights is Weights.RANDOM and engine.needs_repository:  # the fake's are random, and all known
        silent = dict.fromkeys((*QUALITY_SUITES, "kv"), RANDOM_SAYS_NOTHING)
    elif selection.kv:
        silent = dict.fromkeys(QUALITY_SUITES, KV_READ_IN_PIECES)
    return [name for name in names if name not in silent], {name: silent[name] for name in names if name in silent}


def source_of(selection: Selection, model: Model, engine: Backend) -> tuple[Weights, str]:
    """Where the weights come from, and what a record calls it."""
    weights = selection.weights or model.default_weights
    if engine.remote:
        return Weights.REMOTE, remote.source(model)
    if not engine.needs_repository:
        return Weights.RANDOM, engine.name
    if weights is Weights.RANDOM:
        return weights, "random"
    if weights is Weights.PACKAGE:
        return weights, model.package or ""
    source = local_name(str(selection.path)) if weights is Weights.LOCAL else model.repo or "+".join(model.adapters)
    return weights, f"{source} on {local_name(selection.base)}" if selection.base else source


def settings_of(
    selection: Selection, model: Model, name: str, profiles: Mapping[str, Mapping[str, JsonValue]]
) -> tuple[str, dict[str, JsonValue]]:
    """Profile and settings of a suite for this model; objective, prompt template and limit are part of the question."""
    profile, settings = selection.profile, dict(profiles[selection.profile])
    if model.objective is not Objective.CAUSAL:
        settings["objective"] = str(model.objective)
    if "tasks" in settings:
        if selection.tasks:
            settings["tasks"] = list(selection.tasks)
        if model.template:
            settings["template"] = model.template
    if selection.plain_scoring and name == "quality":
        settings["shared"] = False
    settings |= selection.overrides.settings(settings)
    if selection.launch:
        settings[LAUNCH] = launches.parsed(selection.launch).told
    if selection.tokens and name == "memory":
        profile = f"tokens-{selection.tokens}"
        settings |= context(selection.tokens)
    if selection.memory_limit_bytes:
        settings[MEMORY_LIMIT] = selection.memory_limit_bytes
    return profile, settings


def ways(selection: Selection, engine: Backend, machine: Machine) -> dict[str, JsonValue]:
    """The settings that say how an engine computes beyond a scheme, equal for all schemes of a device."""
    kv: dict[str, JsonValue] = {KV: selection.kv} if selection.kv else {}
    if engine.attention is None:
        return kv
    told = engine.attention(machine, selection.kv)
    return kv | {ATTENTION: ASSUMED if selection.elsewhere and told == UNTRIED else told}


def context(tokens: int) -> dict[str, int]:
    """The memory suite's settings that hold so many positions at the peak."""
    generated = min(GENERATED, tokens - 1)
    return {"prompt_tokens": tokens - generated, "decode_tokens": generated}
