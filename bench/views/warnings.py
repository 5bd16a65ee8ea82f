# SPDX-License-Identifier: Apache-2.0
"""Warnings that people read: grouped by what they mean for the reader, marked in the cells that they concern. Pure.

A record keeps every warning as it was raised. Thirty of them under a table are read by nobody, so a view says at most
six things: speed is unsure, memory is unsure, quality is unsure, the weights are not what they seem, less was measured
than asked, lm-eval gives another figure. Each has a letter that stands in the cells concerned. `--warnings` lists all
of them in full.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import suites
from bench.judge.rows import Row
from bench.records.record import Caveat
from bench.views.cells import named
from bench.views.columns import COLUMNS

WIDTH = 100
"""Characters of a line."""
MOST = 5
"""Lines under a view."""
NAMES = 3
"""At most so many rows are named; the others are counted."""
SPEED, MEMORY, QUALITY, WEIGHTS, LESS, OTHER = (
    "speed is unsure", "memory is unsure", "quality is unsure", "the weights", "less than asked", "not as in lm-eval",
)  # fmt: skip
END = ". In full: --warnings"
"""How the last line ends where everything had room."""
SPARE = len("; 99 more in full: --warnings")
"""Characters that the end of the last line may take."""
MEANINGS = (SPEED, MEMORY, QUALITY, WEIGHTS, LESS, OTHER)
OF_SUITE = {
    "throughput": SPEED,
    "memory": MEMORY,
    "divergence": QUALITY,
    "quality": QUALITY,
    "kv": QUALITY,
    "capacity": LESS,
}
"""What a kind that is not named below means, by the suite whose record has it."""
KINDS = {
    "busy_machine": SPEED, "other_processes": SPEED, "noisy": SPEED, "not_steady": SPEED, "drifted": SPEED,
    "no_cache": SPEED, "no_repacking": SPEED, "on_battery": SPEED, "governor": SPEED, "throttled": SPEED,
    "container_throttled": SPEED, "gpu_busy": SPEED, "gpu_shared": SPEED, "short_prompt": SPEED, "niced": SPEED,
    "spread_over_cards": SPEED,
    "peak_disputed": MEMORY, "not_per_process": MEMORY, "peak_not_reset": MEMORY, "swapping": MEMORY,
    "over_limit": MEMORY, "whole_server": MEMORY, "preallocated_pool": MEMORY, "pool_not_set": MEMORY,
    "low_bit_source": WEIGHTS, "low_bit_grid": WEIGHTS, "random_weights": WEIGHTS, "calibrated": WEIGHTS,
    "not_measured": LESS, "undecided": LESS, "not_applicable": LESS, "task_not_applicable": LESS,
    "metric_not_computed": LESS, "task_failed": LESS, "begin_not_scored": OTHER, "end_left_out": OTHER,
    "smaller_batches": QUALITY, "unequal_steps": QUALITY,
    "truncated_items": LESS, "cut_by_budget": LESS, "items_cut": LESS, "items_settled": LESS,
}  # fmt: skip
CONCERNS = {SPEED: ("throughput",), MEMORY: ("memory",), WEIGHTS: ("divergence", "quality")}
"""The suites whose figures a meaning is about, whichever record carries it; others concern their own record's suite."""
SAID = {
    "busy_machine": "other programs ran as the run began",
    "other_processes": "other programs ran meanwhile",
    "niced": "ran at a niceness above 0, so that others came first",
    "spread_over_cards": "one model over several cards, which compute in turns",
    "noisy": "repeats still differ after the last",
    "not_steady": "still changing after the warm-up",
    "drifted": "the device itself changed meanwhile",
    "no_cache": "each token reads the whole text again, for its class carries nothing",
    "no_repacking": "llama.cpp's faster kernels crash on this CPU and are off",
    "throttled": "slowed by heat or a power limit",
    "container_throttled": "the container's CPU quota stopped it",
    "on_battery": "ran on battery",
    "governor": "the CPU frequency governor saves power",
    "swapping": "the machine swapped meanwhile",
    "gpu_busy": "somebody else computed on the GPU",
    "gpu_shared": "somebody else computed on the GPU",
    "low_bit_source": "quantized before, and what that lost stays lost at every precision",
    "low_bit_grid": "quantized before, and what that lost stays lost at every precision",
    "random_weights": "random, so without the outliers that LLM.int8() computes apart",
    "calibrated": "GPTQ was calibrated on this project's own text",
    "device_arithmetic": "most of its KL is this device's arithmetic, not the format's",
    "items_settled": "tasks were left once their verdict was settled",
    "items_cut": "the budget left items of tasks out",
    "unequal_steps": "it takes other time steps where it generates than where it reads",
    "whole_server": "the whole server's, its program and libraries included",
    "preallocated_pool": "most of the room for keys and values is a setting that nothing used",
    "pool_not_set": "the launch leaves the size of the cache to the server",
    "store_error": "a part of the distance is what storing the reference costs",
}
"""What a kind says in a few words; the others are quoted."""


