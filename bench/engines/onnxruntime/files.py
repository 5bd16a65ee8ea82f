# SPDX-License-Identifier: Apache-2.0
"""Names in the folder of an exported model, how it is written, and whether it was written whole."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import onnx

MODEL, WEIGHTS = "model.onnx", "model.onnx.data"
WIDENED = "model-float32.onnx"
"""The graph that widens the very same weights to float32, where they are quantized."""
SMALLEST = 1024
"""Bytes of a tensor that lies beside the graph; smaller ones stand in it."""


def write(model: Any, folder: Path) -> None:
    """Write a graph with its tensors beside it. Raises OSError."""
    (folder / WEIGHTS).unlink(missing_ok=True)  # an older one would be written behind
    onnx.save_model(
        model, folder / MODEL, save_as_external_data=True, all_tensors_to_one_file=True, location=WEIGHTS,
        size_threshold=SMALLEST, convert_attribute=False,
    )  # fmt: skip
    check_written(folder)


def graph(folder: Path, name: str = MODEL) -> Any:
    """The graph alone: tensors that lie beside it are named, not read."""
    return onnx.load(folder / name, load_external_data=False)


def check_written(folder: Path) -> None:
    """Raise OSError where the weights are shorter than the graph says: a full disk may be met without a word."""
    end = 0
    for tensor in graph(folder).graph.initializer:
        place = {entry.key: entry.value for entry in tensor.external_data}
        if place:
            end = max(end, int(place.get("offset", 0)) + int(place["length"]))
    if end and (folder / WEIGHTS).stat().st_size < end:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
