# SPDX-License-Identifier: Apache-2.0
"""Bytes that a transformers model needs beyond weights and cache: what is alive, and on a CPU what the heap loses.

glibc takes blocks under 32 MiB from one heap, in which what a layer keeps (its cache) is cut out of the space that
temporaries of the layer before left, and that no longer holds what it held: the next layer's take new space, and what
lies between stays resident. The more sizes of blocks a layer asks for, the less a hole fits the next. Where sizes
change from step to step, each step adds its own: a class without a cache (GPT-1) reads a text one token longer each
time, and LLM.int8() computes as many columns apart as have outliers this time. oneDNN, too, prepares kernels for each
new size and keeps the newest 1,024.

How much is lost, measuring alone tells. The constants are from torch 2.13 and glibc 2.36 on a CPU with AMX, models of
30 million to 7 billion weights (random but for the default model's), prompts of 128 to 1,024 tokens, up to 128 tokens
generated. Nothing is known of other allocators; on a GPU nothing is lost here but what its caching allocator rounds.
"""

from __future__ import annotations

from collections.abc import Sequence

from bench.catalog import architecture
from bench.catalog.architecture import Role, Weight
from bench.catalog.config import Config, Settings, once, settings
from bench.plan.activations import FLOAT, copies, is_gated, live_bytes, score_bytes
from bench.records.cell import Scheme

MIB = 1 << 20
RUNTIME_BYTES = {"cpu": 75 * MIB, "cuda": 90 * MIB, "mps": 0}
"""Library state beyond the baseline once a model is loaded and has run; measured on a CPU, a guess elsewhere."""
IMPORTED_BYTES = 40 * MIB
"""What of it on a CPU lies in the baseline already where bitsandbytes was imported before."""
MMAP_LIMIT = 32 * MIB
"""glibc's largest dynamic mmap threshold (mallopt(3), 64 bits): larger blocks go back to the system when freed."""
LOST_FUSED, LOST_WRITTEN, LOST_CAST, LOST_INT8, LOST_INT8_GATED = 0.5, 1.0, 1.0, 2.5, 3.0
"""Lost in each layer, in blocks of one inner row for each token: with fused attention in one type; with attention
written out, whose scores are further blocks; with NF4, which casts; with LLM.int8(), by two or three matrices."""
LOST_INT8_LIMIT = MMAP_LIMIT + MMAP_LIMIT // 2
"""The most that LLM.int8() loses in a layer: of its float32, 16-bit and 8-bit blocks the latter two."""
STEP_PLAIN, STEP_CAST, STEP_INT8 = 2.0, 1.45, 4.2
"""Lost by each step of a class without a cache, in the same blocks."""
OUTLIERS = 0.08
"""Share of columns in which LLM.int8() finds a value of 6 or more among trained weights: in the second feed-forward
matrices of the default model at 512 tokens, where it is from 0 to 0.52; below 0.003 in its others."""
POST_NORM = frozenset({"olmo2"})
"""Whose linear layers read the residual itself, which no norm keeps small: every column of it has outliers."""
LOST_APART, LOST_COLUMNS, STEP_COLUMNS = 0.75, 0.55, 1.08
"""Lost with outliers: in each layer, of all that one multiplication takes from the heap; where every column has them,
of what their columns take, in each layer and in each step. Two runs of such a cell differed by 320 MiB of 4.5 GiB."""
TRACED = 128
"""Traces kept of one function, beyond which no more is traced (gptqmodel 7.7.0, utils/torch.py, over torch's 8). Every
linear layer is another one, for its tensors are told apart by their addresses."""
TRACER_BYTES, TRACE_BYTES = 36 * MIB, 532 << 10
"""What stays of torch's compiler however little it traced, and of each trace: within 9 MiB at 28 to 210 layers."""
LOST_TRACING, LOST_TRACE = 2.25, 0.04
"""Lost while it traces, of all blocks that unpacking the largest weight takes from the heap: once, and by each trace,
whose own small blocks come to lie between. A later pass of the same process loses a third of it, malloc_trim gives it
back, collecting garbage does not. Held against 28 to 210 layers of 0.9 to 12 million weights."""
KERNELS = 1024
"""oneDNN's primitive cache (ONEDNN_PRIMITIVE_CACHE_CAPACITY)."""
KERNEL_BYTES, KERNEL_BYTES_ONE_ROW = MIB, MIB // 4
"""What one of them keeps: of a matrix product over a text, of one over a single row."""


def workspace_bytes(
    config: Config,
    scheme: Scheme,
    tokens: int,
    batch: int = 1,
    device: str = "cpu",
    *,
    decode: int = 0,
    trained: bool = True,
) -> int:
    """Bytes beyond weights and cache while `tokens` of each of `batch` sequences are read at once, `decode` generated.

    `trained` tells real weights from random ones, which have next to no outlier features. Raises UnknownArchitecture.
    """
    s = settings(config)
    linear = _linear(config)
    apart = 1.0 if s["model_type"] in POST_NORM else OUTLIERS * trained
    live = live_bytes(s, linear, scheme, tokens, batch, apart)
    if device != "cpu":
        return live
    return live + int(
        _lost_by_layers(s, linear, scheme, tokens * batch, apart)
        + _lost_by_steps(s, linear, scheme, tokens * batch, decode, apart)
        + _kernels(s, scheme, decode, apart)
        + _lost_by_traces(linear, scheme)
    )


