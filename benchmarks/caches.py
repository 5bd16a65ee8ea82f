# SPDX-License-Identifier: Apache-2.0
"""What keeping keys and values in fewer bits costs the default model: bytes, decode behind a text, and distance.

Distance as the kv suite measures it: windows of the probe text read in pieces through the cache, KL(own cache || this)
for each of the last tokens before every depth, beside the floor (the own cache, pieces of half the size). Speed: every
cache has read the same text; then they take turns of a few tokens each, the order swapped every turn, so that all are
timed in one run on one machine. Scratch memory: each cache in a process of its own, as the memory suite counts it.
Each engine is asked in an environment of its own, and a report is made of both:

    python -m benchmarks.caches distance llamacpp FOLDER [DEEPEST [SECONDS]]
    python -m benchmarks.caches speed llamacpp FOLDER [TURNS]
    python -m benchmarks.caches scratch llamacpp FOLDER
    python -m benchmarks.caches report FOLDER REPORT.md

Every text that was read is kept: a call that is ended, or has had its SECONDS (then it ends with 3), goes on.
"""

from __future__ import annotations

import json
import shutil
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from contextlib import closing
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.memory import ProcessMemory
from bench.judge.stats import ratio_of_medians
from bench.processes import temporary_folder, write_whole
from bench.scoring.reference import kl_divergence
from benchmarks import default_model
from suites import kv, probe

SCHEMES = {"llamacpp": "gguf-q8_0", "transformers": "fp32"}
"""transformers at float32, whose own rounding hides nothing: at bf16 the floor is greater than what 8 bits cost."""
Way = tuple[str | None, str | None]
"""What keys and values are kept in, and how llama.cpp attends."""
WAYS: dict[str, list[Way]] = {
    "llamacpp": [
        (None, "plain"), (None, "flash"), ("int8/fp16", "plain"), ("int8", "flash"), ("int8/int4", "flash"),
        ("int4", "flash"),
    ],
    "transformers": [(None, None), ("int8", None), ("int4", None)],
}  # fmt: skip
DEPTHS = (512, 2048, 8000)
"""The last is as deep as 8,192 positions allow, with room for an answer."""
TIMED, PER_TURN = (512, 2048), 8
WINDOWS = 2
UNTOLD, MIB = "–", 1 << 20
PIECE, SCORED = int(str(kv.COMMON["piece_tokens"])), int(str(kv.COMMON["scored_tokens"]))


ABOUT = (
    "`python -m benchmarks.caches`, {cpu}, {cpus} CPUs ({device}), the default model. Decode: median step of "
    f"{PER_TURN}-token turns behind a text of so many tokens, all caches of an engine in turns in one process; in "
    "brackets times the speed of the engine's first row, with its 95 % interval. Scratch: what a prompt of "
    f"{TIMED[-1]:,} tokens and {PER_TURN} more took beyond weights and cache and gave back, in a process of its own. "
    f"KL: mean KL(own cache || this) in nats over the windows that a column names and the last {SCORED} tokens before "
    f"its depth, read in pieces of {PIECE}; then the share of them whose most probable token stays; in brackets the "
    f"floor, the own cache in pieces of {PIECE // 2}. Of 8,192 positions {DEPTHS[-1]:,} are as deep as leaves room for "
    "an answer."
)


def named(way: Way) -> str:
    """What a row calls it."""
    kept, attention = way
    return (kept or "its own") + (f" ({attention})" if attention else "")


def loaded(name: str, way: Way) -> Any:
    """The default model with that cache."""
    engines = backend(name)
    kept, attention = way
    return default_model.load(engines, engines.scheme(SCHEMES[name]), attention=attention, kv=kept)


def found_before(path: Path) -> dict[str, Any]:
    """What an earlier call found."""
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return found


class OutOfTime(Exception):
    """A call has had its seconds before all was read."""


