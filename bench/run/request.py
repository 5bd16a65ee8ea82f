# SPDX-License-Identifier: Apache-2.0
"""What the runner tells a worker, as one file: the contract between two processes that never import each other."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NotRequired, TypedDict

from pydantic import Field

from bench.catalog.model import Model
from bench.engines.contract import LoadRequest
from bench.records.cell import ATTENTION, KV, Cell, Scheme, Value, Weights
from bench.records.record import MemoryLimit, Prediction
from bench.records.surroundings import Condition, Machine
from bench.run.answered import Answered
from bench.run.budget import Budget
from bench.suite import Pace

LOAD = "load"
"""The phase that begins when weights are ready and what is timed may begin."""


class Event(TypedDict):
    """One line that a worker sends to the runner: `event` says which of the other keys there are."""

    event: str
    """`loading`, `loaded`, `cell`, `phase`, `record`, `spent`, `restart`, `smaller` (to be measured again in smaller
    batches), `refused`, and `ready` if begun ahead."""
    seconds: NotRequired[float]
    name: NotRequired[str]
    done: NotRequired[int]
    total: NotRequired[int]
    spent_usd: NotRequired[float]
    key: NotRequired[str]
    path: NotRequired[str]
    message: NotRequired[str]
    remedy: NotRequired[str]


class Asked(Value):
    """One cell and what was predicted for it."""

    cell: Cell
    predicted: Prediction
    reference: Cell | None = None
    """The divergence cell this one is compared with (itself, if it is the reference); None for other suites."""
    deaths: int = 0
    """How often a worker of this call was killed for memory while it answered this cell."""
    pace: Pace | None = None
    """Seconds a token of it is expected to take, None where that is not known before."""
    reference_reason: str | None = None
    """Why `reference` ended without its distributions in this call, None if it did not."""
    earlier_s: float = 0.0
    """Seconds that earlier workers of this call spent on this cell."""


def lacking(reference: Cell | None, answered: Mapping[str, Answered]) -> str | None:
    """Why the reference of a cell has left nothing in this call, None if it has, or was not asked."""
    ended = answered.get(reference.key) if reference else None
    return (ended and ended.outcome.reason) or None


class Request(Value):
    """Everything that a worker is told."""

    run: str
    results: Path
    cache: Path
    events: int
    """File descriptor to write events to; the process is told its own."""
    model: Model
    weights: Weights
    path: str | None
    base: Model | None = None
    base_path: str | None = None
    launch: tuple[str, str] | None = None
    """Command line of the server to launch, and the folder in which its relative paths begin."""
    trust_remote_code: bool = False
    small_batches: str = ""
    """How its cell ran out of memory with usual batches, empty where it did not."""
    backend: str
    scheme: Scheme
    threads: int | None
    max_cost_usd: float | None = None
    """What is left of the spending limit, None for no limit."""
    machine: Machine
    before: Condition
    files: dict[str, str] = Field(default_factory=dict)
    """Paths on this machine of what the settings name: `text`, `tasks`."""
    memory_limit: MemoryLimit | None = None
    """The limit it runs under; on a GPU the worker itself sets it."""
    budget_s: float | None = None
    """Seconds of measuring that the call allowed all its cells together, None without an end."""
    budget: Budget | None = None
    """What is left of them as the worker starts, for its cells and those after it; None without an end."""
    cells: tuple[Asked, ...]


def read(path: Path) -> Request:
    """The request in a file, as it stands now."""
    return Request.model_validate_json(path.read_text(encoding="utf-8"))


def load_request(request: Request) -> LoadRequest:
    """What the engine is told of the load, the same for all its cells."""
    return LoadRequest(
        model=request.model, weights=request.weights, scheme=request.scheme, device=request.machine.kind,
        path=request.path, threads=request.threads, attention=_way(request, ATTENTION), kv=_way(request, KV),
        plain_scoring=any(asked.cell.settings.get("shared") is False for asked in request.cells),
        max_cost_usd=request.max_cost_usd, base=request.base, base_path=request.base_path, launch=request.launch,
        trust_remote_code=request.trust_remote_code, small_batches=bool(request.small_batches),
    )  # fmt: skip


def _way(request: Request, name: str) -> str | None:
    """What the settings of its cells, which share a load, say of a way; None where they leave it to the engine."""
    said = request.cells[0].cell.settings.get(name)
    return str(said) if said else None


def resolved(paths: str | None) -> str | None:
    """Paths between commas, as they are found from anywhere."""
    return ",".join(str(Path(path).resolve()) for path in paths.split(",")) if paths else None
