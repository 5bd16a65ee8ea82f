# SPDX-License-Identifier: Apache-2.0
"""Count the tensors of an ONNX file: bytes by type, linear weights apart from embeddings and head, shared ones once.

The graph is read as it was written, not as a request asked for it, and tensors that lie beside it are counted by what
the graph says of them.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onnx import TensorProto, helper

from bench.engines.onnxruntime import files, graph
from bench.engines.onnxruntime.quantize import ROUNDING
from bench.records.census import Census

NAMES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16", TensorProto.BFLOAT16: "bfloat16"}
WIDENING = frozenset({"Cast", "DequantizeLinear", "Transpose"})
"""Steps between a stored tensor and the matrix that is multiplied."""


@dataclass(frozen=True)
class Weight:
    """A stored matrix with what it is widened by."""

    elements: int
    """Weights it stands for: of packed ones more than its numbers."""
    narrow: bool
    """Whether it is stored in fewer than 16 bits."""
    parts: tuple[str, ...]
    """Tensors, the matrix first."""


class Counted:
    """One graph, with what each of its tensors takes."""

    def __init__(self, found: Any) -> None:
        self.graph, self.made, self.scales = found, graph.producers(found), graph.scales(found)
        self.tensors = {tensor.name: tensor for tensor in found.initializer}
        for node in found.node:
            if node.op_type == "Constant":
                self.tensors[node.output[0]] = next(part.t for part in node.attribute if part.name == "value")

    def bytes_of(self, name: str) -> int:
        """Bytes of a tensor: four-bit numbers lie packed in bytes."""
        tensor = self.tensors[name]
        return int(math.prod(tensor.dims) * helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize)

    def kind(self, name: str) -> str:
        """Its type, in this project's words."""
        told = self.tensors[name].data_type
        return NAMES.get(told) or str(TensorProto.DataType.Name(told)).lower()

    def weight(self, node: Any) -> Weight | None:
        """The stored matrix that a node multiplies with or looks up in, None where it is computed."""
        if node.op_type == "MatMulNBits":
            size = {part.name: part.i for part in node.attribute}
            return Weight(size["K"] * size["N"], narrow=True, parts=tuple(name for name in node.input[1:] if name))
        place = node.input[0] if node.op_type == "Gather" else node.input[1]
        while place not in self.tensors:
            before = self.made.get(place)
            if before is None or before.op_type not in WIDENING:
                return None
            place = before.input[0]
        if len(self.tensors[place].dims) < 2:
            return None
        parts = [place]
        if node.op_type == "MatMulInteger":
            parts += [self.scales[node.output[0]][0], *node.input[3:]]
        return Weight(math.prod(self.tensors[place].dims), self.kind(place) not in NAMES.values(), tuple(parts))


def count(folder: Path, name: str = files.MODEL) -> Census:
    """The census of a file."""
    found = Counted(files.graph(folder, name).graph)
    storage: Counter[str] = Counter()
    for tensor in found.tensors:
        storage[found.kind(tensor)] += found.bytes_of(tensor)
    last = graph.head(found.graph)
    kernels: Counter[str] = Counter()
    linear = quantized = linear_bytes = 0
    left_out, heads, seen, looked_up = list[str](), set[str](), set[str](), set[str]()
    for node in found.graph.node:
        if node.op_type not in {*graph.HEADS, "Gather"}:
            continue
        weight = found.weight(node)
        if weight is None:
            continue
        if node.op_type == "Gather":
            looked_up |= set(weight.parts)
            continue
        if last is not None and node.name == last.name:
            heads = set(weight.parts)
            left_out += [] if weight.narrow else [node.name]
            continue
        kernels[f"{node.op_type} {found.kind(weight.parts[0])}"] += 1
        if weight.parts[0] in seen:
            continue
        seen.add(weight.parts[0])
        linear += weight.elements
        linear_bytes += sum(map(found.bytes_of, weight.parts))
        quantized += weight.elements if weight.narrow else 0
        left_out += [] if weight.narrow else [node.name]
    return Census(
        bytes_by_storage=dict(storage), linear_weights=linear, linear_quantized=quantized,
        linear_bits=8 * linear_bytes / linear if linear else 0.0, kernels=dict(kernels),
        left_out=tuple(left_out) if quantized else (), compute=compute(found.graph),
        embedding_bytes=sum(map(found.bytes_of, looked_up - heads)),
    )  # fmt: skip


def compute(found: Any) -> str:
    """The type that products run in: int8 where the graph rounds activations."""
    for node in found.node:
        level = next((part.i for part in node.attribute if part.name == "accuracy_level"), 0)
        if node.op_type == "MatMulInteger" or (node.op_type == "MatMulNBits" and level == ROUNDING):
            return "int8"
    return "fp32"
