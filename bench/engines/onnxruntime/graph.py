# SPDX-License-Identifier: Apache-2.0
"""What is changed in an exported graph before it is written.

An export computes logits of every position of a pass; a prompt needs one, a scored row a few. And it makes its own
causal mask, where packed token trees need theirs. Both become inputs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

ROWS, MASK = "rows", "mask"
"""Inputs that are added: which positions (of all sequences, one after the other) leave logits; what sees what."""
BETWEEN = frozenset({"Cast", "Mul", "Div", "Tanh", "Add"})
"""What may stand between the head and the logits: soft caps, scales and biases, alike for every position."""
HEADS = frozenset({"MatMul", "Gemm", "MatMulNBits", "MatMulInteger"})
LOGITS = "logits"


def producers(graph: Any) -> dict[str, Any]:
    """The node that makes each value."""
    return {name: node for node in graph.node for name in node.output}


def head(graph: Any) -> Any | None:
    """The last multiplication before the logits, None where something else stands there."""
    made = producers(graph)
    constants = {tensor.name for tensor in graph.initializer} | {n for n, o in made.items() if o.op_type == "Constant"}
    name = LOGITS
    while name in made:
        node = made[name]
        if node.op_type in HEADS:
            return node
        before = [value for value in node.input if value not in constants]
        if node.op_type not in BETWEEN or not before:
            return None
        name = before[0]
    return None


def pick_rows(model: Any) -> bool:
    """Compute logits of the positions that the new input `rows` lists, alone: shape (rows, vocabulary).

    Whether the graph could be changed so.
    """
    graph = model.graph
    last = head(graph)
    if last is None:
        return False
    source = last.input[0]
    flat = helper.make_node("Flatten", [source], ["rows/flat"], "rows/Flatten", axis=-1)
    picked = helper.make_node("Gather", ["rows/flat", ROWS], ["rows/picked"], "rows/Gather", axis=0)
    at = next(index for index, node in enumerate(graph.node) if node.name == last.name)
    graph.node.insert(at, picked)
    graph.node.insert(at, flat)
    last.input[0] = "rows/picked"
    graph.input.append(helper.make_tensor_value_info(ROWS, TensorProto.INT64, ["rows"]))
    (logits,) = (output for output in graph.output if output.name == LOGITS)
    vocabulary = logits.type.tensor_type.shape.dim[-1]
    shape = ["rows", vocabulary.dim_value or vocabulary.dim_param]
    logits.CopyFrom(helper.make_tensor_value_info(LOGITS, logits.type.tensor_type.elem_type, shape))
    del graph.value_info[:]  # shapes behind the head are others now
    return True


def take_mask(model: Any) -> bool:
    """Let every attention add the new input `mask`, shape (1 or sequences, 1, read, held + read).

    Whether it could; nothing is changed where it could not. Ask only where the model looks back at everything, and
    prove it: a window, or what else a layer adds to its attention, is in the mask that is replaced.
    """
    graph = model.graph
    made = producers(graph)
    adding = []
    for node in graph.node:
        if node.op_type != "Softmax":
            continue
        add = made.get(node.input[0])
        if add is None or add.op_type != "Add":
            return False
        sides = [index for index in (0, 1) if not _multiplied(add.input[index], made)]
        if len(sides) != 1:
            return False
        adding.append((add, sides[0]))
    if not adding or "position_ids" not in {value.name for value in graph.input}:
        return False
    for add, side in adding:
        add.input[side] = MASK
    shape = ["mask_batch", 1, "read", "held + read"]
    graph.input.append(helper.make_tensor_value_info(MASK, TensorProto.FLOAT, shape))
    prune(graph)
    return True


def _multiplied(name: str, made: dict[str, Any]) -> bool:
    """Whether a value comes of a product: attention's scores do, its mask does not."""
    waiting, seen = [name], set[str]()
    while waiting:
        node = made.get(waiting.pop())
        if node is None or node.op_type == "Shape" or node.output[0] in seen:
            continue
        if node.op_type in HEADS:
            return True
        seen.add(node.output[0])
        waiting += node.input
    return False


def prune(graph: Any) -> None:
    """Leave out what no output needs: nodes, tensors and inputs."""
    made = producers(graph)
    needed, waiting = set[str](), [output.name for output in graph.output]
    while waiting:
        name = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        if name in made:
            waiting += made[name].input
    for part in (graph.initializer, graph.input):
        kept = [one for one in part if one.name in needed]
        del part[:]
        part.extend(kept)
    kept = [node for node in graph.node if any(name in needed for name in node.output)]
    del graph.node[:]
    graph.node.extend(kept)


def untie_head(model: Any) -> None:
    """Give the head a matrix of its own where it is the embedding table turned over: a quantizer rounds no other."""
    graph = model.graph
    last = head(graph)
    if last is None:
        return
    turned = producers(graph).get(last.input[1])
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    if turned is None or turned.op_type != "Transpose" or turned.input[0] not in tensors:
        return
    table = numpy_helper.to_array(tensors[turned.input[0]])
    own = numpy_helper.from_array(np.ascontiguousarray(table.T), "head.weight")
    graph.initializer.append(own)
    last.input[1] = own.name
    prune(graph)


def scales(graph: Any) -> dict[str, tuple[str, Any]]:
    """By output of a product of integers: the scales of its weights, and the node in whose output they are applied.

    Behind the product stand a cast and a multiplication with the product of two scales.
    """
    users: dict[str, Any] = {name: node for node in graph.node for name in node.input}
    made, tensors = producers(graph), {tensor.name for tensor in graph.initializer}
    found = {}
    for product in graph.node:
        if product.op_type != "MatMulInteger":
            continue
        node = product
        while node.op_type != "Mul":
            node = users[node.output[0]]
        (both,) = (made[name] for name in node.input if name in made and made[name].op_type == "Mul")
        (scale,) = (name for name in both.input if name in tensors)
        found[product.output[0]] = scale, node
    return found
