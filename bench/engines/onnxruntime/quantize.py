# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.onnxruntime.quantize SOURCE SCHEME FOLDER`: an exported model with fewer bits a weight.

ONNX Runtime's own tools round weights by their own values, without calibration: matrices that are multiplied, the head
among them. Embedding tables stay at float32: a head that is the table itself gets a matrix of its own.

Beside a quantized graph lies another over the very same stored weights which widens these to float32, so that what the
weights cost is told from what rounding activations costs.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.engines.onnxruntime import files, graph
from bench.engines.weights.files import Refused, guarded

GROUP = 64
"""Weights that share a scale at four bits."""
ROUNDING, EXACT = 4, 1
"""Levels of accuracy of MatMulNBits: activations rounded to 8 bits, or float32."""


def quantize(source: Path, scheme: str, folder: Path) -> None:
    """Write the model of `source` in a scheme into `folder`, with all that lies beside it. Raises Refused."""
    model = onnx.load(source / files.MODEL)
    for path in source.iterdir():
        if path.name not in {files.MODEL, files.WEIGHTS}:
            shutil.copy(path, folder / path.name)
    if scheme == "ort-fp16":
        halve(model)
        files.write(model, folder)
        return
    graph.untie_head(model)
    files.write(eight_bits(model, folder) if scheme == "ort-int8" else four_bits(model), folder)
    widened = files.graph(folder)
    widen(widened)
    onnx.save_model(widened, folder / files.WIDENED)


def halve(model: Any) -> None:
    """Keep every float32 tensor as float16, widened again where it is used. Raises Refused for what is beyond it."""
    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.FLOAT:
            continue
        wide = numpy_helper.to_array(tensor)
        if wide.size and np.abs(wide).max() > np.finfo(np.float16).max:
            raise Refused(f"{tensor.name} holds weights beyond what float16 can")
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(wide.astype(np.float16), f"{name}/float16"))
        casts.append(helper.make_node("Cast", [tensor.name], [name], f"{name}/Cast", to=TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def eight_bits(model: Any, folder: Path) -> Any:
    """Weights in 8 bits with a scale and a zero point a column; activations are rounded as they come, by the pass.

    Unsigned weights: signed ones beside unsigned activations overflow 16 bits on CPUs that have AVX2 alone.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    made = folder / "made.onnx"
    quantize_dynamic(
        model, made, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QUInt8,
        use_external_data_format=True, extra_options={"MatMulConstBOnly": True},
    )  # fmt: skip
    found = onnx.load(made)
    for path in folder.glob("made.onnx*"):
        path.unlink()
    return found


def four_bits(model: Any) -> Any:
    """Weights in 4 bits in groups of 64 with a scale and a zero point; activations are rounded to 8."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        model, bits=4, block_size=GROUP, is_symmetric=False, accuracy_level=ROUNDING, op_types_to_quantize=("MatMul",)
    )
    quantizer.process()
    return quantizer.model.model


def widen(model: Any) -> None:
    """Compute with the stored weights at float32 wherever a graph rounds activations."""
    found, made = model.graph, graph.producers(model.graph)
    scales = graph.scales(found)
    widened: dict[str, Any] = {}
    instead: dict[str, Any] = {}
    for node in found.node:
        if node.op_type == "MatMulNBits":
            for attribute in node.attribute:
                if attribute.name == "accuracy_level":
                    attribute.i = EXACT
        elif node.op_type == "MatMulInteger":
            scale, product = scales[node.output[0]]
            wide = f"{node.input[1]}/float32"
            weights = [node.input[1], scale, node.input[3]]
            widened[wide] = helper.make_node("DequantizeLinear", weights, [wide], f"{wide}/Dequantize", axis=1)
            activations = made[node.input[0]].input[0]  # as they are before they are rounded
            output = product.output[0]
            instead[output] = helper.make_node("MatMul", [activations, wide], [output], product.name)
    nodes = [*widened.values(), *(instead.get(node.output[0], node) for node in found.node)]
    del found.node[:]
    found.node.extend(nodes)
    graph.prune(found)


if __name__ == "__main__":
    sys.exit(guarded(lambda: quantize(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
