# SPDX-License-Identifier: Apache-2.0
"""The kv suite: a cache is compared with the engine's own at each depth, and one that was not read is no result."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from builders import engine_of, suite_run
from numpy.typing import NDArray

from bench.engines.contract import NotFinite, Unsupported
from bench.engines.fake import FakeEngine
from bench.judge.caches import caches_side_by_side
from bench.judge.figures import figures
from bench.judge.rows import newest
from bench.records.record import Measurement
from bench.suite import SuiteRun
from suites import kv, probe

VOCABULARY = 4
HALF = np.log(np.array([0.5, 0.25, 0.125, 0.125], np.float32))
OTHER = np.log(np.array([0.25, 0.5, 0.125, 0.125], np.float32))
"""KL(HALF || OTHER) = 0.25 ln 2, and another most probable token."""


class Pieces(FakeEngine):
    """The fake that reads in pieces: its own cache gives HALF, the asked one gives `found` from `since` on."""

    found: NDArray[np.float32] = OTHER
    since = 0
    asked: list[tuple[int, int, bool]]

    def log_probs_in_pieces(
        self, tokens: Sequence[int], piece: int, keep: Sequence[int], *, own_cache: bool
    ) -> NDArray[np.float32]:
        """One row for each position asked for."""
        self.asked.append((len(tokens), piece, own_cache))
        rows = [HALF if own_cache or position < self.since else self.found for position in keep]
        return np.array(rows, np.float32)


def run_of(tmp_path: Path, settings: dict[str, Any], **engine: Any) -> SuiteRun:
    """The suite's run over such an engine; tokens of the text are counted modulo the vocabulary."""
    made = engine_of("fake-fp16")
    made.__class__ = Pieces
    for name, value in {"asked": [], "context_length": 4096, "vocabulary": VOCABULARY, **engine}.items():
        setattr(made, name, value)
    encode = made.encode
    made.encode = lambda text, special=False: [t % VOCABULARY for t in encode(text)]  # type: ignore[method-assign]
    run = suite_run("kv", made, tmp_path)
    run.cell = run.cell.model_copy(update={"settings": {**kv.PROFILES["smoke"], **settings}})
    return run


def moved(change: tuple[float, ...]) -> NDArray[np.float32]:
    """HALF with its logits moved so, a distribution again."""
    logits = HALF.astype(np.float64) + change
    return (logits - np.log(np.exp(logits).sum())).astype(np.float32)


def values(found: Sequence[Measurement], name: str) -> dict[int, tuple[float, ...]]:
    return {int(str(m.labels["depth"])): m.values for m in found if m.name == name}


def test_distance_stands_at_each_depth_by_itself(tmp_path: Path) -> None:
    """The last tokens before each: nothing lost at 128, 0.25 ln 2 nats at 256, where another token is likeliest."""
    run = run_of(tmp_path, {"kv": "int4", "depths": [128, 256], "windows": 2}, since=150)
    found = kv.measure(run)
    kld = values(found, "kv_kld_nat")
    assert kld[128] == (0.0,) * 128
    assert kld[256] == pytest.approx((0.25 * np.log(2),) * 128, rel=1e-3)
    assert values(found, "kv_same_top1") == {128: (1.0, 1.0), 256: (0.0, 0.0)}
    assert values(found, "kv_floor_nat") == {128: (0.0,) * 128, 256: (0.0,) * 128}


def test_every_way_reads_the_same_window_and_the_floor_other_pieces(tmp_path: Path) -> None:
    """Own cache in pieces of 64 and of 32, the asked one in pieces of 64."""
    run = run_of(tmp_path, {"kv": "int8"})
    kv.measure(run)
    engine: Any = run.engine
    assert engine.asked == [(256, 64, True), (256, 32, True), (256, 64, False)]


