# SPDX-License-Identifier: Apache-2.0
"""Causal models exported to ONNX by optimum-onnx, their weights rounded by ONNX Runtime's own tools, on a CPU."""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from types import MappingProxyType

from bench.catalog.config import Config
from bench.catalog.model import Model, Objective
from bench.engines.contract import Backend, Engine, Footprint, LoadRequest, Unsupported
from bench.engines.onnxruntime import layout
from bench.instruments import Instruments
from bench.records.cell import Precision, Scheme, Weights

os.environ["ORT_DISABLE_TELEMETRY"] = "1"
"""Read when the library is imported, here or in a child: from 1.29 on it tells its maker of every model it loads."""
FOUR = (
    "MatMulNBits, 4 bits in groups of 64 with a float32 scale and a zero point, the head too, one that was the table "
    "itself by a matrix of its own; embeddings float32"
)
BETWEEN = "ONNX Runtime's kernels for a CPU compute it at float32, as level 1: ort-int4-acc1"
SCHEMES = (
    Scheme(name="ort-fp32", precision=Precision.FP32, bits=32, other_bytes=4, method="float32; cache float32"),
    Scheme(
        name="ort-fp16",
        precision=Precision.FP16,
        bits=16,
        method="float16 in the file, held and computed in float32; cache float32",
    ),
    Scheme(
        name="ort-int8",
        precision=Precision.INT8,
        bits=8,
        row_bytes=5,
        other_bytes=4,
        whole_pass=True,  # one scale for everything in a pass: DynamicQuantizeLinear
        method="quantize_dynamic, unsigned 8 bits with a scale and zero point a row, the head too, one that was the "
        "table itself by a matrix of its own; embeddings float32; activations rounded to 8 bits with one scale for the "
        "whole pass; cache float32",
    ),
    Scheme(
        name="ort-int4-acc4",
        precision=Precision.INT4,
        bits=4,
        group=64,
        group_bytes=4.5,
        other_bytes=4,
        method=f"{FOUR}; accuracy_level 4: activations rounded to 8 bits, 64 by a scale; cache float32",
    ),
    Scheme(
        name="ort-int4-acc1",
        precision=Precision.INT4,
        bits=4,
        group=64,
        group_bytes=4.5,
        other_bytes=4,
        method=f"{FOUR}; accuracy_level 1: activations float32; cache float32",
    ),
)


def refuses(model: Model, weights: Weights) -> str | None:
    """Why this model can never be loaded from that source."""
    if model.objective is not Objective.CAUSAL:
        return f"{model.objective} models are not exported by this backend"
    return "random weights are not built for an export" if weights is Weights.RANDOM else None


def footprint(
    config: Config, scheme: Scheme, prompt: int, decode: int, settings: Mapping[str, object] = MappingProxyType({})
) -> Footprint:
    """Bytes of a cell."""
    return layout.footprint(config, scheme, prompt, decode, settings)


def load(request: LoadRequest) -> Engine:
    """Load with ONNX Runtime."""
    from bench.engines.onnxruntime.engine import OnnxRuntimeEngine

    return OnnxRuntimeEngine(request)


def prepare(request: LoadRequest) -> None:
    """Find the weights, export and quantize them, and import what loading needs."""
    if request.device != "cpu":
        raise Unsupported(f"this backend computes on the CPU, not on {request.device}")
    from bench.engines.onnxruntime import locate

    locate.locate(request)
    importlib.import_module("bench.engines.onnxruntime.engine")


def instruments(device: str) -> Instruments:
    """The host's clock and this process's memory."""
    from bench.instruments.clock import HostClock
    from bench.instruments.memory import ProcessMemory

    return Instruments(HostClock(), ProcessMemory())


BACKEND = Backend(
    name="onnxruntime",
    summary="models exported to ONNX, rounded by ONNX Runtime's tools",
    schemes=SCHEMES,
    defaults={
        "cpu": {
            Precision.FP32: "ort-fp32",
            Precision.FP16: "ort-fp16",
            Precision.INT8: "ort-int8",
            Precision.INT4: "ort-int4-acc4",
        }
    },
    requires=("onnxruntime", "onnx", "onnx-ir", "optimum-onnx", "transformers", "lm_eval", "gguf"),
    versions=("optimum", "torch", "tokenizers", "numpy", "datasets"),
    install='pip install -e ".[onnxruntime]"',
    lacks={"ort-int4-acc2": BETWEEN, "ort-int4-acc3": BETWEEN},
    load=load,
    prepare=prepare,
    instruments=instruments,
    footprint=footprint,
    refuses=refuses,
)
