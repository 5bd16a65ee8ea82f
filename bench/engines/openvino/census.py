# SPDX-License-Identifier: Apache-2.0
"""Count the constants of an IR: bytes by type, linear weights apart from embeddings and head, shared ones once.

The graph is read as it was written, not as a request asked for it. A weight of fewer bits is a constant behind the
steps that widen it; its scales and zero points are the smaller constants beside it.
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from bench.engines.openvino.files import MODEL
from bench.records.census import Census

WIDENING = frozenset({"Convert", "Subtract", "Multiply", "Reshape", "Transpose", "FakeConvert"})
"""Steps between a stored constant and the matrix that is multiplied."""
BETWEEN = WIDENING | {"Divide", "Tanh", "Add", "Result"}
"""What may stand between the head and the logits."""
NARROW = {"i8": 8, "u8": 8, "i4": 4, "u4": 4, "nf4": 4, "f8e4m3": 8, "f8e5m2": 8, "f4e2m1": 4}
"""Bits of the types that count as quantized."""
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


@dataclass
class Layer:
    """One node of the graph."""

    name: str
    kind: str
    inputs: dict[int, str] = field(default_factory=dict)
    """Layer that each input comes from, by port in the order of its ports."""
    stored: tuple[int, int] | None = None
    """Offset and bytes in the weight file, of a constant."""
    element: str = ""
    elements: int = 0


@dataclass(frozen=True)
class Weight:
    """A stored matrix with what it is widened by."""

    parts: tuple[Layer, ...]
    """The matrix first."""

    @property
    def bytes(self) -> int:
        """Of the matrix, its scales and its zero points."""
        return sum(part.stored[1] for part in self.parts if part.stored)

    @property
    def element(self) -> str:
        """Type of the matrix."""
        return self.parts[0].element


def read(folder: Path) -> dict[str, Layer]:
    """Layers of an IR by id."""
    root = ET.parse(folder / MODEL).getroot()  # noqa: S314 - written by this project's own process
    found: dict[str, Layer] = {}
    ports: dict[tuple[str, str], int] = {}
    for node in root.iterfind("./layers/layer"):
        layer = Layer(node.attrib["name"], node.attrib["type"])
        for index, port in enumerate(node.iterfind("./input/port")):
            ports[node.attrib["id"], port.attrib["id"]] = index
        data = node.find("data")
        if layer.kind == "Const" and data is not None:
            layer.stored = int(data.attrib["offset"]), int(data.attrib["size"])
            layer.element = data.attrib["element_type"]
            shape = [int(size) for size in data.attrib["shape"].split(",") if size.strip()]
            layer.elements = 1
            for size in shape:
                layer.elements *= size
        found[node.attrib["id"]] = layer
    for edge in root.iterfind("./edges/edge"):
        at = edge.attrib
        found[at["to-layer"]].inputs[ports[at["to-layer"], at["to-port"]]] = at["from-layer"]
    return found


def weight(layers: dict[str, Layer], source: str | None) -> Weight | None:
    """The stored matrix behind an input, None where it is computed."""
    parts: list[Layer] = []
    waiting = [source] if source else []
    while waiting:
        layer = layers[waiting.pop()]
        if layer.stored:
            parts.append(layer)
        elif layer.kind in WIDENING:
            waiting += layer.inputs.values()
        else:
            return None
    parts = [part for part in parts if part.element != "i64" or len(parts) == 1]  # shapes to reshape to
    return Weight(tuple(sorted(parts, key=lambda part: -part.elements))) if parts else None


def count(folder: Path, compute: str) -> Census:
    """The census of an IR; `compute` is what the compiled model says that it multiplies in."""
    layers = read(folder)
    storage: Counter[str] = Counter()
    for (_, size), element in {layer.stored: layer.element for layer in layers.values() if layer.stored}.items():
        storage[NAMES.get(element, element)] += size
    head = _head(layers)
    tables = [weight(layers, layer.inputs.get(0)) for layer in layers.values() if layer.kind == "Gather"]
    kernels: Counter[str] = Counter()
    linear = quantized = linear_bytes = 0
    left_out, heads, seen = list[str](), set[object](), set[object]()
    for key, layer in layers.items():
        found = weight(layers, layer.inputs.get(1)) if layer.kind == "MatMul" else None
        if found is None:
            continue
        if key == head:
            heads = {part.stored for part in found.parts}
            left_out += [layer.name] if found.element not in NARROW else []
            continue
        kernels[f"MatMul {found.element}"] += 1
        if found.parts[0].stored in seen:
            continue
        seen.add(found.parts[0].stored)
        linear += found.parts[0].elements
        linear_bytes += found.bytes
        if found.element in NARROW:
            quantized += found.parts[0].elements
        else:
            left_out.append(layer.name)
    looked_up = {part.stored for table in tables if table for part in table.parts} - heads
    return Census(
        bytes_by_storage=dict(storage), linear_weights=linear, linear_quantized=quantized,
        linear_bits=8 * linear_bytes / linear if linear else 0.0, kernels=dict(kernels),
        left_out=tuple(left_out) if quantized else (), compute=compute,
        embedding_bytes=sum(stored[1] for stored in looked_up if stored),
    )  # fmt: skip


def _head(layers: dict[str, Layer]) -> str | None:
    """The id of the multiplication that gives the logits."""
    waiting = [key for key, layer in layers.items() if layer.kind == "Result"]
    while waiting:
        key = waiting.pop()
        if layers[key].kind == "MatMul":
            return key
        if layers[key].kind in BETWEEN:
            waiting += layers[key].inputs.values()
    return None
