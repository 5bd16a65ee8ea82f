# SPDX-License-Identifier: Apache-2.0
"""What keeping keys and values in fewer bits costs: distance by depth, bytes and time, read through the cache.

Windows of the project's probe text, as long as the greatest depth that the model's context and the text allow, are read
in pieces of `piece_tokens`, the same pieces in every engine, each behind the cache of those before it. In one pass some
engines attend with keys that were never quantized, and then a cache of any precision costs nothing. Of each of `depths`
the last `scored_tokens` positions are compared: KL(own cache || this cache) for each token (`kv_kld_nat`), where the
model's own cache is 16-bit (llama.cpp) or of the compute type (transformers) and everything else is equal, attention
included; and the same most probable token (`kv_same_top1`, per window). Beside every depth stands a floor: the model
with its own cache read in pieces of half the size (`kv_floor_nat`). Short prompts hide what a cache costs, so depths
are figures of their own, never averaged.

A cache of fewer bits that costs no more than float32 rounds at any depth (NOTHING_NAT, the mean of all tokens) was not
read: the cell fails. So does one whose logits are not numbers.

At each depth one prompt is read once more and `decode_tokens` tokens are generated behind it: the gaps (`kv_step_s`),
and the bytes of the cache at its end (`kv_cache_bytes`; divided by the label `tokens` they give a token's).

Without `--kv` the suite measures the model's own cache: floors, bytes and times alone. The first window is measured
whatever the budget.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from itertools import pairwise
from statistics import fmean
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from bench.engines.abilities import ReadsInPieces
from bench.engines.contract import Unsupported
from bench.records.cell import KV
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import probe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VERSION = 1
COMMON: dict[str, JsonValue] = {"piece_tokens": 64, "scored_tokens": 64, "text_sha256": probe.text_sha256()}
PROFILES: dict[str, dict[str, JsonValue]] = {
    "smoke": {"depths": [256], "windows": 1, "decode_tokens": 8, **COMMON},
    "standard": {"depths": [512, 2048], "windows": 3, "decode_tokens": 16, **COMMON},
    "full": {"depths": [512, 2048, 8192], "windows": 6, "decode_tokens": 32, **COMMON},
}


NOTHING_NAT = 5e-8
"""Of 64 tokens read in other pieces the mean moves by 2e-8 nats (the default model, float32); 8 bits of keys and values
cost tiny models 1e-7, the default model 3e-5."""


class NotRead(Exception):
    """A cache of fewer bits changed nothing, so nothing was read from it."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every window three times (its own cache twice, this one once), and a prompt and its answer at every depth."""
    depths, windows = settings["depths"], settings["windows"]
    again = 3 if KV in settings else 2
    scored = windows * again * len(depths) * settings["scored_tokens"]
    return Work(
        prefill_tokens=again * windows * max(depths) + sum(depths),
        decode_tokens=len(depths) * settings["decode_tokens"], compared_tokens=scored, rounds=len(depths),
    )  # fmt: skip


