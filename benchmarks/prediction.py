# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/prediction.py [MODEL ...]`: predicted weight bytes against the census of the built model.

`python benchmarks/prediction.py --peaks [RESULTS]`: predicted peaks against those of every memory record, nothing run;
as predicted when it was measured and as predicted now. Exits 1 if one is now off by more than 5 % and 150 MiB.

Each model is built at its true size with random weights at 16, 8 and 4 bits, in a process of its own, and counted.
Printed for each: predicted and counted bytes, the difference, seconds to build, and the build's peak above the
process before it. Exits 1 if any difference is above 1 %.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.record import Record

DEFAULT = (
    "gpt2", "pythia-410m", "opt-350m", "bloom-560m", "flan-t5-small", "bert-base-uncased", "smollm2-135m-instruct",
    "qwen3-0.6b",
)  # fmt: skip
"""Eight families."""
SCHEMES = ("bf16", "bnb-int8", "bnb-nf4")
LIMIT = 0.01
TARGET, FLOOR = 0.05, 150 << 20
"""A peak within either is predicted well enough."""


def build(name: str, scheme_name: str) -> int:
    """Build and count one model here; returns 1 if the prediction is off."""
    from bench import machine, predict
    from bench.backends.transformers import BACKEND
    from bench.catalog import read_catalog, select
    from bench.cell import Weights
    from bench.engine import LoadRequest

    (model,) = select(read_catalog(), [name])
    scheme = BACKEND.scheme(scheme_name)
    assert scheme is not None
    kind = machine.device_kind()
    asked = LoadRequest(model=model, weights=Weights.RANDOM, scheme=scheme, device=kind)
    memory = BACKEND.instruments(kind).memory
    BACKEND.prepare(asked)
    before = memory.read().total_bytes
    memory.reset_peak()
    start = time.perf_counter()
    engine = BACKEND.load(asked)
    seconds = time.perf_counter() - start
    peak = memory.peak().total_bytes - before
    stored = BACKEND.adapt(scheme, machine.describe(kind))
    predicted, counted = predict.weights_bytes(model.architecture or {}, stored), engine.census().total_bytes
    off = predicted / counted - 1
    wrong = engine.census().contradiction(stored)
    print(
        f"{name:24} {scheme_name:9} {predicted:15,} {counted:15,} {off:+8.3%} {seconds:7.1f} s "
        f"{peak / 2**30:6.2f} GiB{'  ' + wrong if wrong else ''}",
        flush=True,
    )
    return int(abs(off) > LIMIT or wrong is not None)


def measured_peaks(results: Path | None) -> Iterator[tuple[Record, float, float]]:
    """Every memory record of those results whose peak can be predicted, its peak and that prediction, in bytes.

    Predicted as a run would today: from the catalogue's architecture, nothing loaded.
    """
    from bench import catalog, predict
    from bench.cell import Weights
    from bench.engine import backend
    from bench.figures import figures
    from bench.places import RESULTS
    from bench.record import Ending
    from bench.store import Store
    from bench.suite import Work

    known = {model.name: model for model in catalog.read_catalog()}
    none = Work(prefill_tokens=0, decode_tokens=0)
    for record in sorted(Store(results or RESULTS).records(), key=lambda r: (r.cell.model, r.cell.scheme, r.started)):
        cell = record.cell
        if cell.suite != "memory" or record.outcome.ending is not Ending.OK or cell.model not in known:
            continue
        engine = backend(cell.backend)
        scheme = engine.scheme(cell.scheme)
        assert scheme is not None
        now = predict.predict(
            known[cell.model], engine.adapt(scheme, record.machine), record.machine.kind, cell.settings, none,
            engine.footprint, trained=cell.weights is not Weights.RANDOM,
        ).peak_bytes  # fmt: skip
        if now is not None:
            yield record, figures(record)["peak_bytes"].value, now


def within(predicted: float, measured: float) -> bool:
    """Whether a peak is predicted well enough."""
    return abs(predicted - measured) <= max(TARGET * measured, FLOOR)


def peaks(results: Path | None) -> int:
    """Print every memory record's peak beside the predictions; returns 1 if one is off now."""
    off = count = 0
    print(f"{'model':24} {'scheme':12} {'tokens':>9} {'peak MiB':>9} {'then':>7} {'now':>7} {'off':>7}")
    for record, measured, now in measured_peaks(results):
        cell, then = record.cell, record.predicted.peak_bytes
        wrong = not within(now, measured)
        off, count = off + wrong, count + 1
        tokens = f"{cell.settings['prompt_tokens']}+{cell.settings['decode_tokens']}"
        before = f"{then / measured - 1:+.1%}" if then else "-"
        print(
            f"{cell.model:24} {cell.scheme:12} {tokens:>9} {measured / 2**20:9.0f} {before:>7} "
            f"{now / measured - 1:+7.1%} {(now - measured) / 2**20:+7.0f}{'  OFF' if wrong else ''}"
        )
    print(f"{count - off} of {count} within {TARGET:.0%} or {FLOOR >> 20} MiB")
    return int(off > 0)


def main() -> int:
    """All models and schemes, one process each."""
    if sys.argv[1:2] == ["--peaks"]:
        return peaks(Path(sys.argv[2]) if len(sys.argv) > 2 else None)
    if sys.argv[1:2] == ["--one"]:
        return build(*sys.argv[2:4])
    print(f"{'model':24} {'scheme':9} {'predicted':>15} {'counted':>15} {'off':>8} {'build':>9} {'peak':>10}")
    codes = [
        subprocess.run([sys.executable, __file__, "--one", name, scheme], check=False).returncode
        for name in sys.argv[1:] or DEFAULT
        for scheme in SCHEMES
    ]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main())
