# SPDX-License-Identifier: Apache-2.0
"""What a dispatcher knows of the boxes that measure for it, and what it needs of whoever began the call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from bench.fleet.loads import Load
from bench.fleet.wire import Box, Seen
from bench.records.record import Record


class Home(Protocol):
    """What the dispatcher needs of whoever began the call."""

    def admitted(self, box: Box, seen: Seen) -> Sequence[Load]:
        """The loads that a box's machine brings; none where its device has been planned for.

        Raises UserError if the box cannot measure what is asked.
        """

    def beside(self, load: Load) -> Sequence[Record]:
        """Records that the cells of a load are compared with while they are measured."""

    def known(self, record: Record) -> bool:
        """Whether an earlier call of this run has settled its cell: a reference that is only made again for others."""

    def record(self, record: Record, box: Box, load: Load) -> None:
        """A record of this load on that box is stored here; the load has one cell less that is open."""

    def begins(self, box: Box, load: Load) -> None:
        """A box is given a load."""

    def ends(self, load: Load) -> None:
        """It is done, or its box is lost."""

    def tell(self, text: str) -> None:
        """A line for people."""


@dataclass(kw_only=True)
class Member:
    """A box that measures for us."""

    box: Box
    seen: Seen
    slots: int
    """Devices: so many loads at a time."""
    doubted: bool = False
    """Whether something was lost there since it last said what it is: it is given nothing before it says so again."""
    busy: set[str] = field(default_factory=set)
    held: set[str] = field(default_factory=set)
    """Keys of references whose distributions it keeps."""
    families: set[tuple[str, ...]] = field(default_factory=set)


@dataclass(kw_only=True)
class Flight:
    """A load on a box."""

    load: Load
    member: Member
    asked: frozenset[str]
    makes: frozenset[str]
    """As they were when it was handed out."""
    answered: set[str] = field(default_factory=set)
    """Keys of the cells whose records came from here: one that was cut may come again, longer."""