@dataclass(frozen=True, kw_only=True)
class Concern:
    """One warning of one row, as the reader meets it."""

    meaning: str
    kind: str
    suite: str
    """Whose record has it."""
    said: str
    row: Row
    columns: tuple[str, ...]
    """The columns that are marked."""


@dataclass(frozen=True, kw_only=True)
class Warnings:
    """What the warnings of a view's rows mean for its columns."""

    rows: Sequence[Row]
    columns: Sequence[str]

    @cached_property
    def concerns(self) -> list[Concern]:
        """Every warning that a column of this view is concerned by."""
        return [found for row in self.rows for found in _of_row(row, self.columns)]

    @cached_property
    def letters(self) -> dict[str, str]:
        """The letter of each meaning that occurs."""
        present = [meaning for meaning in MEANINGS if any(c.meaning == meaning for c in self.concerns)]
        return {meaning: chr(ord("a") + index) for index, meaning in enumerate(present)}

    @cached_property
    def _meanings(self) -> dict[tuple[int, str | None], set[str]]:
        """By row and column, and by row alone, what its warnings mean."""
        found: dict[tuple[int, str | None], set[str]] = {}
        for concern in self.concerns:
            for column in (None, *concern.columns):
                found.setdefault((id(concern.row), column), set()).add(concern.meaning)
        return found

    def mark(self, row: Row, column: str) -> str:
        """` (a)` behind a cell's figure, empty where no warning concerns it.

        What is said of the weights concerns all that a row answers: its mark stands behind the row's name alone.
        """
        return self._mark(self._meanings.get((id(row), column), set()) - {WEIGHTS})

    def mark_row(self, row: Row) -> str:
        """The same behind the row's name."""
        return self._mark(self._meanings.get((id(row), None), set()) & {WEIGHTS})

    def _mark(self, found: Collection[str]) -> str:
        letters = "".join(letter for meaning, letter in self.letters.items() if meaning in found)
        return f" ({letters})" if letters else ""

    def lines(self, most: int = MOST) -> list[str]:
        """One for each meaning, together at most so many lines of a terminal; what has no room is counted."""
        found: list[str] = []
        room, left = most, 0
        for index, (meaning, letter) in enumerate(self.letters.items()):
            others = len(self.letters) - index - 1
            line, dropped = self._of_meaning(meaning, letter, max(1, room - others))
            found.append(line)
            room, left = room - _height(line), left + dropped
        if found:
            ends = [f"; {left} more in full: --warnings", f"; {left} more"] if left else [END]
            found[-1] += next((end for end in ends if _height(found[-1] + end) == _height(found[-1])), "")
        return found

    def _of_meaning(self, meaning: str, letter: str, room: int) -> tuple[str, int]:
        """What a meaning is about, what concerns most rows first, and how much had no room."""
        told: dict[str, list[Concern]] = {}
        for concern in self.concerns:
            if concern.meaning == meaning:
                told.setdefault(concern.said, []).append(concern)
        line, left = "", len(told)
        for said, found in sorted(told.items(), key=lambda item: -len({id(concern.row) for concern in item[1]})):
            longer = f"{line}; " if line else f"({letter}) {meaning}: "
            longer += f"{said} ({self._about(meaning, found)})"
            if line and _height(longer, SPARE) > room:
                break
            line, left = longer, left - 1
        return line, left

    def _about(self, meaning: str, found: Sequence[Concern]) -> str:
        """Whose it is: rows, and the suite where one kind was raised in several, for these are two moments.

        What is said of the weights is true of every suite that read them.
        """
        kinds = {concern.kind for concern in found}
        suites_of = {c.suite for c in self.concerns if c.meaning == meaning and c.kind in kinds}
        by_suite: dict[str, dict[int, Row]] = {}
        for concern in found:
            where = concern.suite if len(suites_of) > 1 and meaning != WEIGHTS else ""
            by_suite.setdefault(where, {})[id(concern.row)] = concern.row
        by_rows: dict[str, list[str]] = {}
        for where, rows in by_suite.items():
            by_rows.setdefault(self._named(list(rows.values())), []).append(where)
        return "; ".join(f"{' and '.join(where)} of {rows}" if any(where) else rows for rows, where in by_rows.items())

    def _named(self, rows: Sequence[Row]) -> str:
        if len(rows) == len(self.rows) > 1:
            return "all rows"
        several = len({(row.model, row.told_apart) for row in self.rows}) > 1
        names = [f"{named(row)} {row.scheme}" if several else row.scheme for row in rows]
        more = len(names) - NAMES
        return ", ".join(names[:NAMES]) + (f" and {more} more" if more > 0 else "")


