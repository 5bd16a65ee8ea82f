# SPDX-License-Identifier: Apache-2.0
"""What keeping keys and values in fewer bits costs the default model: bytes, decode behind a text, and distance.

Distance as the kv suite measures it: windows of the probe text read in pieces through the cache, KL(own cache || this)
for each of the last tokens before every depth, beside the floor (the own cache, pieces of half the size). Speed: every
cache has read the same text; then they take turns of a few tokens each, the order swapped every turn, so that all are
timed in one run on one machine. Scratch memory: each cache in a process of its own, as the memory suite counts it.
Each engine is asked in an environment of its own, and a report is made of both:

    python -m benchmarks.caches distance llamacpp FOLDER [DEEPEST]
    python -m benchmarks.caches speed llamacpp FOLDER [TURNS]
    python -m benchmarks.caches scratch llamacpp FOLDER
    python -m benchmarks.caches report FOLDER REPORT.md

What each found of a cache is kept as soon as it is there: a call that is ended goes on where it was.
"""

from __future__ import annotations

import json
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

from bench.engines.registry import backend
from bench.instruments import machine
from bench.instruments.memory import ProcessMemory
from bench.judge.stats import ratio_of_medians
from bench.processes import write_whole
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
PIECE, SCORED = int(str(kv.COMMON["piece_tokens"])), int(str(kv.COMMON["scored_tokens"]))


ABOUT = (
    "`python -m benchmarks.caches`, {cpu}, {cpus} CPUs ({device}), the default model. Decode: median step of "
    f"{PER_TURN}-token turns behind a text of so many tokens, all caches of an engine in turns in one process; in "
    "brackets times the speed of the engine's first row, with its 95 % interval. Scratch: what a prompt of "
    f"{TIMED[-1]:,} tokens and {PER_TURN} more took beyond weights and cache and gave back, in a process of its own. "
    f"KL: mean KL(own cache || this) in nats over {WINDOWS} windows and the last {SCORED} tokens before the depth, "
    f"read in pieces of {PIECE}; then the share of them whose most probable token stays; in brackets the floor, the "
    f"own cache in pieces of {PIECE // 2}. Of 8,192 positions {DEPTHS[-1]:,} are as deep as leaves room for an answer."
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


def distance(name: str, deepest: int, path: Path) -> None:
    """By cache and depth: mean KL of a token, its floor, and the share of tokens whose best stays the same."""
    depths = [depth for depth in DEPTHS if depth <= deepest]
    keep = [position for depth in depths for position in range(depth - SCORED - 1, depth - 1)]
    found = found_before(path)
    owned: dict[tuple[str | None, int], tuple[Any, Any]] = {}
    for way in WAYS[name]:
        if all(str(depth) in found.get(named(way), {}) for depth in depths):
            continue
        engine = loaded(name, way)
        parts: dict[int, list[dict[str, float]]] = {depth: [] for depth in depths}
        for index, (_, window) in enumerate(probe.long_windows(engine.encode, WINDOWS, depths[-1])):
            place = (way[1], index)
            if place not in owned:
                owned[place] = (
                    engine.log_probs_in_pieces(window, PIECE, keep, own_cache=True),
                    engine.log_probs_in_pieces(window, PIECE // 2, keep, own_cache=True),
                )
            own, other = owned[place]
            this = engine.log_probs_in_pieces(window, PIECE, keep, own_cache=False) if way[0] else own
            assert np.isfinite(this).all(), f"{named(way)}: logits are no numbers"
            for at, depth in enumerate(depths):
                part = slice(at * SCORED, (at + 1) * SCORED)
                parts[depth].append(
                    {
                        "kl": float(kl_divergence(own[part], this[part]).mean()),
                        "floor": float(kl_divergence(own[part], other[part]).mean()),
                        "same": float((own[part].argmax(-1) == this[part].argmax(-1)).mean()),
                    }
                )
        found[named(way)] = {
            str(depth): {key: fmean(one[key] for one in each) for key in each[0]} for depth, each in parts.items()
        }
        engine.close()
        write_whole(path, json.dumps(found))
        print(named(way), json.dumps(found[named(way)]), flush=True)


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


def scratch_of(name: str, way: Way) -> int:
    """Bytes beyond weights and cache at the peak of a prompt and its answer, gone again behind them."""
    engine, memory = loaded(name, way), ProcessMemory()
    prompt = probe.prompt(engine.encode, TIMED[-1])
    memory.trim()
    memory.reset_peak()
    with closing(engine.prefill([prompt], suppress=engine.end_tokens)) as generation:
        for _ in range(PER_TURN):
            generation.step()
        held = getattr(generation, "reserved_bytes", None) or generation.cache_bytes
        peak = memory.peak()
    del generation
    if release := getattr(engine, "release", None):
        release()
    memory.trim()
    return peak.total_bytes - memory.read().total_bytes - int(held)


def scratch(name: str, path: Path) -> None:
    """By cache, each in a process of its own."""
    found = found_before(path)
    for way in WAYS[name]:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as alone:
            found[named(way)] = alone.submit(scratch_of, name, way).result()
        write_whole(path, json.dumps(found))
        print(named(way), found[named(way)], flush=True)


def rows(name: str, folder: Path) -> list[str]:
    """The engine's rows of the report."""
    far, scratches = (found_before(folder / f"{name}-{what}.json") for what in ("distance", "scratch"))
    fast = found_before(folder / f"{name}-speed.json")
    made = []
    for way in map(named, WAYS[name]):
        held = fast[str(TIMED[0])][way]["bytes"]
        freed = scratches.get(way)
        cells = [
            name,
            SCHEMES[name],
            way,
            f"{1000 * held / 2**20:.2f}",
            "–" if freed is None else f"{freed / 2**20:.0f}",
        ]
        for depth in map(str, TIMED):
            first, this = fast[depth][named(WAYS[name][0])]["steps"], fast[depth][way]["steps"]
            ratio = ratio_of_medians(first, this)
            cells.append(f"{1 / median(this):.1f} ({ratio.value:.2f}, {ratio.low:.2f} to {ratio.high:.2f})")
        for depth in map(str, DEPTHS):
            at = far.get(way, {}).get(depth)
            if at is None:
                cells.append("–")
                continue
            told = "0 by definition" if way.startswith("its own") else f"{at['kl']:.2g}, {at['same']:.1%}"
            cells.append(f"{told} ({at['floor']:.1g})")
        made.append(f"| {' | '.join(cells)} |")
    return made


def report(folder: Path) -> str:
    """Of the engines that were asked."""
    described = machine.describe("cpu")
    asked = [name for name in WAYS if (folder / f"{name}-speed.json").exists()]
    columns = ["engine", "scheme", "cache", "MiB per 1,000 tokens", "scratch, MiB"]
    columns += [f"decode @ {depth}, tokens/s" for depth in TIMED] + [f"KL @ {depth}" for depth in DEPTHS]
    lines = [
        "# Keys and values in fewer bits",
        "",
        ABOUT.format(cpu=described.name, cpus=described.logical_cpus, device=described.device),
        "",
        f"| {' | '.join(columns)} |",
        f"|{' --- |' * len(columns)}",
    ]
    for name in asked:
        lines += rows(name, folder)
    lines += ["", "–: not measured."] if any("–" in line for line in lines) else []
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
        distance(first, int(more[0]) if more else DEPTHS[-1], path)
    elif what == "speed":
        speed(first, int(more[0]) if more else 5, path)
    else:
        scratch(first, path)


if __name__ == "__main__":
    main()