def least(settings: Mapping[str, Any]) -> Work:
    """One window, and a prompt at every depth."""
    return work({**settings, "windows": 1})


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The windows that have a floor, and the depths that have a gap."""
    floors = [len(m.values) for m in measurements if m.name == "kv_floor_nat"]
    depths = [int(str(m.labels["depth"])) for m in measurements if m.name == "kv_step_s"]
    if not floors or not depths:
        return Work(prefill_tokens=0, decode_tokens=0)
    windows = max(floors) // settings["scored_tokens"]
    return work({**settings, "windows": windows, "depths": depths})


def measure(run: SuiteRun) -> list[Measurement]:
    """Distances and floors by depth, then bytes and gaps."""
    engine = run.engine
    if not isinstance(engine, ReadsInPieces):
        raise Unsupported(f"{run.cell.backend} reads no text in pieces behind its cache")
    depths, windows = _depths(run)
    distances = [_Distances(depth) for depth in depths]
    lasted = 0.0
    for index, (register, window) in enumerate(windows):
        if index and run.spent(lasted):
            run.cut(f"kv: {index} of {len(windows)} windows")
            break
        run.phase("window", index, len(windows))
        start = run.instruments.clock.now()
        for distance, part in zip(distances, _read(run, engine, window, depths), strict=True):
            distance.add(register, *part)
        lasted = run.instruments.clock.now() - start
    found = [one for distance in distances for one in distance.measurements(run, len(windows))]
    lost = [abs(fmean(m.values)) for m in found if m.name == "kv_kld_nat"]
    if KV in run.settings and max(lost, default=0.0) < NOTHING_NAT:
        raise NotRead(f"{run.settings[KV]} keys and values change no logit at any depth: the cache was not read")
    for depth in depths:
        run.phase("decode at depth", depths.index(depth), len(depths))
        found += _decoded(run, windows[0][1][:depth], depth)
    return found


def _depths(run: SuiteRun) -> tuple[list[int], list[tuple[str, list[int]]]]:
    """The depths that context and text hold, and the windows of the greatest; what is left out is a caveat."""
    asked, room = sorted(run.settings["depths"]), run.engine.context_length - run.settings["decode_tokens"]
    depths = [depth for depth in asked if depth <= room]
    windows: list[tuple[str, list[int]]] = []
    while depths and not windows:
        windows = probe.long_windows(run.engine.encode, run.settings["windows"], depths[-1])
        if not windows:
            depths.pop()
    for depth in asked[len(depths) :]:
        why = f"the model has {run.engine.context_length} positions" if depth > room else "the probe text is shorter"
        run.caveats.append(Caveat(kind="not_measured", text=f"kv at depth {depth}: {why}"))
    if not depths:
        raise Unsupported(f"no depth of {', '.join(map(str, asked))} fits {run.engine.context_length} positions")
    return depths, windows


Part = tuple["NDArray[np.float32]", "NDArray[np.float32]", "NDArray[np.float32] | None", list[int]]
"""Log-probabilities (scored, vocabulary) with the own cache, other pieces, this cache; the tokens, one before."""


def _read(run: SuiteRun, engine: ReadsInPieces, window: list[int], depths: Sequence[int]) -> Iterator[Part]:
    """One window in its ways, cut into depths."""
    import numpy as np

    count, piece = run.settings["scored_tokens"], run.settings["piece_tokens"]
    keep = [position for depth in depths for position in range(depth - count - 1, depth - 1)]
    own = engine.log_probs_in_pieces(window, piece, keep, own_cache=True)
    other = engine.log_probs_in_pieces(window, max(1, piece // 2), keep, own_cache=True)
    this = engine.log_probs_in_pieces(window, piece, keep, own_cache=False) if KV in run.settings else None
    for name, logits in (("its own cache", own), (str(run.settings.get(KV)), this)):
        if logits is not None:
            run.require_finite(bool(np.isfinite(logits).all()), f"a window of {len(window)} tokens read with {name}")
    for at, depth in enumerate(depths):
        part = slice(at * count, (at + 1) * count)
        true = window[depth - count - 1 : depth]
        yield own[part], other[part], None if this is None else this[part], true


class _Distances:
    """What was found at one depth, window after window."""

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.registers: list[str] = []
        self.floor: list[float] = []
        self.kld: list[float] = []
        self.change: list[float] = []
        self.top1: list[float] = []

    def add(
        self, register: str, own: NDArray[np.float32], other: NDArray[np.float32], this: NDArray[np.float32] | None,
        true: Sequence[int],
    ) -> None:  # fmt: skip
        """Compare the scored positions of one window."""
        from bench.scoring.reference import kl_divergence, negative_log_likelihood

        self.registers.append(register)
        self.floor += kl_divergence(own, other).tolist()
        if this is None:
            return
        self.kld += kl_divergence(own, this).tolist()
        self.change += (negative_log_likelihood(this, true) - negative_log_likelihood(own, true)).tolist()
        self.top1.append(float((own.argmax(-1) == this.argmax(-1)).mean()))

    def measurements(self, run: SuiteRun, asked: int) -> list[Measurement]:
        """All of it, as stored; no distance where the model's own cache is all there is."""
        labels: dict[str, Any] = {
            "depth": self.depth, "registers": self.registers, "piece_tokens": run.settings["piece_tokens"],
            "window_tokens": run.settings["scored_tokens"],
        }  # fmt: skip
        labels |= {"windows_asked": asked} if len(self.registers) < asked else {}
        ways = "full vocabulary, float32, in pieces"
        found = [
            measured(
                "kv_floor_nat", Unit.NAT, self.floor, digits=4, counter=f"KL(own || half pieces), {ways}", labels=labels
            )
        ]
        if self.kld:
            own = f"KL(own cache || this cache), {ways}"
            found += [
                measured("kv_kld_nat", Unit.NAT, self.kld, digits=4, counter=own, labels=labels),
                measured(
                    "kv_nll_change_nat", Unit.NAT, self.change, digits=4, counter="nll, this - own", labels=labels
                ),
                measured("kv_same_top1", Unit.FRACTION, self.top1, counter="arg max", labels=labels),
            ]
        return found


def _decoded(run: SuiteRun, prompt: list[int], depth: int) -> list[Measurement]:
    """The gaps of an answer behind a prompt of that depth, and the cache's bytes at its end."""
    clock, tokens = run.instruments.clock, run.settings["decode_tokens"]
    with closing(run.engine.prefill([prompt], suppress=run.engine.end_tokens)) as generation:
        generation.step()
        stamps = [clock.now()]
        for _ in range(tokens):
            generation.step()
            stamps.append(clock.now())
        run.require_finite(generation.finite, f"token {tokens} behind {depth} others")
        held, positions = generation.cache_bytes, generation.cache_tokens
    gaps = [later - earlier for earlier, later in pairwise(stamps)]
    labels = {"depth": depth}
    return [
        measured("kv_step_s", Unit.SECOND, gaps, digits=6, counter=clock.name, labels=labels),
        measured("kv_cache_bytes", Unit.BYTE, held, counter="cache tensors", labels={**labels, "tokens": positions}),
    ]
