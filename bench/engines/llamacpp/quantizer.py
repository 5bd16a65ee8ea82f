# SPDX-License-Identifier: Apache-2.0
"""Which type llama.cpp's quantizer gives each tensor of a model, from names and shapes.

Its rules (src/llama-quant.cpp): norms, biases, routers and a few small tensors keep the type of the source; the output
head, or the embedding tied to it, is wider than the rest; Q4_K_M gives some layers' value and down projections more
bits; a mixture of eight experts has its keys and values in Q8_0; and a row that its type's block does not divide falls
back: where 256 does not divide it to a type with blocks of 32, where 32 does not to F16, whatever was asked for.
tests/engines/test_llamacpp.py compares all this with files that llama.cpp itself wrote.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from bench.catalog.gguf_file import type_bytes

BASE = {
    "gguf-f32": "F32", "gguf-f16": "F16", "gguf-q8_0": "Q8_0", "gguf-q6_k": "Q6_K", "gguf-q4_k_m": "Q4_K",
    "gguf-q4_0": "Q4_0", "gguf-q4_1": "Q4_1", "gguf-q5_k_m": "Q5_K", "gguf-q4_k_s": "Q4_K", "gguf-q3_k_m": "Q3_K",
    "gguf-iq4_nl": "IQ4_NL", "gguf-iq4_xs": "IQ4_XS", "gguf-mxfp4": "MXFP4",
}  # fmt: skip
"""The type of most matrices."""
OF_EXPERTS = "gguf-mxfp4"
"""The scheme of a mixture's experts alone; all else is Q8_0."""
MATRIX = "-imatrix"
"""What the names of schemes end with that are made with an importance matrix."""
WIDE = frozenset({"F32", "F16"})
FALLBACK = {"Q3_K": "Q4_0", "Q4_K": "Q5_0", "Q5_K": "Q5_1", "Q6_K": "Q8_0", "IQ4_XS": "IQ4_NL"}
"""Where 256 does not divide a row."""
BLOCK, SUPER_BLOCK = 32, 256
KEPT = (
    "_norm.weight", "ffn_gate_inp.weight", "altup", "laurel", "per_layer_model_proj", "ssm_conv1d",
    "shortconv.conv.weight", "time_mix_first.weight", "time_mix_w0.weight", "time_mix_w1.weight", "time_mix_w2.weight",
    "time_mix_v0.weight", "time_mix_v1.weight", "time_mix_v2.weight", "time_mix_a0.weight", "time_mix_a1.weight",
    "time_mix_a2.weight", "time_mix_g1.weight", "time_mix_g2.weight", "time_mix_decay_w1.weight",
    "time_mix_decay_w2.weight", "time_mix_lerp_fused.weight", "attn_rel_b.weight",
)  # fmt: skip
"""Parts of the names of matrices that keep the type of the source."""
KEPT_WHOLE = frozenset({"position_embd.weight", "token_types.weight"})
EIGHT = 8
"""Experts of the mixtures that the quantizer treats apart."""
MORE = frozenset({"gguf-q4_k_m", "gguf-q5_k_m"})
"""Schemes that give value and down projections Q6_K at the ends and at every third layer between."""
NON_LINEAR = frozenset({"gguf-iq4_nl", "gguf-iq4_xs"})
WIDER_OUTPUT = NON_LINEAR | {"gguf-q4_k_m", "gguf-q4_k_s", "gguf-q3_k_m"}
"""Schemes whose mixtures of eight experts have their attention output in Q5_K."""
GROUPED = 4
"""Queries that share a key and value, from which IQ4's value projections are wider."""
HEAD = "output.weight"
EMBEDDINGS = frozenset({"token_embd.weight", "per_layer_token_embd.weight"})


@dataclass(frozen=True)
class Planned:
    """One tensor to be."""

    name: str
    shape: tuple[int, ...]
    """Output features first."""
    type: str

    @property
    def bytes(self) -> int:
        """In the file and in memory."""
        count = 1
        for size in self.shape:
            count *= size
        return type_bytes(self.type, count)

    @property
    def room(self) -> int:
        """Bytes that it takes at most, should the quantizer of another version choose otherwise among its types."""
        count = self.bytes if self.type in WIDE else 0
        return count or max(self.bytes, Planned(self.name, self.shape, "Q8_0").bytes)


