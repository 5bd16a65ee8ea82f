# SPDX-License-Identifier: Apache-2.0
"""The README's table of engines by scheme: one model on the device where most engines measured it. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from bench import escape
from bench.judge.cross_engine import DISTANCES, engines_side_by_side, why_missing
from bench.judge.reasons import NOT_MEASURED
from bench.judge.rows import Row
from bench.records.cell import COMPARED, KV, Precision
from bench.views import formats
from bench.views.cells import marked, written
from bench.views.fields import BY_FIGURE
from bench.views.formats import Table
from bench.views.site.data import Entry, entries

NAME = "engines"
"""Of the block between markers."""
TITLES = {"weights_bytes": "weights", "peak_bytes": "peak memory", "prefill_tokens_per_s": "prefill tok/s",
          "decode_tokens_per_s": "decode tok/s", DISTANCES[0]: "KL to fp32, nats"}  # fmt: skip
NOTHING = (
    "No model has been measured with two engines on one machine yet: `nox -s bench`, then `nox -s bench-llamacpp`.\n"
)
ABOUT = (
    "Weights: every loaded parameter, quantization scales included. Peak: memory while generating, above the process "
    "before loading. KL: from the one fp32 row that all engines share, a token. Verdict: against the "
    "engine's own 16-bit row. ± is half of the 95 % interval."
)


def block(rows: Sequence[Row]) -> str:
    """The table, or a sentence where no model was measured with two engines on one device.

    Of several models and devices the one with most engines is shown, then that with most rows, then the newest. Rows
    under a limit, of random weights, and with a cache of fewer bits stand elsewhere; of an engine's ways to compute one
    scheme the newest row is shown.
    """
    groups: dict[tuple[str, str, str], dict[tuple[str, str, str], Entry]] = {}
    for one in entries(rows):
        if _belongs(one.row):
            found = groups.setdefault((one.row.device, one.row.model, str(one.row.weights)), {})
            key = (one.row.backend, one.row.scheme, one.row.told_apart)
            if key not in found or _when(found[key].row) < _when(one.row):
                found[key] = one
    several = {key: list(found.values()) for key, found in groups.items() if len({each[0] for each in found}) > 1}
    if not several:
        return NOTHING
    best = max(several, key=lambda key: (_engines(several[key]), len(several[key]), _newest(several[key]), key))
    device, model, _ = best
    shown = sorted(several[best], key=_order)
    groups_shown, _ = engines_side_by_side([one.row for one in shown])
    cautions = [f"- {escape.markdown(caution)}" for group in groups_shown for caution in group.cautions]
    text = f"{model} on {device}:\n\n{formats.markdown(_table(shown))}\n{ABOUT}\n"
    return text + ("\nBeware:\n\n" + "\n".join(cautions) + "\n" if cautions else "")


def _belongs(row: Row) -> bool:
    """Whether it is an engine's row of a scheme, as it is without further wishes, with a figure of any kind."""
    cells = [record.cell for record in row.records.values()]
    plain = not any(KV in cell.settings for cell in cells)
    shown = row.precision != Precision.SERVED and not row.limit and not row.means_nothing and row.backend != "fake"
    return plain and shown and bool(TITLES.keys() & row.figures().keys())


def _engines(found: Sequence[Entry]) -> int:
    return len({one.row.backend for one in found})


def _when(row: Row) -> tuple[bool, str]:
    return max(record.when for record in row.records.values())


def _newest(found: Sequence[Entry]) -> tuple[bool, str]:
    return max(_when(one.row) for one in found)


def _order(one: Entry) -> tuple[int, str, str, str]:
    """Widest precision first, so that the engines' rows of one precision are neighbours."""
    return COMPARED.index(one.row.precision), one.row.backend, one.row.scheme, one.row.told_apart


def _table(found: Sequence[Entry]) -> Table:
    table = Table(["precision", "engine", "scheme", *TITLES.values(), "verdict"])
    for one in found:
        row, figures = one.row, one.row.figures()
        cells = [
            written(figures[name], BY_FIGURE[name].unit) if name in figures else _lacking(table, row, name)
            for name in TITLES
        ]
        scheme = " ".join(filter(None, [row.scheme, marked(row.told_apart)]))
        table.rows.append([str(row.precision), row.backend, scheme, *cells, one.cells["loss"].text])
    return table


def _lacking(table: Table, row: Row, name: str) -> str:
    """What stands for a figure that is not there, its reason beneath the table."""
    missing = why_missing(row, name, BY_FIGURE[name].suite)
    short = missing.short or "-"
    return f"{short} {table.note(str(missing))}" if missing.why and missing != NOT_MEASURED else short
