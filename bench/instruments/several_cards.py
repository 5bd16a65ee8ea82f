# SPDX-License-Identifier: Apache-2.0
"""Clock and memory of a model that is spread over several GPUs: all must be done, and all that they hold counts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

from bench.instruments import Reading
from bench.instruments.memory import CudaMemory


def synchronize_all(torch_cuda: ModuleType, cards: int) -> Callable[[], None]:
    """Wait until each of so many cards has done what it was given."""

    def wait() -> None:
        for index in range(cards):
            torch_cuda.synchronize(index)

    return wait


class SeveralCards:
    """The memory of several cards together: the sums of what each counts.

    The sum of highest marks is an upper bound of the highest sum: cards that take turns reach theirs in turn.
    """

    remembers = False

    def __init__(self, each: Sequence[CudaMemory]) -> None:
        self.each = tuple(each)
        self.name = " and ".join(dict.fromkeys(one.name for one in each))

    def read(self) -> Reading:
        """All of them now."""
        return _summed([one.read() for one in self.each])

    def trim(self) -> None:
        """Give unused blocks back."""
        for one in self.each:
            one.trim()

    def reset_peak(self) -> None:
        """Start the marks again."""
        for one in self.each:
            one.reset_peak()

    def peak(self) -> Reading:
        """The highest of each since the reset, added."""
        return _summed([one.peak() for one in self.each])

    def limit(self, total_bytes: int) -> None:
        """An equal share for each."""
        for one in self.each:
            one.limit(total_bytes // len(self.each))

    def capacity_bytes(self) -> int:
        """What is free on all, and what this process holds."""
        return sum(one.capacity_bytes() for one in self.each)


def _summed(found: Sequence[Reading]) -> Reading:
    allocated = [one.allocated_bytes for one in found if one.allocated_bytes is not None]
    reserved = [one.reserved_bytes for one in found if one.reserved_bytes is not None]
    return Reading(
        total_bytes=sum(one.total_bytes for one in found),
        allocated_bytes=sum(allocated) if allocated else None,
        reserved_bytes=sum(reserved) if reserved else None,
        counter=found[0].counter,
    )
