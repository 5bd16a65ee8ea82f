# SPDX-License-Identifier: Apache-2.0
"""Predicted memory beside the measured, ours and the peers', on every memory cell that the results hold.

`accelerate estimate-memory` asks the Hub for a configuration; its arithmetic is applied here to the same architecture
offline as in its `create_empty_model` and `gather_data`: the bytes of the empty `AutoModel` in fp32 by its own
`calculate_maximum_sizes`, divided by 2, 4 or 8. `hf-mem` is named and left out: its 0.5.6 (cli.py, run.py) demands
`--model-id`, writes https://huggingface.co into every address it asks and takes no folder, so it cannot run without
the Hub; it adds up what files' headers say is stored (and, with `--experimental`, the cache), not what quantizing
while loading gives. Neither predicts the peak; the errors are of the quantity each states: weights for accelerate,
weights and peak for ours. Only figures of records are printed, nothing is loaded.

    python benchmarks/prediction_peers.py [RESULTS] > results/validation/prediction.md
"""

import sys
from functools import cache
from pathlib import Path
from statistics import median

from bench.catalog import read_catalog
from bench.cell import Precision
from bench.figures import figures
from bench.places import RESULTS
from bench.record import Ending
from bench.store import Store
from bench.units import human_bytes

DIVISOR = {Precision.FP32: 1, Precision.FP16: 2, Precision.INT8: 4, Precision.INT4: 8}
"""What `accelerate estimate-memory` divides float32's bytes by."""
TARGET, FLOOR = 0.05, 150 << 20
"""A peak within either is predicted well enough."""


@cache
def accelerate_bytes(name: str) -> int | None:
    """Float32 bytes of a catalogue entry by accelerate's own count, None where it knows no architecture."""
    import torch
    from accelerate import init_empty_weights
    from accelerate.utils import calculate_maximum_sizes
    from transformers import AutoConfig, AutoModel

    model = next((m for m in read_catalog() if m.name == name), None)
    if model is None or not model.architecture:
        return None
    with init_empty_weights():
        empty = AutoModel.from_config(AutoConfig.for_model(**dict(model.architecture)), dtype=torch.float32)
    return int(calculate_maximum_sizes(empty)[0])


def error(predicted: float | None, measured: float) -> str:
    """Signed share, `-` where nothing was predicted."""
    return "-" if not predicted else f"{predicted / measured - 1:+.1%}"


def main() -> None:
    """Print one row for each cell, and the errors' summary."""
    store = Store(Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS)
    newest = {}
    for record in store.records():
        if record.cell.suite == "memory" and record.outcome.ending is Ending.OK and record.cell.backend != "fake":
            newest[record.cell.device, record.cell.model, record.cell.backend, record.cell.scheme] = record
    print("| device | model | engine | weights | ours | accelerate | peak | ours |")
    print("| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |")
    peaks, within = [], 0
    for (device, model, engine, scheme), record in sorted(newest.items()):
        found, predicted = figures(record), record.predicted
        weights, peak = found["weights_bytes"].value, found["peak_bytes"].value
        theirs = accelerate_bytes(model)
        shares = [
            error(predicted.weights_bytes, weights),
            error(theirs and theirs / DIVISOR[record.cell.precision], weights),
            error(predicted.peak_bytes, peak),
        ]
        if predicted.peak_bytes:
            peaks.append(abs(predicted.peak_bytes / peak - 1))
            within += abs(predicted.peak_bytes - peak) <= max(TARGET * peak, FLOOR)
        print(
            f"| {device} | {model} | {engine} {scheme} | {human_bytes(weights)} | {shares[0]} | {shares[1]} "
            f"| {human_bytes(peak)} | {shares[2]} |"
        )
    print("\nhf-mem 0.5.6: not run, every address it asks is on the Hub; it cannot predict quantizing in load.")
    if peaks:
        print(
            f"Our peak: median error {median(peaks):.1%}, largest {max(peaks):.1%}; {within} of {len(peaks)} within "
            f"{TARGET:.0%} or {human_bytes(FLOOR)}."
        )


if __name__ == "__main__":
    main()
