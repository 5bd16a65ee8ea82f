# SPDX-License-Identifier: Apache-2.0
"""Predicted memory beside the measured, ours and the peers', on every memory cell that the results hold.

`accelerate estimate-memory` asks the Hub for a configuration; its arithmetic is applied here to the same architecture
offline as in its `create_empty_model` and `gather_data`: the bytes of the empty `AutoModel` in fp32 by its own
`calculate_maximum_sizes`, divided by 2, 4 or 8. `hf-mem` is named and left out: its 0.5.6 (cli.py, run.py) demands
`--model-id`, writes https://huggingface.co into every address it asks and takes no folder, so it cannot run without
the Hub; it adds up what files' headers say is stored (and, with `--experimental`, the cache), not what quantizing
while loading gives. Neither predicts the peak; the errors are of the quantity each states: weights for accelerate,
weights and peak for ours, the peak as predicted when it was measured and as predicted today; and the peaks of the
capacity suite's trials, of many lengths and batches. Only figures of records are printed, nothing is loaded.

    python -m benchmarks.prediction_peers [RESULTS] [--report FILE]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from statistics import median

from bench.catalog.entries import read_catalog
from bench.judge.figures import figures
from bench.records.cell import Precision
from bench.units import human_bytes
from benchmarks.prediction_peaks import FLOOR, TARGET, Peak, of_results

DIVISOR = {Precision.FP32: 1, Precision.FP16: 2, Precision.INT8: 4, Precision.INT4: 8}
"""What `accelerate estimate-memory` divides float32's bytes by."""
ABOUT = (
    "Every committed memory record's weights and peak above the empty process, with the errors of what was predicted "
    "before loading. Peak: as predicted when it was measured (then) and by the present model (now); target: within "
    f"{TARGET:.0%} or {human_bytes(FLOOR)}. accelerate states weights alone. hf-mem 0.5.6 is not run: every address it "
    "asks is on the Hub, and it reads what files store, not what quantizing while loading gives."
)
TRIALS = (
    "Peaks above the empty process of prompts and batches that really ran while the longest context and the largest "
    "batch were looked for, beside the present model's."
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


def row(found: Peak) -> str:
    """A memory cell's line."""
    record, peak = found.record, found.measured
    cell, weights = record.cell, figures(record)["weights_bytes"].value
    theirs = accelerate_bytes(cell.model)
    cells = [
        cell.model, f"{cell.backend} {cell.scheme}", f"{found.prompt}+{found.decode}",
        human_bytes(weights), error(record.predicted.weights_bytes, weights),
        error(theirs and theirs / DIVISOR[cell.precision], weights),
        human_bytes(peak), error(found.then, peak), error(found.now, peak), missed(found),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def trial(found: Peak) -> str:
    """The line of one trial of a capacity cell."""
    cell = found.record.cell
    cells = [
        cell.model, f"{cell.backend} {cell.scheme}", f"{found.batch} x {found.prompt}+{found.decode}",
        human_bytes(found.measured), error(found.now, found.measured), missed(found),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def missed(found: Peak) -> str:
    """By how much the target was missed, empty if it was not."""
    return f"missed by {human_bytes(abs(found.now - found.measured))}" if found.is_off else ""


def reached(found: Sequence[Peak]) -> str:
    """How many are within the target, and the errors."""
    near = sum(not peak.is_off for peak in found)
    errors = summary((peak.now, peak.measured) for peak in found)
    return f"{near} of {len(found)} within {TARGET:.0%} or {human_bytes(FLOOR)}, {errors}"


def summary(found: Iterable[tuple[float | None, float]]) -> str:
    """Of predictions and what they predicted."""
    errors = [abs(predicted / measured - 1) for predicted, measured in found if predicted]
    return f"median error {median(errors):.1%}, largest {max(errors):.1%}" if errors else "none"


def report(results: Path | None, command: str) -> str:
    """The Markdown page."""
    every = of_results(results)
    found = [peak for peak in every if peak.suite == "memory"]
    trials = [peak for peak in every if peak.suite == "capacity"]
    if not found:
        raise SystemExit("no memory record whose peak can be predicted")
    last = max(peak.record.started[:10] for peak in every)
    devices = ", ".join(sorted({peak.record.cell.device for peak in every}))
    lines = [
        "# Predicted memory", "", f"Written by `{command}` from records of {devices} up to {last}. {ABOUT}", "",
        "| model | engine | tokens | weights | ours | accelerate | peak | then | now | target |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |",
        *map(row, found),
    ]  # fmt: skip
    before = summary((peak.then, peak.measured) for peak in found)
    ours, theirs = [], []
    for record in (peak.record for peak in found):
        weights, count = figures(record)["weights_bytes"].value, accelerate_bytes(record.cell.model)
        ours.append((record.predicted.weights_bytes, weights))
        theirs.append((count and count / DIVISOR[record.cell.precision], weights))
    lines += ["", f"Peak: now {reached(found)}; then {before}.", ""]
    lines += [f"Weights: ours {summary(ours)}; accelerate {summary(theirs)}."]
    if trials:
        lines += [
            "", "## Trials of the capacity suite", "", TRIALS, "",
            "| model | engine | batch x tokens | peak | now | target |", "| --- | --- | --- | ---: | ---: | --- |",
            *map(trial, trials), "", f"Peak: {reached(trials)}.",
        ]  # fmt: skip
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
