# SPDX-License-Identifier: Apache-2.0
"""From options to a plan, for every command that plans or measures.

What is wrong with an option is said before anything is loaded, in one line.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli.console import warn
from bench.cli.options import Cells, Devices, Folders, How, Limits, split
from bench.cli.stored import Stored
from bench.errors import UserError

if TYPE_CHECKING:
    from bench.plan.overrides import Overrides
    from bench.plan.plan import Plan
    from bench.plan.selection import Selection
    from bench.records.cell import Precision, Weights
    from bench.records.record import Record
    from bench.records.store import Store
    from bench.records.surroundings import Machine


def selection(cells: Cells, how: How, limits: Limits, *, fetch: bool) -> Selection:
    """What the options ask for. `fetch` allows the network where a text needs it. Raises UserError."""
    from bench.plan import selection as asked

    precisions, device = _precisions(cells.precision), _device(cells.device)
    weights, path = _weights(cells.weights)
    _check_server(cells, how)
    _check_files(path)
    _check_spread(split(cells.backend))
    limit = _memory_limit(limits.memory_limit, cells, device)
    if cells.base and not Path(cells.base).is_dir():
        raise UserError(f"no folder {cells.base}", "give the base's folder in Hub layout")
    tasks, beyond = _overrides(how, fetch=fetch)
    _check_text(beyond.text_path, how.profile, split(cells.suite))
    return asked.Selection(
        models=tuple(split(cells.model)),
        precisions=precisions,
        schemes=tuple(split(cells.scheme)),
        backends=tuple(split(cells.backend)),
        suites=tuple(split(cells.suite)),
        weights=weights,
        path=path,
        api_url=cells.api_url or None,
        launch=cells.launch or None,
        base=cells.base or None,
        trust_remote_code=cells.trust_remote_code,
        profile=how.profile,
        tasks=tasks,
        device=device,
        missing=cells.missing,
        force=limits.force,
        plain_scoring=how.plain_scoring,
        memory_limit_bytes=limit,
        overrides=beyond,
        kv=_kv(how.kv),
    )


def _kv(text: str) -> str | None:
    """What keys and values are kept in, None for the engine's own way. Raises UserError."""
    from bench.records.cell import KV_PRECISIONS

    parts = text.split("/") if text else []
    if len(parts) > 2 or not set(parts) <= set(KV_PRECISIONS):
        known = ", ".join(KV_PRECISIONS)
        raise UserError(f"no cache {text!r}", f"one of {known}, or one for keys and one for values as int8/int4")
    if set(parts) <= {KV_PRECISIONS[0]}:
        return None
    return text if len(set(parts)) == 2 else parts[0]


def _precisions(values: Sequence[str]) -> tuple[Precision, ...]:
    from bench.records.cell import Precision

    known = [str(precision) for precision in Precision]
    for name in split(values):
        if name not in known:
            raise UserError(f"no precision {name!r}", f"one of: {', '.join(known)}")
    return tuple(Precision(name) for name in split(values))


def _device(kind: Devices | None) -> str:
    """The kind of the device; where a very one is named, this process and all it starts see no other."""
    from bench.instruments.machine import available, choose, device_kind

    if kind and kind.very and kind.very != ("all",):
        choose(kind.very[0])
    if kind and kind.very == ("all",):
        return device_kind()
    if kind and not available(kind.value):
        raise UserError(f"this machine has no {kind.value} device", f"leave --device out, or --device {device_kind()}")
    return kind.value if kind else device_kind()


def _weights(text: str) -> tuple[Weights | None, str | None]:
    """Where the weights come from, and the paths of local ones."""
    from bench.records.cell import Weights

    kind, _, path = text.partition("=")
    if kind not in {"", "hub", "package", "random", "local"} or (kind == "local") != bool(path):
        raise UserError(f"no weights {text!r}", "hub, package, random or local=PATH")
    return Weights(kind) if kind else None, path or None


