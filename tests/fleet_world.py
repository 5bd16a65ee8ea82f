# SPDX-License-Identifier: Apache-2.0
"""A cluster that is arithmetic: boxes answer on a virtual clock, die when told, and Ray is nowhere."""

from __future__ import annotations

import heapq
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from builders import make_machine, make_record

from bench.errors import UserError
from bench.fleet.link import Boxes, Event, Gone, Lost, Over, Said
from bench.fleet.wire import Answer, Box, Handout, Look, Needs, Seen, line
from bench.records.code_digest import sources
from bench.records.record import Record, Run
from bench.records.store import to_text


def make_box(name: str = "aa", **overrides: Any) -> Box:
    """A node with two CPUs."""
    return Box(**{"id": name * 8, "host": "10.0.0.1", "cpus": 2.0, "memory_bytes": 8 * 2**30} | overrides)


def make_seen(**overrides: Any) -> Seen:
    """What it says of itself; `device` and `kind` are its machine's."""
    own = {name: overrides.pop(name) for name in ("device", "kind") if name in overrides}
    fields: dict[str, Any] = {
        "machine": make_machine(**own), "free_bytes": 0, "sources": sources(), "revision": None, "lacking": {},
    }  # fmt: skip
    return Seen(**fields | overrides)


@dataclass(kw_only=True)
class Node:
    """A box of the world."""

    box: Box
    seen: Seen
    kept: set[str] = field(default_factory=set)
    """Keys of references in its cache."""
    running: set[str] = field(default_factory=set)
    says: Answer | None = None
    """Its only answer to a handout, None where it measures."""


class World:
    """A link to boxes that take a virtual second for each cell."""

    def __init__(self, *nodes: Node, cell_s: float = 1.0) -> None:
        self.nodes, self.cell_s = {node.box.id: node for node in nodes}, cell_s
        self.now, self.most = 0.0, 0
        """`most`: loads that ran at a time on one device, which must stay 1."""
        self.events: list[tuple[float, int, str | None, Callable[[], Event | None]]] = []
        self.order = count()
        self.asked: list[tuple[str, Handout, Needs]] = []
        """Handouts by box, in the order in which they were asked."""
        self.made: Counter[str] = Counter()
        """How often each cell was measured, whether or not its record was wanted."""
        self.spoils: Callable[[str], str] = lambda text: text
        """What happens to the text of a record on its way."""
        self.over_s = 0.0
        """How long the cluster takes to tell that a task is over whose last line has come."""
        self.dies_of: str | None = None
        """The scheme that its box dies of."""
        self.closed = False
        self._later(0.0, None, self._boxes)

    def clock(self) -> float:
        """Virtual seconds."""
        return self.now

    def _later(self, seconds: float, name: str | None, what: Callable[[], Event | None]) -> None:
        heapq.heappush(self.events, (self.now + seconds, next(self.order), name, what))

    def _boxes(self) -> Event:
        return Boxes(tuple(node.box for node in self.nodes.values()))

    def ask(self, name: str, box: Box, question: Any, needs: Needs) -> None:
        """Answer later, line by line."""
        node = self.nodes.get(box.id)
        if node is None:
            self._later(0.0, name, lambda: Lost(name, "NodeDiedError: gone"))
        elif isinstance(question, Look):
            self._later(0.1, name, lambda: Said(name, line(Answer(seen=node.seen))))
            self._later(0.1, name, lambda: Over(name))
        else:
            self.asked.append((box.id, question, needs))
            if node.says is not None:
                said = line(node.says)
                self._later(0.1, name, lambda: Said(name, said))
                self._later(0.1, name, lambda: Over(name))
                return
            node.running.add(name)
            self.most = max(self.most, len(node.running) / max(1, box.gpus))
            self._measure(name, node, question)

    def _measure(self, name: str, node: Node, asked: Handout) -> None:
        at = 0.0
        todo = [planned.cell for planned in asked.cells if planned.cell.key not in asked.needed]
        for planned in asked.cells:
            if planned.cell.key in asked.needed:
                if planned.cell.key in node.kept:
                    self._later(0.0, name, lambda key=planned.cell.key: Said(name, line(Answer(held=key))))
                else:
                    todo.insert(0, planned.cell)
        for cell in (*todo, *(left.planned.cell for left in asked.left_out if left.planned)):
            at += self.cell_s
            if cell.scheme == self.dies_of:
                self._later(at / 2, None, lambda: self._dead(node.box.id))
            record = make_record(cell, run=asked.run, machine=asked.machine, warnings=())

            def said(record: Record = record) -> Event:
                self.made[str(record.cell)] += 1
                if record.cell.suite == "divergence":
                    node.kept.add(record.cell.key)
                return Said(name, line(Answer(record=self.spoils(to_text(record)))))

            self._later(at, name, said)
        if todo:
            end = Run(
                run=asked.run, device=asked.machine.device, ended="2026-01-01T00:00:00Z", before=record.before,
                after=record.after,
            )  # fmt: skip
            self._later(at, name, lambda: Said(name, line(Answer(run=self.spoils(to_text(end))))))

        def last() -> Event:
            node.running.discard(name)
            return Said(name, line(Answer(undecided=())))

        self._later(at, name, last)
        self._later(at + self.over_s, name, lambda: Over(name))

    def kill(self, box: str, at: float, *, quietly: bool = False) -> None:
        """A node dies at a moment; `quietly`, only the list of boxes tells of it."""
        self._later(at - self.now, None, lambda: self._dead(box, quietly=quietly))

    def _dead(self, box: str, *, quietly: bool = False) -> Event | None:
        node = self.nodes.pop(box, None)
        if node is None:
            return None
        self.events = [event for event in self.events if event[2] not in node.running]
        heapq.heapify(self.events)
        for name in sorted(node.running):
            if not quietly:
                self._later(0.0, name, lambda name=name: Lost(name, "NodeDiedError: the node has died"))
        return self._boxes() if quietly else (self._later(0.5, None, self._boxes), None)[1]

    def join(self, node: Node, at: float) -> None:
        """A node comes at a moment."""

        def come() -> Event:
            self.nodes[node.box.id] = node
            return self._boxes()

        self._later(at - self.now, None, come)

    def head_dies(self, at: float, back: float) -> None:
        """The cluster is gone, with all that runs on it, and comes back with nodes of new names."""

        def die() -> Event:
            self.events = [event for event in self.events if event[2] is None]
            heapq.heapify(self.events)
            old = list(self.nodes.values())
            self.nodes = {}

            def again() -> Event:
                for node in old:
                    box = node.box.model_copy(update={"id": node.box.id[::-1] + "ff"})
                    self.nodes[box.id] = Node(box=box, seen=node.seen, kept=node.kept)
                return self._boxes()

            self._later(back - at, None, again)
            return Gone("its head has died")

        self._later(at - self.now, None, die)

    def hear(self, patience_s: float) -> Event | None:
        """The next event, as time passes."""
        until = self.now + patience_s
        while self.events and self.events[0][0] <= until:
            self.now, _, _, what = heapq.heappop(self.events)
            if (event := what()) is not None:
                return event
        self.now = until
        if self.now > 10**6:
            raise UserError("the world ended", "look for a load that nobody takes")
        return None

    def close(self) -> None:
        """Nobody asks any more."""
        self.closed = True


def torn(text: str) -> str:
    """Half of it."""
    return text[: len(text) // 2]


def renamed(text: str) -> str:
    """A record of another run."""
    return json.dumps(json.loads(text) | {"run": "another"})
