# SPDX-License-Identifier: Apache-2.0
"""`python benchmarks/prediction.py [MODEL ...]`: predicted weight bytes against the census of the built model.

`python benchmarks/prediction.py --peaks [RESULTS]`: predicted peaks against those of every memory record and of every
capacity record's trials, nothing run; as predicted when it was measured and as predicted now. Exits 1 if one is now
off by more than 5 % and 150 MiB.

Each model is built at its true size with random weights at 16, 8 and 4 bits, in a process of its own, and counted.
Printed for each: predicted and counted bytes, the difference, seconds to build, and the build's peak above the
process before it. Exits 1 if any difference is above 1 %.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

DEFAULT = (
    "gpt2", "pythia-410m", "opt-350m", "bloom-560m", "flan-t5-small", "bert-base-uncased", "smollm2-135m-instruct",
    "qwen3-0.6b",
)  # fmt: skip
"""Eight families."""
SCHEMES = ("bf16", "bnb-int8", "bnb-nf4")
LIMIT = 0.01


def build(name: str, scheme_name: str) -> int:
    """Build and count one model here; returns 1 if the prediction is off."""
    from bench.catalog.entries import read_catalog, select
    from bench.engines.contract import LoadRequest
    from bench.engines.transformers import BACKEND
    from bench.instruments import machine
    from bench.plan import predict
    from bench.records.cell import Weights

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


def main() -> int:
    """All models and schemes, one process each."""
    if sys.argv[1:2] == ["--peaks"]:
        script = Path(__file__).with_name("prediction_peaks.py")
        return subprocess.run([sys.executable, str(script), *sys.argv[2:]], check=False).returncode
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