def planned(
    tensors: Sequence[tuple[str, tuple[int, ...], str]], scheme: str, *, experts: int = 0, layers: int = 0,
    shared: int = 0,
) -> list[Planned]:  # fmt: skip
    """The tensors (name, shape, type in the source) as the quantizer would write them in a scheme, in their order.

    `shared` is how many queries share a key and value, 0 if unknown.
    """
    scheme, matrix = scheme.removesuffix(MATRIX), scheme.endswith(MATRIX)
    base = BASE[scheme]
    tied = not any(name == HEAD for name, _, _ in tensors)
    values = {name: at for at, name in enumerate(name for name, _, _ in tensors if _like_values(name))}
    found = []
    for name, shape, stored in tensors:
        if keeps(name, shape):
            kind = stored
        elif base in WIDE:
            kind = base
        else:
            place = (values[name], len(values)) if name in values else (_layer(name), layers)
            wanted = _wanted(name, scheme, place, shared, tied=tied, experts=experts)
            if scheme == OF_EXPERTS:
                wanted = base if len(shape) == 3 else "Q8_0"
            if matrix and scheme in NON_LINEAR and "ffn_down" in name:  # no layer needs more bits then
                wanted = base
            kind = _divided(wanted, shape[-1])
        found.append(Planned(name, shape, kind))
    return found


def keeps(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a tensor stays as it is stored."""
    if len(shape) < 2 or not name.endswith("weight") or name in KEPT_WHOLE:
        return True
    return any(part in name for part in KEPT)


def _like_values(name: str) -> bool:
    """Whether it is counted among the value projections, whose place decides who gets more bits."""
    return any(part in name for part in ("attn_v.weight", "attn_qkv.weight", "attn_kv_b.weight"))


def _layer(name: str) -> int:
    found = re.match(r"blk\.(\d+)\.", name)
    return int(found[1]) if found else 0


def _wanted(name: str, scheme: str, place: tuple[int, int], shared: int, *, tied: bool, experts: int) -> str:
    """The type before rows are looked at; `place` is a tensor's index among those that it is counted with."""
    base = BASE[scheme]
    if name == HEAD or (tied and name in EMBEDDINGS):
        return base if base == "Q8_0" else "Q6_K"
    if experts == EIGHT and ("attn_v.weight" in name or "attn_k.weight" in name):
        return "Q8_0"
    if "attn_output.weight" in name:
        if experts == EIGHT:
            return "Q5_K" if scheme in WIDER_OUTPUT else base
        return "Q4_K" if scheme == "gguf-q3_k_m" else base
    if _like_values(name):
        return _of_values(base, scheme, place, shared)
    return _of_down(base, scheme, place) if "ffn_down" in name else base


def _of_values(base: str, scheme: str, place: tuple[int, int], shared: int) -> str:
    """Of the projections to values, fused ones too."""
    index = place[0]
    if scheme in MORE:
        return "Q6_K" if _more_bits(*place) else base
    if scheme == "gguf-q3_k_m":
        return "Q5_K" if index < 2 else "Q4_K"
    wider = (scheme == "gguf-q4_k_s" and index < 4) or (scheme in NON_LINEAR and shared >= GROUPED)
    return "Q5_K" if wider else base


def _of_down(base: str, scheme: str, place: tuple[int, int]) -> str:
    """Of the feed-forward layers' last projections."""
    index, count = place
    if scheme in MORE:
        return "Q6_K" if _more_bits(*place) else base
    if scheme == "gguf-q3_k_m":
        return "Q5_K" if index < count // 16 else "Q4_K"
    wider = (scheme == "gguf-q4_k_s" or scheme in NON_LINEAR) and index < count // 8
    return "Q5_K" if wider else base


def _divided(kind: str, columns: int) -> str:
    """The type that a row of so many columns can have."""
    if kind in FALLBACK and columns % SUPER_BLOCK:
        kind = FALLBACK[kind]
    return kind if columns % BLOCK == 0 else "F16"


def _more_bits(index: int, count: int) -> bool:
    """The first and the last eighth, and every third between."""
    return index < count // 8 or index >= 7 * count // 8 or (index - count // 8) % 3 == 2