class Reads:
    """Log-probabilities of one cache's row before each depth, every text read once and kept."""

    def __init__(self, name: str, way: Way, end: float, folder: Path) -> None:
        self.name, self.way, self.end, self.folder = name, way, end, folder
        self.engine: Any = None

    def rows(self, index: int, depths: list[int], piece: int, *, own: bool) -> NDArray[np.float32]:
        """(depths x SCORED, vocabulary) of one window, in pieces. Raises OutOfTime."""
        kept = "own" if own else str(self.way[0]).replace("/", "-")
        path = self.folder / f"{self.name}-{self.way[1]}-{kept}-{piece}-{index}-{depths[-1]}.npy"
        if not path.exists():
            if (began := time.monotonic()) > self.end:
                raise OutOfTime
            self.engine = self.engine or loaded(self.name, self.way)
            _, window = probe.long_windows(self.engine.encode, WINDOWS, depths[-1])[index]
            keep = [at for depth in depths for at in range(depth - SCORED - 1, depth - 1)]
            rows = self.engine.log_probs_in_pieces(window, piece, keep, own_cache=own)
            assert np.isfinite(rows).all(), f"{named(self.way)}: logits are no numbers"
            with temporary_folder() as made:
                np.save(Path(made) / "rows.npy", rows)
                shutil.move(Path(made) / "rows.npy", path)
            print(path.name, f"{time.monotonic() - began:.0f} s", flush=True)
        found: NDArray[np.float32] = np.load(path)
        return found

    def close(self) -> None:
        """Unload what was loaded."""
        if self.engine is not None:
            self.engine.close()