@pytest.mark.parametrize("change", [(0, 0, 0, 0), (2e-4, -4e-4, 0, 0)], ids=["not at all", "by rounding"])
def test_a_cache_that_changes_nothing_was_not_read(tmp_path: Path, change: tuple[float, ...]) -> None:
    """Zero is no good news, nor are 5e-9 nats: one pass of some engines never looks at the quantized keys."""
    with pytest.raises(kv.NotRead, match="int4 keys and values change no logit"):
        kv.measure(run_of(tmp_path, {"kv": "int4"}, found=moved(change), since=245))


def test_a_cache_that_changes_little_was_read(tmp_path: Path) -> None:
    """One ten-millionth of a nat is what 8 bits cost a tiny model."""
    run = run_of(tmp_path, {"kv": "int8"}, found=moved((4e-4, -8e-4, 0, 0)))
    distances = values(kv.measure(run), "kv_kld_nat")
    assert 1e-8 < max(distances[256]) < 1e-6


def test_logits_that_are_no_numbers_end_the_cell(tmp_path: Path) -> None:
    """A distance of NaN is none."""
    with pytest.raises(NotFinite, match="read with int4"):
        kv.measure(run_of(tmp_path, {"kv": "int4"}, found=np.full(VOCABULARY, np.nan, np.float32)))


def test_the_own_cache_has_floors_bytes_and_times_but_no_distance(tmp_path: Path) -> None:
    """It is what others are compared with."""
    found = kv.measure(run_of(tmp_path, {}))
    assert {m.name for m in found} == {"kv_floor_nat", "kv_step_s", "kv_cache_bytes"}
    (held,) = [m for m in found if m.name == "kv_cache_bytes"]
    assert held.values[0] / held.labels["tokens"] == 1000.0  # type: ignore[operator]


def test_a_depth_beyond_the_context_is_left_out_with_its_reason(tmp_path: Path) -> None:
    """The others are measured; where none fits, the cell is unsupported."""
    run = run_of(tmp_path, {"depths": [128, 512]}, context_length=300)
    assert set(values(kv.measure(run), "kv_floor_nat")) == {128}
    assert [c.text for c in run.caveats] == ["kv at depth 512: the model has 300 positions"]
    with pytest.raises(Unsupported, match="no depth of 512"):
        kv.measure(run_of(tmp_path, {"depths": [512]}, context_length=300))


def test_an_engine_that_cannot_read_in_pieces_is_unsupported(tmp_path: Path) -> None:
    """Nothing is measured in another way instead."""
    with pytest.raises(Unsupported, match="reads no text in pieces"):
        kv.measure(suite_run("kv", engine_of("fake-fp16"), tmp_path))


def test_a_long_window_goes_on_with_the_next_register() -> None:
    """Each begins with a register of its own, and none comes short."""
    windows = probe.long_windows(lambda text: list(text.encode()), 3, 60_000)
    assert [register for register, _ in windows] == ["encyclopaedic", "dialogue", "instructions"]
    assert {len(tokens) for _, tokens in windows} == {60_000}
    first = probe.text("encyclopaedic").encode()
    assert bytes(windows[0][1]) == (first + probe.text("dialogue").encode())[:60_000]
    assert probe.long_windows(lambda text: list(text.encode()), 3, 300_000) == []


def test_caches_stand_side_by_side_the_own_one_first(tmp_path: Path) -> None:
    """One group for each engine and scheme, with distance, floor, bytes and speed by depth."""
    from builders import make_cell, make_record

    records = []
    for cache in ("int4", "int8/int4", None, "int8"):
        settings = {"depths": [128], **({"kv": cache} if cache else {})}
        found = kv.measure(run_of(tmp_path, settings))
        cell = make_cell("kv", settings={**kv.PROFILES["smoke"], **settings})
        records.append(make_record(cell, measurements=tuple(found)))
    (group,) = caches_side_by_side(newest(records))
    assert [cache.kept_in for cache in group.caches] == ["own", "int8", "int8/int4", "int4"]
    own, narrow = group.caches[0].depths[128], group.caches[-1].depths[128]
    assert own.distance is None
    assert narrow.distance is not None
    assert narrow.distance.value == pytest.approx(0.25 * np.log(2), rel=1e-3)
    assert figures(records[0])["kv_bytes_per_token:128"].value == 1000.0
