# SPDX-License-Identifier: Apache-2.0
"""The noise floor of divergence: one row against itself, the same tokens read in other ways.

Every row measures its own. Its first windows (at most `BATCH`) are read again as one batch: `floor_nat` is
KL(one by one || together), the mean over each window's tokens, `floor_nll_change_nat` by how much the negative
log-likelihood of each token of the text changed. The first `DECODED` tokens of its first `DECODED_WINDOWS` windows are
read again one by one behind the cache, as generating reads them, against one pass over the same tokens:
`floor_decode_nat` and `floor_decode_nll_change_nat` in the same way. A masked model does not generate and has no
second pair; an engine that reads one sequence at a time has no first.

The third figure is what the weights cost without this device's arithmetic: a quantized row whose engine can take its
own weights back to float32, and multiply them there, measures KL(reference || that) over its first windows
(`weights_kld_nat`, per token). Where most of the row's KL over the same windows is not in it, a warning says so:
llama.cpp on a CPU rounds activations to 8 bits whatever the weights are.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from bench.engines.abilities import DequantizesItself, ScoresStepwise, ScoresTogether
from bench.engines.contract import DoesNotFit
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.scoring.reference import Reader

BATCH = 4
"""Windows that are read together."""
DECODED, DECODED_WINDOWS = 33, 2
"""Tokens and windows that are read one by one: 64 predictions, a few seconds where a step is slow."""
RESERVE = BATCH + 2
"""Windows whose time both ways take about: a budget leaves that much before it reads further windows."""
MOSTLY = 0.5
"""A larger share than this of a KL that is not in the weights is the device's arithmetic more than the format's."""


class NoiseFloor:
    """What is kept of the first windows while all are scored, and measured of them afterwards."""

    def __init__(self, run: SuiteRun, labels: dict[str, Any]) -> None:
        self.run, self.labels = run, labels
        self.windows: list[list[int]] = []
        self.once: list[NDArray[np.float32]] = []
        """Their distributions, each read by itself."""
        self.last_s, self.window_s = run.instruments.clock.now(), 0.0
        """When the last window was kept, and how long one takes."""

    def add(self, window: list[int], log_probs: NDArray[np.float32]) -> None:
        """Keep one of the first windows as it was read by itself."""
        if len(self.windows) < BATCH:
            now = self.run.instruments.clock.now()
            self.last_s, self.window_s = now, now - self.last_s
            self.windows.append(window)
            self.once.append(log_probs)

    def measure(self) -> list[Measurement]:
        """Both ways of reading the same tokens again; a way that does not fit is left out with a warning.

        So is what the cell's share of the budget does not hold.
        """
        found: list[Measurement] = []
        for way in (self._together, self._stepwise):
            if self.run.spent(self.window_s * RESERVE / 2):
                self.run.cut("noise floor: not measured" if not found else "noise floor: one of two ways")
                break
            try:
                found += way()
            except DoesNotFit as error:
                text = f"{BATCH} windows at a time" if way == self._together else "tokens one by one"
                self.run.caveats.append(
                    Caveat(
                        kind="no_noise_floor",
                        text=f"{text} do not fit ({error.phase}): the noise floor is not known",
                        advice="take distances near 1e-5 nats for noise, near 1e-2 at LLM.int8()",
                    )
                )
        self.once.clear()
        return found

    def _together(self) -> list[Measurement]:
        engine = self.run.engine
        if not isinstance(engine, ScoresTogether) or len(self.windows) < 2:
            return []
        self.run.phase("noise floor", 0, 2)
        again = engine.log_probs_together(self.windows)
        labels = {**self.labels, "batch": len(self.windows)}
        return self._pair("floor", "together", self.windows, list(zip(self.once, again, strict=True)), labels)

    def _stepwise(self) -> list[Measurement]:
        engine = self.run.engine
        if not isinstance(engine, ScoresStepwise):
            return []
        parts = [window[:DECODED] for window in self.windows[:DECODED_WINDOWS]]
        pairs = []
        for index, part in enumerate(parts):
            self.run.phase("noise floor, token by token", index, len(parts))
            pairs.append((engine.log_probs(part), engine.log_probs_stepwise(part)))
        labels = {**self.labels, "window_tokens": len(pairs[0][0])}
        return self._pair("floor_decode", "token by token", parts, pairs, labels)

    def _pair(
        self,
        name: str,
        way: str,
        windows: Sequence[Sequence[int]],
        pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]],
        labels: dict[str, Any],
    ) -> list[Measurement]:
        """KL of each window and the change of each token of the text."""
        from bench.scoring.reference import kl_divergence, negative_log_likelihood

        distances, changes = [], []
        for window, (once, again) in zip(windows, pairs, strict=True):
            text = window[-len(once) - 1 :]
            distances.append(float(kl_divergence(once, again).mean()))
            changes += (negative_log_likelihood(again, text) - negative_log_likelihood(once, text)).tolist()
        of_these = {**labels, "registers": labels["registers"][: len(windows)]}
        kl, change = f"KL(one pass || {way}), full vocabulary, float32", f"nll {way} - nll in one pass"
        return [
            measured(f"{name}_nat", Unit.NAT, distances, digits=4, counter=kl, labels=of_these),
            measured(f"{name}_nll_change_nat", Unit.NAT, changes, digits=4, counter=change, labels=of_these),
        ]


def of_weights(
    run: SuiteRun, windows: Sequence[list[int]], reader: Reader, kld: Sequence[float], labels: dict[str, Any]
) -> list[Measurement]:
    """KL of this row's own weights in float32 from the reference, beside `kld` as it runs (per token, same order)."""
    if not isinstance(run.engine, DequantizesItself) or run.spent():
        return []
    few, found = windows[:BATCH], []
    try:
        with run.engine.dequantized() as exact:
            if exact is None:
                return []
            for index, window in enumerate(few):
                run.phase("own weights in float32", index, len(few))
                found += reader.kl_divergence(index, exact.log_probs(window)).tolist()
    except DoesNotFit:  # it was expected to fit; the row's own figures stand without it
        return []
    _warn(run, mean(found), mean(kld[: len(found)]), len(few))
    method = "KL(reference || this row's own weights in float32), full vocabulary, float32"
    labels = {**labels, "registers": labels["registers"][: len(few)]}
    return [measured("weights_kld_nat", Unit.NAT, found, digits=4, counter=method, labels=labels)]


def _warn(run: SuiteRun, weights: float, whole: float, windows: int) -> None:
    """Say that a distance is the device's arithmetic more than the format's."""
    share = 1 - weights / whole if whole > 0 else 0.0
    if share > MOSTLY:
        run.caveats.append(
            Caveat(
                kind="device_arithmetic",
                text=f"{share:.0%} of its KL is this device's arithmetic, not its weights: over the first {windows} "
                f"windows {whole:.2g} nats as it runs, {weights:.2g} with the same weights in float32",
                advice="another device or kernel gives the same file another KL",
            )
        )
