# SPDX-License-Identifier: Apache-2.0
"""How far a machine's own speed moves from one moment to another: what no repeats within one run can see. Pure.

Repeats of one cell lie within a minute. A clock shared with others, a neighbour on the same host or heat change a
machine over minutes: on a two-core virtual machine the float32 matrix rate stayed at 404 Gop/s for a minute and at 368
in the next, and runs whose own intervals were 5 % wide missed each other. Every run looks at the device's roofs when
it begins and when it ends; the spread of these looks is added to the intervals of speeds. Rows of one run share what
moves from one day or host to the next: to their ratio only what moves between a run's beginning and its end is added.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean as mean
from statistics import median

from bench.instruments.disturbance import OTHERS
from bench.judge.moments import stdev
from bench.judge.stats import Z
from bench.records.head import RunHead
from bench.records.surroundings import Roof, Variability

EXPECTED_RANGE = {2: 1.128, 3: 1.693, 4: 2.059, 5: 2.326}
"""Mean range of so many normal samples in standard deviations (the d2 of control charts)."""
MAD = 1.4826
"""Standard deviations in a median absolute deviation of normal samples."""
APART = 1.8
"""Speeds further apart than this factor are of different machines."""
Looked = tuple[str, str, int | None, int]
"""Device, library, threads and method: only such looks are comparable."""


Rates = Mapping[str, float]
"""What a row may use of a device, by quantity."""


def looks(runs: Iterable[RunHead]) -> dict[Looked, Seen]:
    """What all runs saw while nobody else computed, by what they looked at and with."""
    found: dict[Looked, list[list[Rates]]] = {}
    for run in runs:
        own: dict[Looked, list[Rates]] = {}
        for look in run.looks:
            if look.others_cpu is None or look.others_cpu <= OTHERS:
                rates = look.rates if look.method == 1 else look.movable
                own.setdefault((run.device, look.engine, look.threads, look.method), []).append(rates)
        for looked, seen in own.items():
            found.setdefault(looked, []).append(seen)
    return {looked: Seen(rates) for looked, rates in found.items()}


def looked(device: str, roof: Roof) -> Looked:
    """What makes a roof comparable."""
    return device, roof.engine, roof.threads, roof.method


class Seen:
    """Comparable looks at one device.

    Every record of a device asks how far it moves, and most of them mean the very same looks: these are found by where
    the asking roof's rates lie among the sorted ones, and what they come to is worked out once.
    """

    def __init__(self, runs: Sequence[Sequence[Rates]]) -> None:
        """`runs` holds what each run saw: its beginning, its end, or both."""
        self._runs = runs
        self.rates = [rates for run in runs for rates in run]
        names = sorted({name for found in self.rates for name in found})
        self._sorted = {name: sorted(found[name] for found in self.rates if name in found) for name in names}
        self._known: dict[tuple[tuple[str, int, int], ...], Variability | None] = {}

    def around(self, own: Roof) -> Variability | None:
        """Half of the 95 % range of every quantity, as a share of it, as the roof of the run that asks lets us know.

        None from a single look.

        A look at half or twice its speed saw no movement but another machine under the same name, with fewer threads
        or CPUs than it was said to have, and is left out.
        """
        here = _rates(own)
        key = tuple((name, *self._near(name, here[name])) for name in sorted(here) if name in self._sorted)
        if key not in self._known:
            self._known[key] = self._of([[rates for rates in run if _alike(rates, here)] for run in self._runs])
        return self._known[key]

    def _near(self, name: str, own: float) -> tuple[int, int]:
        """Where in the sorted rates of a quantity those begin and end that are alike."""
        values = self._sorted[name]
        begin = bisect_right(values, 1 / APART, key=lambda value: value / own)
        return begin, bisect_left(values, APART, key=lambda value: value / own)

    def _of(self, runs: Sequence[Sequence[Rates]]) -> Variability | None:
        near = [rates for run in runs for rates in run]
        if len(near) < 2:
            return None
        names = sorted(set.intersection(*(set(found) for found in near)))
        shares = {name: half_range([found[name] for found in near]) for name in names}
        whole = [(run[0], run[-1]) for run in runs if len(run) > 1]
        within = {name: mean(half_range([rates[name] for rates in ends]) for ends in whole) for name in names if whole}
        return Variability(looks=len(near), shares=shares, within={name: round(at, 4) for name, at in within.items()})


def _rates(roof: Roof) -> Rates:
    """What a row of that roof may use: looks of method 1 copied alone."""
    return roof.rates() if roof.method == 1 else roof.movable()


def _alike(these: Rates, those: Rates) -> bool:
    return all(1 / APART < these[name] / those[name] < APART for name in these.keys() & those.keys())


def half_range(samples: Sequence[float]) -> float:
    """Half of the 95 % range of what such samples come from, as a share of their median.

    From the mean range while there are fewer than six; then from the standard deviation, or from the median absolute
    deviation where that is smaller: a look at a moment when somebody else computed is no look at this machine.
    """
    middle = median(samples)
    if len(samples) in EXPECTED_RANGE:
        deviation = (max(samples) - min(samples)) / EXPECTED_RANGE[len(samples)]
    else:
        deviation = min(stdev(samples), MAD * median(abs(sample - middle) for sample in samples))
    return round(Z * deviation / middle, 4)
