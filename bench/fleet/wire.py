# SPDX-License-Identifier: Apache-2.0
"""What home and a box say to each other: one question as JSON, answers as lines of JSON. Neither imports Ray."""

from __future__ import annotations

import os
from typing import TextIO

from pydantic import TypeAdapter, ValidationError

from bench.plan.plan import LeftOut
from bench.plan.questions import Planned
from bench.records.cell import Value
from bench.records.surroundings import Machine
from bench.run.options import PATIENCE


class Box(Value):
    """A living node of the cluster, as the cluster describes it."""

    id: str
    host: str
    cpus: float = 0.0
    """What the node offers; a node that offers neither CPUs nor GPUs measures nothing."""
    gpus: int = 0
    memory_bytes: int = 0
    accelerator: str | None = None
    """The cluster's name for its kind of GPU."""

    @property
    def name(self) -> str:
        """For people: the host, and what tells several nodes of one host apart."""
        return f"{self.host} ({self.id[:6]})"


class Needs(Value):
    """What a task asks the cluster for. Nothing of it is enforced there: limits are set by who measures."""

    cpus: float = 0.0
    gpus: int = 0
    memory_bytes: int = 0
    accelerator: str | None = None


class Look(Value):
    """Question: what a box is, and whether it can measure with these engines."""

    kind: str | None = None
    """`cpu`, `cuda` or `mps`; None for what is there."""
    backends: tuple[str, ...]


class Seen(Value):
    """Its answer."""

    machine: Machine
    free_bytes: int
    """Memory a worker could have now, 0 where that is not known."""
    sources: str
    """Digest of the harness's own code."""
    revision: str | None = None
    lacking: dict[str, str]
    """By engine that is not installed there, the packages it lacks and the command that installs them."""


class Handout(Value):
    """Question: these cells, which share a load, measured; the references that they need come first."""

    run: str
    machine: Machine
    """As the plan was made for: a box that is another machine by now refuses."""
    cells: tuple[Planned, ...]
    """Those that are `needed` are only measured where their distributions are not kept."""
    needed: tuple[str, ...] = ()
    """Keys of the reference cells that stand first."""
    left_out: tuple[LeftOut, ...] = ()
    """Cells that are predicted not to fit there: their records say so."""
    records: tuple[str, ...] = ()
    """Texts of records that the cells are compared with while they are measured."""
    threads: int | None = None
    timeout_s: float | None = None
    patience: float = PATIENCE
    budget_s: float | None = None
    """Seconds of measuring of these cells, None without an end."""
    whole_budget_s: float | None = None
    """What the call allowed all its cells."""


QUESTION: TypeAdapter[Look | Handout] = TypeAdapter(Look | Handout)


class Answer(Value):
    """One line of a box. Exactly one field is set, or none: then it only shows that somebody is there."""

    seen: Seen | None = None
    record: str | None = None
    """Text of a record that is whole."""
    held: str | None = None
    """Key of a reference whose distributions the box keeps already."""
    run: str | None = None
    """Text of what the end of its measuring told."""
    undecided: tuple[str, ...] | None = None
    """Keys of cells that the budget left unanswered; the last line of a box that did all it could."""
    told: str | None = None
    """For people."""
    refused: tuple[str, str] | None = None
    """What is wrong, and the remedy."""
    ended: tuple[int, str] | None = None
    """Exit code of a process that ended otherwise, and the end of what it wrote."""


def line(said: Value) -> str:
    """One line of JSON without its end."""
    return said.model_dump_json(exclude_none=True)


def own_output() -> TextIO:
    """What was standard output, for our lines alone: whatever libraries print goes to standard error from now on."""
    lines = os.fdopen(os.dup(1), "w", encoding="utf-8", buffering=1)
    os.dup2(2, 1)
    return lines


def heard(text: str) -> Answer:
    """What a box said; a line that is none of ours says nothing."""
    try:
        return Answer.model_validate_json(text)
    except ValidationError:
        return Answer()


def complaint(answer: Answer) -> str:
    """Why a box does not measure, in one line."""
    if answer.refused is not None:
        return "; ".join(filter(None, answer.refused))
    code, said = answer.ended or (0, "")
    last = next((text.strip() for text in reversed(said.splitlines()) if text.strip()), "it said nothing")
    if "No module named" in last and "bench" in last:
        return "the harness is not installed there; pip install it into the Python that runs Ray"
    return f"its process ended with {code}: {last[:200]}"