def _height(line: str, more: int = 0) -> int:
    """Lines of a terminal that this one takes, and so many more characters."""
    return -(-(len(line) + more) // WIDTH)


def _of_row(row: Row, columns: Sequence[str]) -> Iterator[Concern]:
    figures = row.figures()
    shown = {name: COLUMNS[name] for name in columns if name in COLUMNS and COLUMNS[name].figure in figures}
    for suite in suites.ORDER:
        for caveat in row.records[suite].warnings if suite in row.records else ():
            meaning = KINDS.get(caveat.kind, OF_SUITE.get(suite, QUALITY))
            about = CONCERNS.get(meaning, (suite,))
            if meaning == SPEED and suite not in about:
                continue  # what ran beside another suite's cell says nothing of speed
            hit = tuple(name for name, column in shown.items() if column.suite in about and _about(caveat, name))
            if hit:
                said = SAID.get(caveat.kind, caveat.text)
                yield Concern(meaning=meaning, kind=caveat.kind, suite=suite, said=said, row=row, columns=hit)


def _about(caveat: Caveat, column: str) -> bool:
    """Whether a warning that names one of the two speeds, or a point beside the main one, means this column's."""
    if " at batch " in caveat.text:
        return False
    decodes = column.startswith(("decode", "itl"))
    if caveat.text.startswith(("prefill:", "decode:")):
        return caveat.text.startswith("decode") == decodes
    if caveat.kind == "drifted":
        return ("memory bandwidth" in caveat.text) == decodes
    return True


def every(rows: Sequence[Row], names: Sequence[str] = suites.ORDER, told: Collection[str] = ()) -> list[str]:
    """The warnings of these suites' records in full, equal ones once; kinds in `told` are said elsewhere.

    Each names the suites that it was raised in: two of one kind are about two moments.
    """
    seen: dict[str, dict[str, list[str]]] = {}
    for row in rows:
        for suite in names:
            for caveat in row.records[suite].warnings if suite in row.records else ():
                if caveat.kind in told:
                    continue
                where = seen.setdefault(f"{caveat.kind.replace('_', ' ')}: {caveat.text}", {})
                found = where.setdefault(f"{named(row)} {row.precision}", [])
                if suite not in found:
                    found.append(suite)
    labels = {text: [f"{row} ({', '.join(found)})" for row, found in where.items()] for text, where in seen.items()}
    return [f"warning, {', '.join(where)}: {text}" for text, where in labels.items()]