def _check_server(cells: Cells, how: How) -> None:
    if cells.api_url and split(cells.backend) != ["api"]:
        raise UserError("--api-url is for backend api alone", "add --backend api")
    asked = split(cells.backend)
    if cells.launch and asked != ["served"]:
        raise UserError("--launch is for backend served alone", "add --backend served")
    if "served" in asked:
        require_launch(cells)
        silent = {
            "--chat-template": how.chat_template, "--max-length": how.max_length, "--text": how.text,
            "--plain-scoring": how.plain_scoring, "--threads": getattr(how, "threads", ""), "--base": cells.base,
        }  # fmt: skip
        if told := next((name for name, value in silent.items() if value), None):
            raise UserError(f"{told} says nothing to a server", "put what it means into the command of --launch")


def require_launch(cells: Cells) -> None:
    """Before anything is measured: the command can serve something, and its program is here. Raises UserError."""
    from bench.catalog import launch

    if not cells.launch:
        raise UserError("backend served launches a server and was not told which", f"--launch {launch.EXAMPLE!r}")
    found = launch.parsed(cells.launch)
    launch.require_program(found)
    if cells.precision or cells.scheme:
        raise UserError(
            "what a server computes in is its own, so it has no --precision and no --scheme",
            "choose the weights: --weights local=PATH",
        )


def _check_files(paths: str | None) -> None:
    for path in paths.split(",") if paths else ():
        if not Path(path).exists():
            raise UserError(f"no folder or file {path}", "give an existing folder in Hub layout, or a GGUF file")


def _check_text(path: str | None, profile: str, names: Sequence[str]) -> None:
    """Say before anything is loaded that a text is too short for the suite that reads it."""
    from suites import DEFAULT, probe, suite

    profiles = suite("divergence").PROFILES
    if path is None or "divergence" not in (names or DEFAULT) or profile not in profiles:
        return
    length = profiles[profile]["window_tokens"]
    assert isinstance(length, int)
    warn(filter(None, [probe.too_short(Path(path), length)]))


def _check_spread(backends: Sequence[str]) -> None:
    """Raise UserError where an engine is asked to spread a model over cards and cannot."""
    from bench.engines.registry import backend
    from bench.instruments.machine import spread

    if spread() > 1:
        for name in backends:
            if not backend(name).spreads:
                raise UserError(f"backend {name} measures on one card", "name one, as --device cuda:1")


def _memory_limit(text: str, cells: Cells, device: str) -> int | None:
    """Bytes of the hard limit, None for none."""
    from bench.instruments.machine import describe
    from bench.run import memory_limit

    limit = memory_limit.parse_bytes(text) if text else None
    if limit and "api" in split(cells.backend):
        raise UserError("a memory limit cannot hold a server", "leave --memory-limit out for backend api")
    if limit:
        memory_limit.check(limit, memory_limit.capacity_bytes(describe(device)))
    return limit


def _overrides(how: How, *, fetch: bool) -> tuple[tuple[str, ...], Overrides]:
    """The tasks, and what else is asked beyond the profile."""
    from bench.plan import overrides
    from bench.scoring.task_files import task_files

    names, files, tasks_sha256 = task_files(split(how.task), how.task_folder)
    _agree(files, how, ask=fetch)
    name, path, sha256 = overrides.text(how.text, fetch=fetch) if how.text else (None, None, None)
    asked = overrides.Overrides(
        text=name,
        text_path=path,
        text_sha256=sha256,
        tasks=files,
        tasks_sha256=tasks_sha256,
        max_length=how.max_length or None,
        chat_template=how.chat_template,
    )
    return tuple(names), asked


def _agree(files: Mapping[str, str], how: How, *, ask: bool) -> None:
    """Say which code the task files run; where it is about to run, only with consent. Raises UserError."""
    from bench.scoring.task_code import code_of, require_consent

    found = code_of(files, [task for task in split(how.task) if task.endswith((".yaml", ".yml"))])
    if ask:
        require_consent(found, split(how.trust_task_code))
    if found:
        warn([f"the task files run code: {code}" for code in found])


