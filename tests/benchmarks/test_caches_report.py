# SPDX-License-Identifier: Apache-2.0
"""The report of caches of fewer bits: what was found of each stands in its line, what was not is a dash."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.paths import ROOT
from benchmarks import caches
from benchmarks.caches import DEPTHS, PIECE, SCORED, OutOfTime

MIB = 1 << 20


def kept(folder: Path, name: str, **parts: Any) -> None:
    for what, found in parts.items():
        (folder / f"{name}-{what}.json").write_text(json.dumps(found))


def test_a_line_holds_what_was_found_of_a_cache(tmp_path: Path) -> None:
    """Bytes, scratch, speeds beside the first row's, and the mean of the windows with its floor."""
    ways = list(map(caches.named, caches.WAYS["transformers"]))
    speed = {
        depth: {
            way: {"steps": [seconds] * 4, "tokens": [1], "bytes": MIB / 1000}
            for way, seconds in zip(ways, (0.02, 0.04, 0.08), strict=True)
        }
        for depth in ("512", "2048")
    }
    window = {"kl": 0.25, "floor": 1e-5, "same": 0.5}
    far = {"int8": {"512": [window, {"kl": 0.75, "floor": 3e-5, "same": 1.0}], "8000": [window]},
           "its own": {"512": [{"kl": 0.0, "floor": 2e-5, "same": 1.0}]}}  # fmt: skip
    kept(
        tmp_path, "transformers", speed=speed, distance=far, scratch={"int8": {"scratch": 7 * MIB, "bytes": MIB / 2000}}
    )
    own, int8, int4 = caches.rows("transformers", tmp_path)
    assert own == (
        "| transformers | fp32 | its own | 1.00 | – | 50.0 (1.00, 1.00 to 1.00) | 50.0 (1.00, 1.00 to 1.00) "
        "| 0 by definition (2e-05) | – | – |"
    )
    assert int8.endswith("| 25.0 (0.50, 0.50 to 0.50) | 0.5, 75.0% (2e-05) | – | 0.25, 50.0% (1e-05) |")
    assert "| int8 | 0.50 | 7 |" in int8
    assert int4.endswith("| – | – | – |")
    (tmp_path / "transformers-speed.json").unlink()
    assert caches.rows("transformers", tmp_path)[1] == (
        "| transformers | fp32 | int8 | 0.50 | 7 | – | – | 0.5, 75.0% (2e-05) | – | 0.25, 50.0% (1e-05) |"
    )
    text = caches.report(tmp_path)
    titles = (
        "| engine | scheme | cache | MiB per 1,000 tokens | scratch, MiB | KL @ 512, 2 windows | KL @ 8000, 1 window |"
    )
    assert titles in text.splitlines()
    assert [line.split(" | ")[2] for line in text.splitlines() if line.startswith("| transf")] == ["its own", "int8"]
    assert text.endswith("–: not measured.\nNot asked: llamacpp.\n")


class Reader:
    """An engine whose quantized cache moves every logit at the last depth alone."""

    reads: list[tuple[int, int, bool]]

    def __init__(self) -> None:
        self.reads = []

    def encode(self, text: str) -> list[int]:
        """A token for each character."""
        return list(range(len(text)))

    def log_probs_in_pieces(
        self, tokens: list[int], piece: int, keep: list[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """Two tokens of equal probability, or another pair."""
        self.reads.append((len(tokens), piece, own_cache))
        half, other = np.log([0.5, 0.5]), np.log([0.25, 0.75])
        moved = [not own_cache and position > DEPTHS[-1] - SCORED - 2 for position in keep]
        return np.array([other if one else half for one in moved], np.float32)

    def close(self) -> None:
        """Nothing is held."""


def test_a_call_that_had_its_time_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No text is read twice, the deepest is read in one window alone, and what was found before stays."""
    engine, way = Reader(), ("int8", None)
    monkeypatch.setitem(caches.WAYS, "transformers", [way])
    monkeypatch.setattr(caches, "loaded", lambda name, way: engine)
    kept(tmp_path, "transformers", distance={"int4": {"512": []}})
    clock = iter([0.0, 1.0, 2.0, 3.0, 4.0, 99.0, *[0.0] * 99])
    monkeypatch.setattr(caches.time, "monotonic", lambda: next(clock))
    with pytest.raises(OutOfTime):
        caches.distance("transformers", DEPTHS[-1], 50.0, tmp_path)
    assert engine.reads == [(DEPTHS[-1], PIECE, True), (DEPTHS[-1], PIECE // 2, True)]
    caches.distance("transformers", DEPTHS[-1], 50.0, tmp_path)
    shorter = [(DEPTHS[-2], PIECE, True), (DEPTHS[-2], PIECE // 2, True), (DEPTHS[-2], PIECE, False)]
    assert engine.reads[2:] == [(DEPTHS[-1], PIECE, False), *shorter]
    found = json.loads((tmp_path / "transformers-distance.json").read_text())
    assert {depth: len(windows) for depth, windows in found["int8"].items()} == {"512": 2, "2048": 2, "8000": 1}
    assert found["int8"]["2048"][0]["kl"] == 0.0
    assert found["int8"]["8000"][0]["kl"] == pytest.approx(0.5 * np.log(4 / 3), rel=1e-5)
    assert "int4" in found


def test_the_readme_says_of_caches_what_the_reports_say() -> None:
    """Each figure of its table stands in the line of that engine and cache."""
    reports = [(ROOT / "results" / "validation" / name).read_text() for name in ("caches.md", "caches-avx512.md")]
    lines = [line for text in reports for line in text.splitlines() if line.startswith("| ")]
    shown = (ROOT / "README.md").read_text().partition("### Keys and values in fewer bits")[2].splitlines()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in shown if re.match(r"\| .*\((q\d|hqq)", line)
    ]
    assert len(rows) == 4
    for engine, cache, held, *distances in rows:
        name, kept = engine.partition(",")[0].replace(".", ""), cache.partition(" ")[0]
        told = " ".join(line for line in lines if line.startswith(f"| {name} |") and f"| {kept} " in line)
        wanted = [held, *(part for cell in distances for part in cell.split(" ", 1))]
        assert [figure for figure in wanted if figure != "-" and figure not in told] == [], told
