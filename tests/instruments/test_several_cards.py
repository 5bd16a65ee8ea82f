# SPDX-License-Identifier: Apache-2.0
"""A model that is spread over cards: all must be done, and all that they hold counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from bench.instruments import Reading
from bench.instruments.memory import CudaMemory
from bench.instruments.several_cards import SeveralCards, synchronize_all


class Card:
    """One counter, whose figures are known."""

    def __init__(self, name: str, now: int, highest: int) -> None:
        self.name, self.now, self.highest, self.done = name, now, highest, list[Any]()

    def read(self) -> Reading:
        """Now."""
        return Reading(total_bytes=self.now, allocated_bytes=self.now - 3, reserved_bytes=self.now - 1)

    def peak(self) -> Reading:
        """The highest."""
        return Reading(total_bytes=self.highest, counter="mark")

    def capacity_bytes(self) -> int:
        """Ten times as much."""
        return 10 * self.now

    def trim(self) -> None:
        """Kept."""
        self.done.append("trim")

    def reset_peak(self) -> None:
        """Kept."""
        self.done.append("reset")

    def limit(self, total_bytes: int) -> None:
        """Kept."""
        self.done.append(total_bytes)


def test_what_several_cards_hold_is_added_and_what_is_asked_of_them_is_asked_of_each() -> None:
    """Sums of each figure, one name for equal counters, an equal share of a limit."""
    cards = Card("NVML process", 100, 400), Card("NVML process", 20, 30)
    memory = SeveralCards([cast(CudaMemory, card) for card in cards])
    assert memory.name == "NVML process" and not memory.remembers
    assert memory.read() == Reading(total_bytes=120, allocated_bytes=114, reserved_bytes=118)
    assert (memory.peak().total_bytes, memory.peak().allocated_bytes, memory.peak().counter) == (430, None, "mark")
    assert memory.capacity_bytes() == 1200
    memory.trim()
    memory.reset_peak()
    memory.limit(50)
    assert [card.done for card in cards] == [["trim", "reset", 25]] * 2
    other = Card("NVML device minus baseline", 0, 0)
    assert SeveralCards([cast(CudaMemory, other), *memory.each]).name == "NVML device minus baseline and NVML process"


def test_a_clock_waits_for_every_card() -> None:
    """Torch's own synchronize waits for the current one alone."""
    waited: list[int] = []
    synchronize_all(cast(Any, SimpleNamespace(synchronize=waited.append)), 3)()
    assert waited == [0, 1, 2]
