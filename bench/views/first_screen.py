# SPDX-License-Identifier: Apache-2.0
"""What the README begins with: the plot of one device and a table of eight lines, made of the records. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench.judge.rows import Row
from bench.views import formats
from bench.views.formats import Table
from bench.views.site import plot
from bench.views.site.data import Entry, entries

NAME = "screen"
"""Of the block between markers."""
LINES = 8
COLUMNS = {"precision": "precision", "engine": "engine", "memory": "memory, GB", "decode": "decode tok/s",
           "prefill": "prefill tok/s", "loss": "quality against 16 bits"}  # fmt: skip
JUDGED = frozenset({"reference", "equivalent", "better", "worse", "undecided"})


def block(rows: Sequence[Row], plots: str) -> str:
    """The plot and the table of the device and model with most judged rows; a sentence where nothing was judged.

    `plots` is the folder of the plots as the README links it.
    """
    every = entries(rows)
    found = [one for one in every if one.verdict in JUDGED and not one.row.means_nothing and not one.row.limit]
    groups: dict[tuple[str, str], list[Entry]] = {}
    for one in found:
        groups.setdefault((one.row.device, one.row.model), []).append(one)
    if not groups:
        return "Nothing has been measured yet: `nox -s bench`.\n"
    device, model = max(groups, key=lambda key: (len(groups[key]), max(map(_newest, groups[key])), key))
    shown = sorted(groups[device, model], key=_order)[:LINES]
    table = Table(list(COLUMNS.values()), [[one.cells[key].text for key in COLUMNS] for one in shown])
    lines = [f"{model} on {device}:\n", formats.markdown(table)]
    if plot.points([one for one in every if one.row.device == device]):
        lines.insert(0, f"![Decode by memory, every row measured on {device}]({plots}/{device}.png)\n")
    return "\n".join(lines)


def _newest(one: Entry) -> tuple[bool, str]:
    return max(record.when for record in one.row.records.values())


def _order(one: Entry) -> tuple[float, str, str]:
    """The least memory first."""
    memory = one.cells["memory"].number
    return (memory if memory is not None else float("inf"), one.row.backend, one.row.scheme)