def distance(name: str, deepest: int, seconds: float, folder: Path) -> None:
    """By cache and depth, each of its windows: mean KL of a token, its floor, the share whose best token stays.

    Raises OutOfTime.
    """
    end = time.monotonic() + seconds
    path = folder / f"{name}-distance.json"
    found: dict[str, dict[str, list[dict[str, float]]]] = found_before(path)
    for way in WAYS[name]:
        reads = Reads(name, way, end, folder)
        parts: dict[str, list[dict[str, float]]] = {}
        for index in range(WINDOWS):
            depths = [depth for depth in DEPTHS if depth <= deepest and (depth < DEPTHS[-1] or not index)]
            own, other = (reads.rows(index, depths, piece, own=True) for piece in (PIECE, PIECE // 2))
            this = reads.rows(index, depths, PIECE, own=False) if way[0] else own
            for at, depth in enumerate(depths):
                part = slice(at * SCORED, (at + 1) * SCORED)
                parts.setdefault(str(depth), []).append(
                    {
                        "kl": float(kl_divergence(own[part], this[part]).mean()),
                        "floor": float(kl_divergence(own[part], other[part]).mean()),
                        "same": float((own[part].argmax(-1) == this[part].argmax(-1)).mean()),
                    }
                )
        reads.close()
        found[named(way)] = parts
        write_whole(path, json.dumps(found))
        print(named(way), json.dumps(parts), flush=True)


def speed(name: str, turns: int, path: Path) -> None:
    """By depth and cache: seconds of every step in turns, bytes of a token, and the tokens that were chosen."""
    engines = {named(way): loaded(name, way) for way in WAYS[name]}
    found: dict[str, Any] = {}
    for depth in TIMED:
        text = probe.prompt(next(iter(engines.values())).encode, depth)
        open_texts = {way: one.prefill([text], suppress=one.end_tokens) for way, one in engines.items()}
        for one in open_texts.values():
            if reserve := getattr(one, "reserve", None):
                reserve((turns + 1) * PER_TURN + 1)
            one.step()
        steps: dict[str, list[float]] = {way: [] for way in engines}
        chosen: dict[str, list[int]] = {way: [] for way in engines}
        for turn in range(turns + 1):
            for way in sorted(engines, reverse=bool(turn % 2)):
                stamps = [time.perf_counter()]
                for _ in range(PER_TURN):
                    chosen[way] += open_texts[way].step()
                    stamps.append(time.perf_counter())
                if turn:  # the first one warms up
                    steps[way] += [later - earlier for earlier, later in pairwise(stamps)]
        found[str(depth)] = {
            way: {
                "steps": steps[way], "tokens": chosen[way],
                "bytes": open_texts[way].cache_bytes / open_texts[way].cache_tokens,
            }
            for way in engines
        }  # fmt: skip
        for one in open_texts.values():
            one.close()
        write_whole(path, json.dumps(found))
    for one in engines.values():
        one.close()


def scratch_of(name: str, way: Way) -> dict[str, float]:
    """Bytes beyond weights and cache at the peak of a prompt and its answer, gone again later; a token's bytes."""
    engine, memory = loaded(name, way), ProcessMemory()
    prompt = probe.prompt(engine.encode, TIMED[-1])
    memory.trim()
    memory.reset_peak()
    with closing(engine.prefill([prompt], suppress=engine.end_tokens)) as generation:
        for _ in range(PER_TURN):
            generation.step()
        held = getattr(generation, "reserved_bytes", None) or generation.cache_bytes
        of_token = generation.cache_bytes / generation.cache_tokens
        peak = memory.peak()
    del generation
    if release := getattr(engine, "release", None):
        release()
    memory.trim()
    return {"scratch": peak.total_bytes - memory.read().total_bytes - int(held), "bytes": of_token}


def scratch(name: str, path: Path) -> None:
    """By cache, each in a process of its own."""
    found = found_before(path)
    for way in WAYS[name]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found[named(way)] = alone.submit(scratch_of, name, way).result()
        write_whole(path, json.dumps(found))
        print(named(way), found[named(way)], flush=True)


def _speed(found: dict[str, Any], way: str, first: str) -> str:
    """Tokens a second, and times those of the first row."""
    ratio = ratio_of_medians(found[first]["steps"], found[way]["steps"])
    return f"{1 / median(found[way]['steps']):.1f} ({ratio.value:.2f}, {ratio.low:.2f} to {ratio.high:.2f})"


def _windows(folder: Path, depth: int) -> str:
    """How many were read to that depth, the most of any row; empty where none was."""
    found = [
        cache.get(str(depth), []) for name in WAYS for cache in found_before(folder / f"{name}-distance.json").values()
    ]
    count = max(map(len, found), default=0)
    return f", {count} window{'s' * (count > 1)}" if count else ""


def rows(name: str, folder: Path) -> list[str]:
    """The engine's rows of the report."""
    far, fast, memory = (found_before(folder / f"{name}-{what}.json") for what in ("distance", "speed", "scratch"))
    made = []
    for way in map(named, WAYS[name]):
        timed, held = (fast.get(str(depth), {}) for depth in TIMED), memory.get(way, {})
        of_token = held.get("bytes") or next((found[way]["bytes"] for found in fast.values()), None)
        cells = [name, SCHEMES[name], way]
        cells += [UNTOLD if of_token is None else f"{1000 * of_token / MIB:.2f}"]
        cells += [f"{held['scratch'] / MIB:.0f}" if held else UNTOLD]
        cells += [_speed(found, way, named(WAYS[name][0])) if found else UNTOLD for found in timed]
        for depth in map(str, DEPTHS):
            windows = far.get(way, {}).get(depth)
            if not windows:
                cells.append(UNTOLD)
                continue
            at = {key: fmean(one[key] for one in windows) for key in windows[0]}
            told = "0 by definition" if way.startswith("its own") else f"{at['kl']:.2g}, {at['same']:.1%}"
            cells.append(f"{told} ({at['floor']:.1g})")
        made.append(f"| {' | '.join(cells)} |")
    return made


def _measured(lines: list[str]) -> list[str]:
    """A table, its titles first, without rows and columns of which nothing was measured; the rule beneath titles."""
    titles, *cells = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    found = [row for row in cells if set(row[3:]) != {UNTOLD}]
    kept = [place for place in range(len(titles)) if any(row[place] != UNTOLD for row in found)]
    made = [f"| {' | '.join(row[place] for place in kept)} |" for row in (titles, *found)]
    return [made[0], f"|{' --- |' * len(kept)}", *made[1:]]


def report(folder: Path) -> str:
    """Of the engines that were asked."""
    described = machine.describe("cpu")
    asked = [name for name in WAYS if any(folder.glob(f"{name}-*.json"))]
    columns = ["engine", "scheme", "cache", "MiB per 1,000 tokens", "scratch, MiB"]
    columns += [f"decode @ {depth}, tokens/s" for depth in TIMED] + [
        f"KL @ {depth}{_windows(folder, depth)}" for depth in DEPTHS
    ]
    lines = [
        "# Keys and values in fewer bits",
        "",
        ABOUT.format(cpu=described.name, cpus=described.logical_cpus, device=described.device),
        "",
        *_measured([f"| {' | '.join(columns)} |", *(row for name in asked for row in rows(name, folder))]),
    ]
    lines += ["", f"{UNTOLD}: not measured."] if any(UNTOLD in line for line in lines) else []
    lines += [f"Not asked: {name}." for name in WAYS if name not in asked]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Ask an engine, or make the report."""
    what, first, second, *more = sys.argv[1:]
    if what == "report":
        Path(second).write_text(report(Path(first)), encoding="utf-8")
        return
    folder = Path(second)
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{first}-{what}.json"
    if what == "distance":
        deepest, seconds = [*more, *("8000", "inf")[len(more) :]]
        try:
            distance(first, int(deepest), float(seconds), folder)
        except OutOfTime:
            sys.exit(3)
    elif what == "speed":
        speed(first, int(more[0]) if more else 5, path)
    else:
        scratch(first, path)


if __name__ == "__main__":
    main()
