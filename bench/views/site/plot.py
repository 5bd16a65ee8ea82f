# SPDX-License-Identifier: Apache-2.0
"""The plot of memory, decode and quality as a Vega-Lite specification, for the page and for files. Pure.

Colours tell verdicts and are told apart by shape too. Error bars are 95 % intervals. The front is a step line: to its
left nothing was measured that decodes as fast in as little memory without a proved loss.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from math import inf

from pydantic import JsonValue

from bench.views.site.data import Entry

VERDICTS = ("reference", "equivalent", "better", "undecided", "not measured", "worse")
COLOURS = ("#4c78a8", "#54a24b", "#2a7f62", "#eeb033", "#9d9da1", "#d62728")
SHAPES = ("square", "circle", "triangle-up", "diamond", "cross", "triangle-down")


def points(entries: Sequence[Entry]) -> list[JsonValue]:
    """The rows that have memory and decode."""
    found: list[JsonValue] = []
    for one in entries:
        memory, decode = one.cells["memory"].number, one.decode
        if memory is None or decode is None:
            continue
        found.append({
            "id": one.id, "name": f"{one.cells['model'].text} {one.cells['precision'].text}", "memory": memory,
            "decode": decode.value, "low": decode.low if decode.low is not None else decode.value,
            "high": decode.high if decode.high is not None else decode.value, "verdict": one.verdict,
            "loss": one.cells["loss"].text, "dominated": False,
        })  # fmt: skip
    return found


def with_front(found: Sequence[JsonValue]) -> tuple[list[JsonValue], list[JsonValue]]:
    """The points with whether another dominates them, and the corners of the step line, by memory.

    A point whose loss is proved is dominated by any that is no larger and no slower; one that is not proved worse only
    by a proved one, so what is undecided stays on the front.
    """
    dominated = _dominated([one for one in found if isinstance(one, dict)])
    marked: list[JsonValue] = [{**one, "dominated": id(one) in dominated} for one in found if isinstance(one, dict)]
    kept = [one for one in marked if isinstance(one, dict) and not one["dominated"] and one["verdict"] != "worse"]
    line: list[JsonValue] = []
    best = 0.0
    for one in sorted(kept, key=lambda one: (_float(one["memory"]), -_float(one["decode"]))):
        if _float(one["decode"]) > best:
            best = _float(one["decode"])
            line.append({"memory": one["memory"], "decode": best})
    return marked, line


PROVED = frozenset({"reference", "equivalent", "better"})


def _dominated(found: Sequence[dict[str, JsonValue]]) -> set[int]:
    """Ids of those that another dominates: by memory, held against the fastest so far; equal points do not dominate."""

    def place(one: dict[str, JsonValue]) -> tuple[float, float]:
        return _float(one["memory"]), -_float(one["decode"])

    any_fastest = proved_fastest = -inf
    dominated: set[int] = set()
    for (_, slowness), alike in groupby(sorted(found, key=place), key=place):
        these = list(alike)
        dominated |= {
            id(one) for one in these if (any_fastest if one["verdict"] == "worse" else proved_fastest) >= -slowness
        }
        any_fastest = max(any_fastest, -slowness)
        if any(one["verdict"] in PROVED for one in these):
            proved_fastest = max(proved_fastest, -slowness)
    return dominated


def _float(value: JsonValue) -> float:
    assert isinstance(value, int | float)
    return float(value)


def specification(
    marked: Sequence[JsonValue] = (),
    line: Sequence[JsonValue] = (),
    *,
    title: str = "",
    width: JsonValue = "container",
    background: str | None = None,
) -> dict[str, JsonValue]:
    """The plot; without values the page fills the data sets `points` and `front`."""
    scale: dict[str, JsonValue] = {"domain": list(VERDICTS), "range": list(COLOURS)}
    shapes: dict[str, JsonValue] = {"domain": list(VERDICTS), "range": list(SHAPES)}
    x: dict[str, JsonValue] = {
        "field": "memory", "type": "quantitative", "title": "memory of the whole process, GB", "scale": {"zero": False},
    }  # fmt: skip
    y: dict[str, JsonValue] = {"field": "decode", "type": "quantitative", "title": "decode, tokens/s"}
    grey: JsonValue = {"condition": {"test": "datum.dominated", "value": 0.3}, "value": 1}
    colour: JsonValue = {"field": "verdict", "type": "nominal", "scale": scale, "title": "quality"}
    found: dict[str, JsonValue] = {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json",
        "width": width, "height": 340, "background": background, "autosize": {"type": "fit", "contains": "padding"},
        "datasets": {"points": list(marked), "front": list(line)},
        "layer": [
            {"data": {"name": "front"}, "mark": {"type": "line", "interpolate": "step-after", "strokeDash": [4, 3],
             "color": "#888"}, "encoding": {"x": x, "y": y}},
            {"data": {"name": "points"}, "mark": {"type": "rule"}, "encoding": {
                "x": x, "y": {"field": "low", "type": "quantitative", "title": "decode, tokens/s"},
                "y2": {"field": "high"}, "color": colour, "opacity": grey}},
            {"data": {"name": "points"}, "mark": {"type": "point", "filled": True, "size": 90}, "encoding": {
                "x": x, "y": y, "color": colour, "opacity": grey,
                "shape": {"field": "verdict", "type": "nominal", "scale": shapes, "title": "quality"},
                "tooltip": [{"field": "name", "title": "row"}, {"field": "memory", "title": "GB", "format": ".3f"},
                            {"field": "decode", "title": "tokens/s", "format": ".3g"},
                            {"field": "loss", "title": "quality"}]}},
        ],
        "config": {"axis": {"labelFontSize": 12, "titleFontSize": 12}, "legend": {"labelFontSize": 12}},
    }  # fmt: skip
    return {**found, "title": title} if title else found
