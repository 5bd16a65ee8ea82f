# SPDX-License-Identifier: Apache-2.0
"""The noise floor of divergence: one row against itself, its windows read one by one and several at a time.

Where the cell's share of the budget ends, fewer windows are read twice, or none.
"""

from __future__ import annotations

from typing import Any

from bench.engines.contract import DoesNotFit, ScoresTogether
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import SuiteRun, measured

BATCH = 4
WINDOWS = 12
"""The most windows that are read twice; their mean is precise enough for a noise floor."""
RESERVE = 2 * BATCH
"""Windows whose time the first batch takes about: a budget leaves that much where a floor is measured."""


def measure(run: SuiteRun, windows: list[list[int]], labels: dict[str, Any]) -> list[Measurement]:
    """KL(one by one || together), mean over each window's tokens; empty, with a warning, if memory is too small."""
    from bench.scoring.reference import kl_divergence

    engine, found, clock, lasted = run.engine, list[float](), run.instruments.clock, 0.0
    if not isinstance(engine, ScoresTogether):
        return []  # an engine that reads one sequence at a time has no other batch size
    again = windows[: min(WINDOWS, len(windows) // BATCH * BATCH) or len(windows)]
    try:
        for start in range(0, len(again), BATCH):
            if run.spent(lasted):
                run.cut(f"noise floor: {start} of {len(again)} windows")
                break
            run.phase("noise floor", start, len(again))
            began = clock.now()
            batch = again[start : start + BATCH]
            for window, together in zip(batch, engine.log_probs_together(batch), strict=True):
                found.append(float(kl_divergence(engine.log_probs(window), together).mean()))
            lasted = clock.now() - began
    except DoesNotFit as error:
        run.caveats.append(
            Caveat(
                kind="no_noise_floor",
                text=f"{BATCH} windows at a time do not fit ({error.phase}): the noise floor is not known",
                advice="take distances near 1e-5 nats for noise",
            )
        )
        return []
    if not found:
        return []
    method = "KL(one by one || together), full vocabulary, float32"
    return [measured("floor_nat", Unit.NAT, found, digits=4, counter=method, labels={**labels, "batch": BATCH})]
