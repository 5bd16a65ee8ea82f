# SPDX-License-Identifier: Apache-2.0
"""Is the divergence suite's ruler straight? fp32 against itself, then int8, nf4 and a bad 3-bit rounding, in order.

`python -m benchmarks.divergence [--report FILE] [--tokens 4000]` loads the default model (or `--folder`, a checkpoint
in Hub layout) once at each precision, reads the same windows of the probe text and compares each token's
full-vocabulary distribution with float32's: exact arrays, no store in between. The 3-bit rows are float32 weights
rounded to the nearest of 8 levels, one scale for each output row, which nobody should do to a model of this size.
Exit 1 unless fp32 is exactly 0 from itself and int8 < nf4 < 3-bit, each step larger than the sum of the two 95 %
half-widths.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np

from bench.engines.contract import Engine
from bench.engines.transformers import BACKEND
from bench.judge.stats import Estimate, clustered_mean
from bench.scoring.reference import kl_divergence
from benchmarks import default_model
from suites import probe

WINDOW = 251
"""Tokens of a window: 250 are predicted, 16 windows are 4,000."""
LEVELS = 8


def round_to_nearest(engine: Any) -> None:
    """Put every linear weight but the head's on 8 levels between the extremes of its row, in place."""
    import torch

    for name, module in engine.model.named_modules():
        if isinstance(module, torch.nn.Linear) and "lm_head" not in name:
            weight = module.weight.data
            low, high = weight.min(dim=1, keepdim=True).values, weight.max(dim=1, keepdim=True).values
            step = (high - low).clamp_min(1e-12) / (LEVELS - 1)
            module.weight.data = ((weight - low) / step).round() * step + low


def load(scheme: str, folder: str | None) -> Engine:
    """The model at one scheme of the transformers backend."""
    return default_model.load(BACKEND, BACKEND.scheme(scheme), folder=folder)


def distances(reference: Engine, other: Engine, windows: list[list[int]]) -> list[float]:
    """KL(reference || other) of every predicted token, nats."""
    found: list[float] = []
    for window in windows:
        found += kl_divergence(reference.log_probs(window), other.log_probs(window)).tolist()
    return found


def table(rows: dict[str, Estimate], tokens: int) -> str:
    """The report."""
    lines = [
        f"KL(fp32 || row), nats per token over {tokens:,} tokens of the probe text, default model, CPU.",
        "",
        "| row | mean | ± (95 %, windows) |",
        "|---|---:|---:|",
    ]
    lines += [f"| {name} | {e.value:.6g} | {e.half_width or 0.0:.2g} |" for name, e in rows.items()]
    return "\n".join(lines) + "\n"


def wrong(rows: dict[str, Estimate]) -> list[str]:
    """What is not as it must be."""
    found = [] if rows["fp32 again"].value == 0.0 else ["fp32 differs from itself"]
    order = ["int8", "nf4", "3-bit round to nearest"]
    for less, more in pairwise(order):
        apart = rows[more].value - rows[less].value
        error = (rows[more].half_width or 0.0) + (rows[less].half_width or 0.0)
        if apart <= error:
            found.append(f"{less} and {more} are {apart:.3g} apart, their errors add up to {error:.3g}")
    return found


def main() -> int:
    """Measure, write, judge."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--report", type=Path)
    parser.add_argument("--tokens", type=int, default=4000)
    parser.add_argument("--folder")
    asked = parser.parse_args()
    reference = load("fp32", asked.folder)
    count = max(2, round(asked.tokens / (WINDOW - 1)))
    windows = [tokens for _, tokens in probe.windows(reference.encode, count, WINDOW)]
    recipes: dict[str, tuple[str, Callable[[Any], None] | None]] = {
        "fp32 again": ("fp32", None),
        "bf16": ("bf16", None),
        "int8": ("bnb-int8", None),
        "nf4": ("bnb-nf4", None),
        "3-bit round to nearest": ("fp32", round_to_nearest),
    }
    rows: dict[str, Estimate] = {}
    for name, (scheme, change) in recipes.items():
        other = load(scheme, asked.folder)
        if change:
            change(other)
        found = distances(reference, other, windows)
        other.close()
        assert np.isfinite(found).all()
        rows[name] = clustered_mean(found, WINDOW - 1)
        sys.stdout.write(f"{name}: {mean(found):.6g}\n")
    text = table(rows, len(windows) * (WINDOW - 1))
    faults = wrong(rows)
    text += "\n" + (
        "".join(f"WRONG: {fault}\n" for fault in faults) or "In order, each apart by more than its errors.\n"
    )
    sys.stdout.write("\n" + text)
    if asked.report:
        asked.report.write_text(text, encoding="utf-8")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
