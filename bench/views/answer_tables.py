# SPDX-License-Identifier: Apache-2.0
"""The two tables under the answer: what each precision costs and saves, and what it does to the answers. Pure.

Of one model every figure stands beside its ratio, the 16-bit row among the others. Of several, ratios alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.judge.answer import Answer, Finding
from bench.judge.decisions import Instrument
from bench.judge.noise_floor import divergence_verdict, noise_floor
from bench.judge.rows import Row
from bench.judge.stats import Estimate, Verdict
from bench.units import significant
from bench.views.answer import change, full_label, label
from bench.views.cells import labelled, mixed
from bench.views.columns import COLUMNS
from bench.views.formats import Table, View
from bench.views.table import cell
from bench.views.warnings import MOST, Warnings

COSTS = ("weights", "peak", "decode", "prefill")
QUALITY = ("ppl_ratio", "kld", "acc")
COST_NOTES = ("x: of the 16-bit row. ±: half of the 95 % interval. Peak: above the process without a model.",)

BLUNT = "tasks: by accuracy alone where older records hold no log-likelihoods of choices; measure anew."


def views(found: Sequence[Answer], margin: float) -> list[View]:
    """Costs and savings, then quality, each device in tables of its own; nothing without a comparison."""
    devices = dict.fromkeys(answer.row.device for answer in found)
    return [
        view
        for device in devices
        for view in _of_device(
            [answer for answer in found if answer.row.device == device], margin, f" on {device}" * (len(devices) > 1)
        )
    ]


def _of_device(found: Sequence[Answer], margin: float, where: str) -> list[View]:
    rows, by_row = _rows(found), {id(answer.row): answer for answer in found}
    alone = len({answer.row.model for answer in found}) == 1
    costs, quality = Warnings(rows=rows, columns=COSTS), Warnings(rows=rows, columns=QUALITY)
    said = _quality_notes(rows, found, margin)
    return [
        View(
            title=f"costs and savings{where}",
            table=(_costs if alone else _ratios)(rows, by_row, costs),
            notes=(*COST_NOTES, *costs.lines(MOST - len(COST_NOTES))),
        ),
        View(
            title=f"quality{where}",
            table=_quality(rows, by_row, quality, alone=alone),
            notes=(*said, *quality.lines(MOST - len(said))),
        ),
    ]


def _rows(found: Sequence[Answer]) -> list[Row]:
    """Every row with its 16-bit row, which stands between wider and narrower ones."""
    rows: dict[int, Row] = {}
    by_reference: dict[int, list[Answer]] = {}
    for answer in found:
        by_reference.setdefault(id(answer.comparison.reference), []).append(answer)
    for answers in by_reference.values():
        reference, own = answers[0].comparison.reference, [answer.row for answer in answers]
        wider = [row for row in own if row.precision == "fp32"]
        rows |= {id(row): row for row in (*wider, reference, *own)}
    return list(rows.values())


def _head(rows: Sequence[Row], *, alone: bool) -> tuple[list[str], dict[int, list[str]]]:
    """Titles and cells that say which row it is: as few as tell rows apart. Schemes tell engines apart."""
    varied = not alone or len({labelled(row) for row in rows}) > 1
    naming = full_label if mixed(rows) else label
    titles = ["model"] * varied + ["precision"]
    return titles, {id(row): [labelled(row)] * varied + [naming(row)] for row in rows}


def _costs(rows: Sequence[Row], found: Mapping[int, Answer], warnings: Warnings) -> Table:
    titles, heads = _head(rows, alone=True)
    table = Table([*titles, *(COLUMNS[name].title for name in COSTS)])
    for row in rows:
        figures, ratios = row.figures(), found[id(row)].comparison.ratios if id(row) in found else None
        cells = []
        for name in COSTS:
            figure, text = COLUMNS[name].figure, cell(table, row, figures, COLUMNS[name])
            if figure in figures:
                text += warnings.mark(row, name) + _times(ratios, figure)
            cells.append(text)
        table.rows.append([*heads[id(row)], *cells])
    return table


def _times(ratios: Mapping[str, Estimate] | None, figure: str) -> str:
    if ratios is None:
        return "  1.00x"
    return f"  {ratios[figure].value:.2f}x" if figure in ratios else "      -"


def _ratios(rows: Sequence[Row], found: Mapping[int, Answer], warnings: Warnings) -> Table:
    """Of several models: what each row is of its 16-bit row."""
    shown = [row for row in rows if id(row) in found]
    titles, heads = _head(shown, alone=False)
    table = Table([*titles, *(COLUMNS[name].title.removesuffix(" tok/s") for name in COSTS)])
    for row in shown:
        figures, ratios, cells = row.figures(), found[id(row)].comparison.ratios, []
        for name in COSTS:
            figure = COLUMNS[name].figure
            if figure in ratios:
                half = ratios[figure].half_width
                text = f"{ratios[figure].value:.2f}x" + (f" ±{half:.2f}" if half is not None else "")
                text += warnings.mark(row, name)
            elif figure in figures:
                base = found[id(row)].comparison.reference.missing(COLUMNS[name].suite)
                text = f"16-bit {base.short}" if base else "settings differ"
            else:
                text = cell(table, row, figures, COLUMNS[name])
            cells.append(text)
        table.rows.append([*heads[id(row)], *cells])
    return table


def _quality(rows: Sequence[Row], found: Mapping[int, Answer], warnings: Warnings, *, alone: bool) -> Table:
    shown = rows if alone else [row for row in rows if id(row) in found and found[id(row)].findings]
    columns = QUALITY if alone else QUALITY[:2]
    titles, heads = _head(shown, alone=alone)
    table = Table([*titles, "perplexity", "verdict", *(COLUMNS[name].title for name in columns[1:]), "tasks"])
    for row in shown:
        figures, answer = row.figures(), found.get(id(row))
        found_by = answer.findings if answer else ()
        by_text = next((one for one in found_by if one.instrument is Instrument.PERPLEXITY and not one.tasks), None)
        by_tasks = [one for one in found_by if one is not by_text]
        cells = _perplexity(table, row, figures, by_text, warnings)
        for name in columns[1:]:
            mark = warnings.mark(row, name) if COLUMNS[name].figure in figures else ""
            cells.append(cell(table, row, figures, COLUMNS[name]) + mark)
        head = heads[id(row)]
        head[-1] += warnings.mark_row(row)
        table.rows.append([*head, *cells, _tasks(by_tasks, reference=answer is None)])
    return table


def _perplexity(
    table: Table, row: Row, figures: Mapping[str, Estimate], found: Finding | None, warnings: Warnings
) -> list[str]:
    """Its change and the verdict on it."""
    if found is None:
        return [cell(table, row, figures, COLUMNS["ppl_ratio"]), ""]
    return [f"{change(found.estimate)}{warnings.mark(row, 'ppl_ratio')}", _short(found.verdict)]


def _short(verdict: Verdict) -> str:
    """A verdict in a cell."""
    return {Verdict.BELOW_FLOOR: "in its noise", Verdict.NOT_MEASURABLE: "at chance"}.get(verdict, str(verdict))


def _tasks(found: Sequence[Finding], *, reference: bool) -> str:
    """The verdict of all instruments that judged tasks."""
    if not found:
        return "reference" if reference else "-"
    worse = sum(one.tasks.get(Verdict.WORSE, 0) for one in found)
    if worse:
        return f"{worse}/{sum(sum(one.tasks.values()) for one in found)} worse"
    verdicts = [one.verdict for one in found if one.verdict is not Verdict.NOT_MEASURABLE]
    for verdict in (Verdict.WORSE, Verdict.UNDECIDED, Verdict.EQUIVALENT, Verdict.BETTER):
        if verdict in verdicts:
            return str(verdict)
    return "at chance"


def _quality_notes(rows: Sequence[Row], found: Sequence[Answer], margin: float) -> list[str]:
    """What equivalent means, which instrument tasks were judged by, and what no distance can be told from."""
    lines = [f"equivalent: within {margin * 100:g} % of the 16-bit row, at 95 % confidence. KL is from that row too."]
    if any(task.blunter for answer in found for task in answer.comparison.tasks):
        lines.append(BLUNT)
    lines += _floor_notes(rows)
    return lines


def _floor_notes(rows: Sequence[Row]) -> list[str]:
    """Every row's own noise floor, and which distances are no larger than theirs."""
    records = [(row, row.records["divergence"]) for row in rows if "divergence" in row.records]
    floors = [(row, floor.kl) for row, record in records if (floor := noise_floor(record))]
    if not floors:
        return []
    told = []
    for row, size in floors:
        kl = row.figures().get("kld_mean")
        within = kl is not None and divergence_verdict(kl, size) is Verdict.BELOW_FLOOR
        told.append(f"{label(row)} {significant(size, 2)}" + ", all its KL" * within)
    return [f"noise (KL to itself): {'; '.join(told)}."]