@once
def runtime_bytes(config: Config, scheme: Scheme, device: str) -> int:
    """Bytes beyond the weights that stay once a model is loaded and has run: library state, and its class's tables."""
    imported = IMPORTED_BYTES if device == "cpu" and scheme.quantizes else 0
    linear = _linear(config)
    compiler = (TRACER_BYTES + TRACE_BYTES * _traces(linear)) * scheme.kernel.traced
    return RUNTIME_BYTES[device] - imported + _tables(settings(config)) + compiler


@once
def _linear(config: Config) -> list[Weight]:
    return [weight for weight in architecture.weights(config) if weight.role is Role.LINEAR]


def _lost_by_layers(s: Settings, linear: Sequence[Weight], scheme: Scheme, rows: int, apart: float) -> float:
    block = _block(s, scheme, rows)
    if not _copies_rows(scheme):
        lost = min((LOST_WRITTEN if score_bytes(s["model_type"], 1) else LOST_FUSED) * block, MMAP_LIMIT)
    elif not _takes_apart(scheme):
        lost = min(LOST_CAST * block, MMAP_LIMIT)
    else:
        lost = min((LOST_INT8_GATED if is_gated(s) else LOST_INT8) * block, LOST_INT8_LIMIT)
        if apart == 1:
            lost = max(lost, LOST_COLUMNS * _columns(linear, scheme))
        elif apart:
            moments = [moment for weight in linear for moment in copies(weight, scheme, rows, apart)]
            lost = max(lost, LOST_APART * max(map(_from_heap, moments)))
    return lost * int(s["num_hidden_layers"])


def _lost_by_steps(
    s: Settings, linear: Sequence[Weight], scheme: Scheme, rows: int, decode: int, apart: float
) -> float:
    if s["model_type"] == "openai-gpt":
        blocks = STEP_INT8 if _takes_apart(scheme) else STEP_CAST if scheme.kernel.moments else STEP_PLAIN
        return decode * blocks * _block(s, scheme, rows)
    if _takes_apart(scheme) and apart == 1:
        return decode * STEP_COLUMNS * _columns(linear, scheme)
    return 0.0


def _lost_by_traces(linear: Sequence[Weight], scheme: Scheme) -> float:
    if not scheme.kernel.traced:
        return 0.0
    unpacked = max(sum(map(_from_heap, copies(weight, scheme, 0, 0.0))) for weight in linear)
    return (LOST_TRACING + LOST_TRACE * _traces(linear)) * unpacked


def _kernels(s: Settings, scheme: Scheme, decode: int, apart: float) -> int:
    """What is kept of kernels that each step prepares anew; scores are two products, and four matrices make a layer."""
    if s["model_type"] == "openai-gpt":  # its layers share their sizes
        made = 2 if scheme.kernel.moments else 6
        return min(made * decode, KERNELS) * KERNEL_BYTES
    if _takes_apart(scheme) and apart == 1:  # no two of its matrices do
        made = int(s["num_hidden_layers"]) * (5 + 2 * is_gated(s))
        return min(made * decode, 2 * KERNELS) * KERNEL_BYTES_ONE_ROW
    return 0


def _block(s: Settings, scheme: Scheme, rows: int) -> int:
    """Bytes of one inner row for each token."""
    return int(scheme.other_bytes * rows * s["intermediate_size"])


def _columns(linear: Sequence[Weight], scheme: Scheme) -> float:
    """Bytes that copies of all of a weight's columns take from the heap, of the weight that takes most."""
    return max(_from_heap(moment) for weight in linear for moment in copies(weight, scheme, 0, 1.0))


def _from_heap(blocks: Sequence[float]) -> float:
    return sum(block for block in blocks if block < MMAP_LIMIT)


def _copies_rows(scheme: Scheme) -> bool:
    return any(what in {"input", "output"} for moment in scheme.kernel.moments for what, _ in moment)


def _takes_apart(scheme: Scheme) -> bool:
    return any(what == "outliers" for moment in scheme.kernel.moments for what, _ in moment)


def _traces(linear: Sequence[Weight]) -> int:
    return min(TRACED, sum(weight.count for weight in linear))


def _tables(s: Settings) -> int:
    """Bytes of what a class makes for every layer and no checkpoint holds: causal masks, rotary angles."""
    layers, positions = s["num_hidden_layers"], s["max_position_embeddings"] or 0
    if s["model_type"] == "gpt_neo":
        return int(layers * positions**2)
    if s["model_type"] == "openai-gpt":
        return int(layers * FLOAT * positions**2)
    return int(layers * FLOAT * positions * s.get("rotary_dim", 64)) if s["model_type"] == "gptj" else 0
