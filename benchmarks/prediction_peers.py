# SPDX-License-Identifier: Apache-2.0
"""Predicted memory beside the measured, ours and the peers', on every memory cell that the results hold.

`accelerate estimate-memory` asks the Hub for a configuration; its arithmetic is applied here to the same architecture
offline as in its `create_empty_model` and `gather_data`: the bytes of the empty `AutoModel` in fp32 by its own
`calculate_maximum_sizes`, divided by 2, 4 or 8. `hf-mem` is named and left out: its 0.5.6 (cli.py, run.py) demands
`--model-id`, writes https://huggingface.co into every address it asks and takes no folder, so it cannot run without
the Hub; it adds up what files' headers say is stored (and, with `--experimental`, the cache), not what quantizing
while loading gives. Neither predicts the peak; the errors are of the quantity each states: weights for accelerate,
weights and peak for ours, the peak as predicted when it was measured and as predicted today. Only figures of records
are printed, nothing is loaded.

    python -m benchmarks.prediction_peers [RESULTS] [--report FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from statistics import median

from bench.catalog import read_catalog
from bench.cell import Precision
from bench.figures import figures
from bench.record import Record
from bench.units import human_bytes
from benchmarks.prediction import FLOOR, TARGET, measured_peaks, within

DIVISOR = {Precision.FP32: 1, Precision.FP16: 2, Precision.INT8: 4, Precision.INT4: 8}
"""What `accelerate estimate-memory` divides float32's bytes by."""
ABOUT = (
    "Every committed memory record's weights and peak above the empty process, with the errors of what was predicted "
    "before loading. Peak: as predicted when it was measured (then) and by the present model (now); target: within "
    f"{TARGET:.0%} or {human_bytes(FLOOR)}. accelerate states weights alone. hf-mem 0.5.6 is not run: every address it "
    "asks is on the Hub, and it reads what files store, not what quantizing while loading gives."
)


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


def row(record: Record, peak: float, now: float) -> str:
    """A cell's line."""
    cell, weights = record.cell, figures(record)["weights_bytes"].value
    theirs = accelerate_bytes(cell.model)
    work = f"{cell.settings['prompt_tokens']}+{cell.settings['decode_tokens']}"
    cells = [
        cell.model, f"{cell.backend} {cell.scheme}", work,
        human_bytes(weights), error(record.predicted.weights_bytes, weights),
        error(theirs and theirs / DIVISOR[cell.precision], weights),
        human_bytes(peak), error(record.predicted.peak_bytes, peak), error(now, peak),
        "" if within(now, peak) else f"missed by {human_bytes(abs(now - peak))}",
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def summary(found: Iterable[tuple[float | None, float]]) -> str:
    """Of predictions and what they predicted."""
    errors = [abs(predicted / measured - 1) for predicted, measured in found if predicted]
    return f"median error {median(errors):.1%}, largest {max(errors):.1%}" if errors else "none"


def report(results: Path | None, command: str) -> str:
    """The Markdown page."""
    found = list(measured_peaks(results))
    if not found:
        raise SystemExit("no memory record whose peak can be predicted")
    days = sorted({record.started[:10] for record, _, _ in found})
    devices = ", ".join(sorted({record.cell.device for record, _, _ in found}))
    lines = [
        "# Predicted memory", "", f"Written by `{command}` from records of {devices} up to {days[-1]}. {ABOUT}", "",
        "| model | engine | tokens | weights | ours | accelerate | peak | then | now | target |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *(row(*cell) for cell in found),
    ]  # fmt: skip
    weights = [(record, figures(record)["weights_bytes"].value) for record, _, _ in found]
    theirs = [(accelerate_bytes(r.cell.model), DIVISOR[r.cell.precision], measured) for r, measured in weights]
    near = sum(within(now, peak) for _, peak, now in found)
    today = summary((now, peak) for _, peak, now in found)
    before = summary((record.predicted.peak_bytes, peak) for record, peak, _ in found)
    ours = summary((record.predicted.weights_bytes, measured) for record, measured in weights)
    accelerate = summary((count and count / by, measured) for count, by, measured in theirs)
    reached = f"{near} of {len(found)} within {TARGET:.0%} or {human_bytes(FLOOR)}"
    lines += [
        "",
        f"Peak: now {reached}, {today}; then {before}.",
        "",
        f"Weights: ours {ours}; accelerate {accelerate}.",
    ]
    return "\n".join([*lines, ""])


def main(arguments: list[str] | None = None) -> None:
    """Print the report, and write it where asked."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("results", nargs="?", type=Path)
    parser.add_argument("--report", type=Path, help="Markdown file to write too")
    asked = parser.parse_args(arguments)
    page = report(asked.results, "python -m benchmarks.prediction_peers --report FILE")
    if asked.report:
        asked.report.parent.mkdir(parents=True, exist_ok=True)
        asked.report.write_text(page, encoding="utf-8")
    print(page)


if __name__ == "__main__":
    sys.exit(main())
