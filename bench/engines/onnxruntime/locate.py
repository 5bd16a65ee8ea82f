# SPDX-License-Identifier: Apache-2.0
"""How this engine's files are made, and where they are."""

from __future__ import annotations

from bench.engines.contract import LoadRequest
from bench.engines.exported.locate import Exported, Recipe, exported
from bench.engines.onnxruntime.files import WEIGHTS

RECIPE = Recipe(
    engine="onnxruntime",
    title="ONNX Runtime",
    making=1,
    makers=("onnx", "onnx-ir", "onnxruntime", "optimum", "optimum-onnx", "torch", "transformers"),
    full="ort-fp32",
    other="quantize",
    weights=WEIGHTS,
    share={"ort-fp32": 1.0, "ort-fp16": 0.5, "ort-int8": 0.8, "ort-int4-acc4": 0.7},
    files={"ort-int4-acc1": "ort-int4-acc4"},
)


def locate(request: LoadRequest) -> Exported:
    """Make the folder ready and say where it is. Raises Unsupported, UserError."""
    return exported(request, RECIPE)
