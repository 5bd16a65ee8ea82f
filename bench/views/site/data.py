# SPDX-License-Identifier: Apache-2.0
"""Rows as the site's tables and its plot hold them: text for people, numbers to sort and filter by. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.judge.decisions import Instrument
from bench.judge.recommend import Candidate, Limits, candidates
from bench.judge.rows import Row
from bench.judge.stats import Estimate, Verdict
from bench.judge.tiers import standings
from bench.units import slug
from bench.views.answer import label
from bench.views.cells import labelled, written
from bench.views.fields import BY_FIGURE
from bench.views.recommend import loss

GB = 1e9


@dataclass(frozen=True)
class Heading:
    """One column of the front page."""

    key: str
    title: str
    explained: str
    """What it says, for the heading's title."""
    presets: str
    """The presets that show it: `c` choose, `p` compare precisions, `e` everything."""
    numeric: bool = True


HEADINGS = (
    Heading("model", "model", "name of the catalogue entry", "cpe", numeric=False),
    Heading("precision", "precision", "precision and scheme", "cpe", numeric=False),
    Heading("engine", "engine", "engine that computed", "e", numeric=False),
    Heading("device", "device", "where it was measured", "e", numeric=False),
    Heading("memory", "memory, GB", "the whole process at its peak, its libraries included", "ce"),
    Heading("decode", "decode tok/s", "tokens generated a second at batch 1, half of the 95 % interval", "ce"),
    Heading("prefill", "prefill tok/s", "tokens of a prompt read a second at batch 1", "e"),
    Heading("loss", "loss against 16 bits", "what decides against the model's own 16-bit row", "cpe"),
    Heading("score", "score", "accuracy above chance, mean over the tasks that all rows of the device answered", "ce"),
    Heading("cost", "cost of 1M", "a million generated tokens at the price that was entered", "e"),
    Heading("weights_ratio", "weights", "of the 16-bit row's", "p"),
    Heading("memory_ratio", "peak", "of the 16-bit row's", "p"),
    Heading("decode_ratio", "decode", "of the 16-bit row's", "p"),
    Heading("prefill_ratio", "prefill", "of the 16-bit row's", "e"),
    Heading("kld", "KL, nats", "mean KL divergence from the 16-bit row, a token", "e"),
    Heading("weights", "weights", "every loaded parameter, quantization metadata included", "e"),
    Heading("bits", "bits", "bits that one linear weight takes, as counted after loading", "e"),
    Heading("front", "front", "nothing on its device is proved at least as good in memory, decode and quality", "e",
            numeric=False),
)  # fmt: skip
"""Six in each preset but the last."""
RATIOS = {"weights_ratio": "weights_bytes", "memory_ratio": "peak_bytes", "decode_ratio": "decode_tokens_per_s",
          "prefill_ratio": "prefill_tokens_per_s"}  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """What a cell shows, and the number it is sorted by; None sorts last."""

    text: str
    number: float | None = None


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One row of the front page."""

    id: str
    row: Row
    page: str
    """File of its model's page, without its ending."""
    cells: Mapping[str, Cell]
    verdict: str
    """`reference`, `equivalent`, `better`, `worse`, `undecided`, `not measured`."""
    loss: float | None
    """Share of quality lost by the deciding instrument, 0 of a reference; None where nothing is settled."""
    decode: Estimate | None


def entries(rows: Sequence[Row]) -> list[Entry]:
    """Every row, devices apart, in the order of rows; those of random weights, which have no quality, last."""
    found: list[Entry] = []
    for device in dict.fromkeys(row.device for row in rows):
        here = [row for row in rows if row.device == device]
        known = candidates(here, Limits())
        places = {id(place.candidate): place for place in standings([one for one in known if one.fits])}
        for one in known:
            place = places.get(id(one))
            score, front = (place.score, place.on_front) if place else (None, False)
            found.append(_entry(one, score, front=front))
    return sorted(found, key=lambda one: one.row.means_nothing)


def page_of(model: str) -> str:
    """The file of a model's page, without its ending."""
    return slug(model)


def _entry(one: Candidate, score: float | None, *, front: bool) -> Entry:
    row, figures = one.row, one.row.figures()
    ratios = one.answer.comparison.ratios if one.answer else {}
    cells = {
        "model": Cell(labelled(row)),
        "precision": Cell(label(row)),
        "engine": Cell(row.backend),
        "device": Cell(row.device),
        "memory": _number(one.need.bytes / GB if one.need else None, "{:.2f}"),
        "decode": _figure(figures, "decode_tokens_per_s"),
        "prefill": _figure(figures, "prefill_tokens_per_s"),
        "loss": Cell(loss(one), _loss(one)),
        "score": _number(score, "{:.1%}"),
        "cost": Cell("-"),
        "kld": _figure(figures, "kld_mean"),
        "weights": _figure(figures, "weights_bytes"),
        "bits": _number(figures["linear_bits"].value if "linear_bits" in figures else None, "{:.3g}"),
        "front": Cell("yes" if front else "", float(front)),
    }
    for key, figure in RATIOS.items():
        cells[key] = _number(ratios[figure].value if figure in ratios else None, "{:.2f}x")
    return Entry(
        id=_anchor(row), row=row, page=page_of(row.model), cells=cells, verdict=_verdict(one), loss=_loss(one),
        decode=one.decode,
    )  # fmt: skip


def _anchor(row: Row) -> str:
    """Names a row: of several weights of one name each has its own."""
    parts = [row.device, row.model, row.weights, row.backend, row.scheme, row.limit, row.way, row.told_apart]
    return slug("-".join(str(part) for part in parts if part))


def _number(value: float | None, form: str) -> Cell:
    return Cell("-") if value is None else Cell(form.format(value), value)


def _figure(figures: Mapping[str, Estimate], name: str) -> Cell:
    if name not in figures:
        return Cell("-")
    return Cell(written(figures[name], BY_FIGURE[name].unit), figures[name].value)


def _verdict(one: Candidate) -> str:
    if one.is_reference:
        return "reference"
    if one.row.means_nothing or one.answer is None or not one.answer.findings:
        return "not measured"
    return str(one.verdict) if one.verdict in SETTLED else "undecided"


SETTLED = frozenset({Verdict.EQUIVALENT, Verdict.BETTER, Verdict.WORSE})


def _loss(one: Candidate) -> float | None:
    """The share lost: of perplexity what it grew by, of tasks the points that are gone."""
    if one.is_reference:
        return 0.0
    found = one.answer.decided_by if one.answer and not one.row.means_nothing else None
    if found is None:
        return None
    if found.instrument is Instrument.PERPLEXITY:
        return found.estimate.value
    return 1 - found.estimate.value if found.of_score else -found.estimate.value