def budget_s(text: str, profile: str) -> float | None:
    """Seconds that `--budget` allows all cells, or a usual call's for one model; None for no end. Raises UserError."""
    from bench.run import options

    if not text:
        return options.DEFAULT_BUDGET_S if profile == "standard" else None
    try:
        return options.budget_s(text)
    except ValueError:
        raise UserError(f"no budget {text!r}", "20min, 90s, 2h or none") from None


def where(asked: Selection, folders: Folders) -> tuple[Store, Machine]:
    """The records that a call adds to, and the machine that it is about."""
    from bench.instruments.machine import describe

    return store_of(folders), describe(asked.device)


def store_of(folders: Folders) -> Store:
    """The records that a call adds to, which are sent on where they lie under a URL."""
    from bench.records.mirror import mirror_of
    from bench.records.store import Store

    return Store(folders.results, mirror_of(folders.results))


def settle(store: Store) -> None:
    """Send what is not where it belongs yet. Raises UserError."""
    if store.mirror is not None:
        store.mirror.finish()


def place(store: Store) -> str:
    """Where the records lie, for people."""
    from bench.records.mirror import shown

    return shown(store.mirror.address) if store.mirror is not None else str(store.root)


def telling(folders: Folders, described: Machine) -> Iterator[Record]:
    """The records that tell how long cells take on this machine, looked for when the first is asked for."""
    yield from Stored(folders.results).of_device(described.device)


def planned(
    asked: Selection, folders: Folders, stored: Stored, described: Machine, *, budget_s: float | None = None,
    known: Collection[str] | None = None,
) -> Plan:  # fmt: skip
    """The plan for a selection on this machine, from the records that are there now.

    `budget_s` says which cut cells `--missing` asks again; `known`, which records were there when the call began: what
    another call has settled since then is not asked again. A device without records has its roof measured (3 s, once).
    """
    from bench.catalog.entries import read_catalog
    from bench.engines.registry import backend
    from bench.instruments import machine
    from bench.plan.device_roof import device_roof
    from bench.plan.order import most_decided_first
    from bench.plan.plan import make_plan

    free = machine.free_bytes(asked.device)
    records = stored.of_device(described.device)
    roof = device_roof(described, [backend(name) for name in asked.backends], records)
    made = make_plan(
        asked, read_catalog(folders.folder), described, records, free, roof=roof, budget_s=budget_s, known=known
    )
    stored.warn()
    stored.index.save()
    return most_decided_first(made)


def require_backends(names: Sequence[str]) -> None:
    """Before anything is loaded: the packages of each engine are here. Raises UserError."""
    from bench.engines.registry import backend

    for name in names:
        engine = backend(name)
        if engine.missing():
            raise UserError(f"backend {name} lacks {', '.join(engine.missing())}", engine.install)


def require_schemes(made: Plan) -> None:
    """Before anything is loaded: what a scheme needs beyond its engine is here. Raises UserError."""
    from bench.engines.registry import backend

    for name, scheme in dict.fromkeys((planned.cell.backend, planned.cell.scheme) for planned in made.cells):
        engine = backend(name)
        if engine.missing(scheme):
            raise UserError(f"scheme {scheme} lacks {', '.join(engine.missing(scheme))}", engine.scheme_install[scheme])


def require_keys(made: Plan, max_cost: float | None) -> None:
    """Before a server is asked: its key is here, and a spending limit has prices to count with. Raises UserError."""
    from bench.catalog import remote
    from bench.records.cell import Weights

    asked = [planned.model for planned in made.cells if planned.cell.weights is Weights.REMOTE]
    for model in {model.name: model for model in asked}.values():
        assert model.remote, "cells are of a served model only where its entry says how to ask"
        remote.key(model.remote)
        if max_cost is not None:
            remote.require_prices(model)
