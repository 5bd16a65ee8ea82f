# SPDX-License-Identifier: Apache-2.0
"""How this engine's files are made, and where they are."""

from __future__ import annotations

from bench.engines.contract import LoadRequest
from bench.engines.exported.locate import Exported, Recipe, exported
from bench.engines.openvino.files import WEIGHTS

RECIPE = Recipe(
    engine="openvino",
    title="OpenVINO",
    making=1,
    makers=("openvino", "nncf", "optimum-intel", "torch", "transformers"),
    full="ov-fp32",
    other="compress",
    weights=WEIGHTS,
    share={"ov-fp32": 1.0, "ov-fp16": 0.5, "ov-int8": 0.27, "ov-int4": 0.2},
    files={"ov-bf16": "ov-fp16"},
)


def locate(request: LoadRequest) -> Exported:
    """Make the folder ready and say where it is. Raises Unsupported, UserError."""
    return exported(request, RECIPE)
