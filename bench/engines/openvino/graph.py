# SPDX-License-Identifier: Apache-2.0
"""What is changed in an exported graph before it is compiled, and what its states say of keys and values.

An export computes logits of every position of a pass; a prompt needs one, a scored row a few. And it makes its own
causal mask, where packed token trees need theirs. Both become inputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import openvino as ov
from openvino import opset13 as ops

from bench.engines.exported.reading import SEQUENCE

ROWS, MASK = "rows", "mask"
"""Inputs that are added: which positions (of all sequences, one after the other) leave logits; what sees what."""
BETWEEN = frozenset({"Convert", "Multiply", "Divide", "Tanh", "Add"})
"""What may stand between the head and the logits: soft caps, scales and biases, alike for every position."""


@dataclass(frozen=True)
class Carried:
    """What one position of one sequence leaves behind."""

    keys: int
    values: int
    """Numbers of keys and of values."""
    heads: int
    """Rows that the keys lie in, and as many again the values: of quantized ones each has a scale and a zero point."""


def pick_rows(model: ov.Model) -> None:
    """Compute logits of the positions that the new input `rows` lists, alone: shape (rows, vocabulary)."""
    consumer = _head(model)
    source = consumer.input_value(0)
    width = source.get_partial_shape()[-1].get_length()
    rows = _parameter(ROWS, [-1], ov.Type.i64)
    flat = ops.reshape(source, ops.constant([-1, width], ov.Type.i64), special_zero=False)
    picked = ops.gather(flat, rows, ops.constant(0, ov.Type.i64))
    consumer.input(0).replace_source_output(picked.output(0))
    model.add_parameters([rows])
    model.validate_nodes_and_infer_types()


def _head(model: ov.Model) -> Any:
    """The last multiplication before the logits, or their output itself where something else stands there."""
    result = model.output("logits").get_node()
    node = result
    while True:
        before = [value.get_node() for value in node.input_values()]
        before = [one for one in before if one.get_type_name() != "Constant"]
        if not before:
            return result
        if before[0].get_type_name() == "MatMul":
            return before[0]
        if before[0].get_type_name() not in BETWEEN:
            return result
        node = before[0]


def take_mask(model: ov.Model) -> bool:
    """Let every attention add the new input `mask`, shape (sequences or 1, 1, read, held + read).

    Whether all of them shared one: where layers have masks of their own or none, nothing is changed. Ask only where the
    model `sees_all`: a window is in the mask that is replaced.
    """
    layers = [node for node in model.get_ops() if node.get_type_name() == "ScaledDotProductAttention"]
    masks = {_key(node.input_value(3)) if node.get_input_size() > 3 else None for node in layers}
    names = {name for port in model.inputs for name in port.names}
    if len(masks) != 1 or None in masks or "position_ids" not in names:
        return False
    mask = _parameter(MASK, [-1, 1, -1, -1], ov.Type.f32)
    for node in layers:
        node.input(3).replace_source_output(mask.output(0))
    model.add_parameters([mask])
    model.validate_nodes_and_infer_types()
    return True


def _key(port: Any) -> tuple[str, int]:
    return port.get_node().get_friendly_name(), port.get_index()


def _parameter(name: str, shape: list[int], kind: ov.Type) -> Any:
    made = ops.parameter(shape, kind, name=name)
    made.output(0).get_tensor().set_names({name})
    return made


def carried(model: ov.Model) -> Carried | None:
    """What a position leaves behind, None where some state is no keys or values: of a recurrent layer."""
    widths, heads = {"key": 0, "value": 0}, 0
    for node in model.get_ops():
        if node.get_type_name() != "ReadValue":
            continue
        shape = node.get_output_partial_shape(0)
        if shape.rank.get_length() != 4 or shape[1].is_dynamic or shape[3].is_dynamic or shape[SEQUENCE].is_static:
            return None
        what = "key" if ".key" in node.get_variable_id() else "value"
        widths[what] += shape[1].get_length() * shape[3].get_length()
        heads += shape[1].get_length() if what == "key" else 0
    return Carried(widths["key"], widths["value"], heads) if heads else None
