# SPDX-License-Identifier: Apache-2.0
"""Causal models exported to OpenVINO by optimum-intel, their weights rounded by NNCF, on a CPU."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from bench.catalog.config import Config
from bench.catalog.model import Model, Objective
from bench.engines.abilities import ROWS
from bench.engines.contract import Backend, Engine, Footprint, LoadRequest, Unsupported
from bench.engines.openvino import layout
from bench.instruments import Instruments
from bench.records.cell import Precision, Scheme, Weights

ROUNDS = "where the CPU multiplies 8-bit numbers activations are rounded to 8 bits, 32 by a scale"
SCHEMES = (
    Scheme(name="ov-fp32", precision=Precision.FP32, bits=32, other_bytes=4, method="float32; cache float32"),
    Scheme(
        name="ov-fp16",
        precision=Precision.FP16,
        bits=16,
        method="float16 in the file, held and computed in float32; cache float16",
    ),
    Scheme(
        name="ov-bf16",
        precision=Precision.FP16,
        bits=16,
        method="float16 in the file, held and computed in bfloat16; cache float16",
    ),
    Scheme(
        name="ov-int8",
        precision=Precision.INT8,
        bits=8,
        row_bytes=3,
        other_bytes=1,
        method=f"NNCF, 8 bits with a scale and zero point a row, embeddings and head too; {ROUNDS}; cache float16",
    ),
    Scheme(
        name="ov-int4",
        precision=Precision.INT4,
        bits=4,
        group=64,
        group_else=32,
        group_bytes=2.5,
        other_bytes=1,
        method="NNCF, 4 bits in groups of 64 (32 where 64 does not divide) with a scale and zero point, no layer left "
        f"at 8; embeddings and head 8 bits a row; {ROUNDS}; cache float16",
    ),
)


def refuses(model: Model, weights: Weights) -> str | None:
    """Why this model can never be loaded from that source."""
    if model.objective == Objective.SEQ2SEQ:
        return "an encoder and its decoder are exported as two graphs, and this engine runs one"
    if model.objective != Objective.CAUSAL:
        return f"{model.objective} models are not exported by this backend"
    return "random weights are not built for an export" if weights is Weights.RANDOM else None


def footprint(
    config: Config, scheme: Scheme, prompt: int, decode: int, settings: Mapping[str, object] = MappingProxyType({})
) -> Footprint:
    """Bytes of a cell."""
    return layout.footprint(config, scheme, prompt, decode, settings)


def load(request: LoadRequest) -> Engine:
    """Load with OpenVINO."""
    from bench.engines.openvino.engine import OpenVinoEngine

    return OpenVinoEngine(request)


def prepare(request: LoadRequest) -> None:
    """Find the weights, export and compress them, and import what loading needs."""
    from bench.engines.openvino import locate

    if request.device != "cpu":
        raise Unsupported(f"this backend computes on the CPU, not on {request.device}")
    locate.locate(request)
    importlib.import_module("bench.engines.openvino.engine").core()


def instruments(device: str) -> Instruments:
    """The host's clock and this process's memory."""
    from bench.instruments.clock import HostClock
    from bench.instruments.memory import ProcessMemory

    return Instruments(HostClock(), ProcessMemory())


BACKEND = Backend(
    name="openvino",
    summary="models exported to OpenVINO, rounded by NNCF",
    schemes=SCHEMES,
    defaults={
        "cpu": {
            Precision.FP32: "ov-fp32",
            Precision.FP16: "ov-fp16",
            Precision.INT8: "ov-int8",
            Precision.INT4: "ov-int4",
        }
    },
    requires=("openvino", "nncf", "optimum-intel", "transformers", "lm_eval", "gguf"),
    versions=("torch", "tokenizers", "numpy", "datasets"),
    install='pip install -e ".[openvino]"',
    load=load,
    prepare=prepare,
    instruments=instruments,
    footprint=footprint,
    refuses=refuses,
    refuses_kv=lambda model, kv: None,
    answers=ROWS,
)
