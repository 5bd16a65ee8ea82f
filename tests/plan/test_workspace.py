# SPDX-License-Identifier: Apache-2.0
"""Temporary bytes of a pass: by hand from the shapes, and against the peak that the real suite measures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from bench.catalog.entries import DEFAULT_MODEL, read_catalog
from bench.cli import app
from bench.engines.transformers import BACKEND
from bench.instruments.machine import describe
from bench.judge.figures import figures
from bench.plan.workspace import (
    IMPORTED_BYTES,
    KERNEL_BYTES,
    LOST_APART,
    LOST_CAST,
    LOST_FUSED,
    LOST_TRACE,
    LOST_TRACING,
    LOST_WRITTEN,
    MMAP_LIMIT,
    OUTLIERS,
    RUNTIME_BYTES,
    STEP_COLUMNS,
    STEP_PLAIN,
    TRACE_BYTES,
    TRACED,
    TRACER_BYTES,
    runtime_bytes,
    workspace_bytes,
)
from bench.records.cell import Scheme
from bench.records.record import Ending
from bench.records.store import Store

CATALOGUE = {model.name: model for model in read_catalog()}
TARGET, FLOOR = 0.05, 150 << 20
"""Issue 5: a peak within either is predicted well enough."""


def scheme(name: str, *flags: str) -> Scheme:
    """As a CPU with these instructions stores and computes it."""
    found = BACKEND.scheme(name)
    assert found is not None
    return BACKEND.adapt(found, describe("cpu").model_copy(update={"cpu_flags": flags}))


def config(name: str) -> dict[str, Any]:
    found = CATALOGUE[name].architecture
    assert found is not None
    return dict(found)


H, N, V, LAYERS, T = 576, 1536, 49_152, 30, 512
"""The default model's hidden and inner widths, vocabulary and layers; tokens read."""
LOGITS = 2 * 2 * V


def test_in_one_type_gate_up_and_product_are_alive_at_worst() -> None:
    """Four rows of the stream, three inner ones, one position's logits and their copy, and what the heap loses."""
    alive = 2 * T * (4 * H + 3 * N) + LOGITS
    lost = LAYERS * int(LOST_FUSED * 2 * T * N)
    assert workspace_bytes(config(DEFAULT_MODEL), scheme("bf16"), T) == alive + lost
    assert workspace_bytes(config(DEFAULT_MODEL), scheme("bf16"), T, device="cuda") == alive


def test_nf4_casts_what_it_reads_and_writes() -> None:
    """Up: its output and the activated gate in bfloat16; its input in float32 and again in bfloat16, output float32.

    Down: the input of inner width is cast twice. Without the fused kernel the whole weight is in float32.
    """
    down = 2 * T * (H + N) + T * ((4 + 2) * N + 4 * H)
    alive = 2 * T * 4 * H + down + LOGITS
    fused = scheme("bnb-nf4", "avx512f", "avx512_bf16")
    assert workspace_bytes(config(DEFAULT_MODEL), fused, T) == alive + LAYERS * int(LOST_CAST * 2 * T * N)
    dequantized = 2 * T * (N + N) + T * (4 * H + 4 * N) + 4 * H * N  # up, beside the activated gate
    plain = 2 * T * 4 * H + dequantized + LOGITS
    assert workspace_bytes(config(DEFAULT_MODEL), scheme("bnb-nf4"), T, device="cuda") == plain


def test_int8_of_trained_weights_loses_what_outliers_take() -> None:
    """Scaling the product of `up` is its worst moment. Each layer's blocks have sizes of their own."""
    stored = scheme("bnb-int8", "avx512f")
    scaling_up = T * (H + 14 * N) + 2 * OUTLIERS * H * N  # its input in int8; four products of 4 bytes, output apart
    assert scaling_up > T * 11 * N
    alive = 2 * T * 4 * H + 2 * T * (N + N) + scaling_up + LOGITS
    found = workspace_bytes(config(DEFAULT_MODEL), stored, T)
    assert found == int(alive) + int(LAYERS * LOST_APART * scaling_up)
    assert workspace_bytes(config(DEFAULT_MODEL), stored, T, trained=False) < found


def test_gptq_at_four_bits_multiplies_as_a_plain_layer_does() -> None:
    """Its fused kernels take 16-bit rows and unpack in registers: no copy, so what 16 bits take."""
    for flags in (("avx512f", "avx512_bf16"), ()):
        stored = scheme("gptq-int4", *flags)
        plain = workspace_bytes(config(DEFAULT_MODEL), scheme("bf16"), T)
        assert workspace_bytes(config(DEFAULT_MODEL), stored, T) == plain
        assert runtime_bytes(config(DEFAULT_MODEL), stored, "cpu") == RUNTIME_BYTES["cpu"] - IMPORTED_BYTES


def test_gptq_at_eight_bits_unpacks_each_weight_and_traces_it() -> None:
    """Up: its output and the activated gate, and eight bytes for each weight: four blocks of 16 bits.

    The heap loses half an inner row a layer, as with one type, and while tracing a share of all blocks of unpacking:
    int32 and int16, then four of 16 bits; 128 of the 210 layers are traced.
    """
    stored = scheme("gptq-int8", "avx512f")
    alive = 2 * T * 4 * H + 2 * T * (N + N) + 8 * H * N + LOGITS
    lost = LAYERS * LOST_FUSED * 2 * T * N + (LOST_TRACING + LOST_TRACE * TRACED) * (4 + 2 + 4 * 2) * H * N
    assert workspace_bytes(config(DEFAULT_MODEL), stored, T) == alive + int(lost)
    stays = RUNTIME_BYTES["cpu"] - IMPORTED_BYTES + TRACER_BYTES + 128 * TRACE_BYTES
    assert runtime_bytes(config(DEFAULT_MODEL), stored, "cpu") == stays
    few = config(DEFAULT_MODEL) | {"num_hidden_layers": 4}
    assert runtime_bytes(few, stored, "cpu") == stays - 100 * TRACE_BYTES
    assert workspace_bytes(few, stored, T) == alive + int(
        4 * LOST_FUSED * 2 * T * N + (LOST_TRACING + LOST_TRACE * 28) * 14 * H * N
    )


def test_what_unpacking_maps_is_not_lost_to_the_heap() -> None:
    """A weight of 2,048 x 5,632: its int32 block is 44 MiB and goes back to the system, the others of 22 MiB stay."""
    wide = config(DEFAULT_MODEL) | {"hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 1}
    stored = scheme("gptq-int8")
    lost = workspace_bytes(wide, stored, T) - workspace_bytes(wide, stored, T, device="cuda")
    blocks = (2 + 4 * 2) * 2048 * 5632
    traces = (LOST_TRACING + LOST_TRACE * 7) * blocks
    assert lost == pytest.approx(LOST_FUSED * 2 * T * 5632 + traces, abs=1)


def test_where_the_residual_is_read_itself_every_column_has_outliers() -> None:
    """OLMo 2 norms what a sublayer gives, not what it reads: random weights or not, all weights are copied."""
    stored = scheme("bnb-int8", "avx512f")
    olmo, llama = config("olmo-2-1b"), config("llama-3.2-1b")
    assert workspace_bytes(olmo, stored, 128, trained=False) == workspace_bytes(olmo, stored, 128)
    assert workspace_bytes(olmo, stored, 128) > 4 * workspace_bytes(llama, stored, 128, trained=False)


@pytest.mark.parametrize(
    ("name", "bytes_a_score", "heads"), [("bloom-560m", 12, 16), ("gpt-neo-125m", 10, 12), ("gpt-1", 6, 12)]
)
def test_scores_that_a_family_writes_out_grow_with_the_square(name: str, bytes_a_score: int, heads: int) -> None:
    """Second difference at 1,024, 1,152 and 1,280 tokens: two times 128 squared for each head and sequence."""
    found = [workspace_bytes(config(name), scheme("bf16"), n, 3, "cuda") for n in (1024, 1152, 1280)]
    assert found[2] - 2 * found[1] + found[0] == 3 * bytes_a_score * heads * 2 * 128**2


def test_fused_attention_grows_in_proportion_and_so_does_a_batch() -> None:
    """Four prompts of 128 tokens hold what one of 512 does, three more rows of logits apart."""
    pythia = config("pythia-410m")
    found = [workspace_bytes(pythia, scheme("bf16"), n, device="cuda") for n in (256, 512, 768)]
    assert found[2] - found[1] == found[1] - found[0]
    four = workspace_bytes(pythia, scheme("bf16"), 128, 4)
    assert four - workspace_bytes(pythia, scheme("bf16"), 512) == 3 * 2 * 2 * pythia["vocab_size"]


def test_a_heap_loses_no_block_that_the_system_gets_back() -> None:
    """32 MiB a layer at most, for larger ones are mapped: GPT-J at 992 tokens is just below, at 1,100 above."""
    gptj, stored = config("instruct-gpt-j"), scheme("bf16")

    def lost(tokens: int) -> int:
        return workspace_bytes(gptj, stored, tokens) - workspace_bytes(gptj, stored, tokens, device="cuda")

    assert lost(992) == 28 * LOST_WRITTEN * 2 * 992 * 16_384
    assert lost(1100) == lost(1500) == 28 * MMAP_LIMIT


def test_a_class_without_a_cache_loses_more_with_every_token() -> None:
    """GPT-1 reads a text one longer each time: new blocks of its inner rows, and kernels for six products.

    oneDNN keeps 1,024 of them: after 170 lengths only the blocks still come.
    """
    gpt, stored = config("gpt-1"), scheme("bf16")
    found = [workspace_bytes(gpt, stored, 128, decode=n) for n in (0, 1, 2, 300, 301)]
    blocks = STEP_PLAIN * 2 * 128 * 3072
    assert found[1] - found[0] == found[2] - found[1] == blocks + 6 * KERNEL_BYTES
    assert found[4] - found[3] == blocks
    assert workspace_bytes(gpt, stored, 128, decode=9, device="cuda") == workspace_bytes(
        gpt, stored, 128, device="cuda"
    )


def test_a_class_with_a_cache_does_not() -> None:
    """Its steps read one token each, whatever the scheme."""
    for name in ("fp32", "bf16", "bnb-int8", "bnb-nf4"):
        stored = scheme(name, "avx512f", "avx512_bf16")
        assert workspace_bytes(config("gpt2"), stored, 128, decode=99) == workspace_bytes(config("gpt2"), stored, 128)


def test_columns_computed_apart_differ_with_every_step() -> None:
    """OLMo 2, 1B: of a 2,048 x 2,048 matrix int8, float32 twice and bfloat16 come from the heap, 44 MiB a step.

    Of the wider feed-forward matrices the system gets back what is 32 MiB and more. Kernels for its 112 products.
    """
    olmo, stored = config("olmo-2-1b"), scheme("bnb-int8", "avx512f")
    found = [workspace_bytes(olmo, stored, 128, decode=n) for n in (0, 1, 100, 101)]
    columns = STEP_COLUMNS * (1 + 4 + 4 + 2) * 2048 * 2048
    assert found[1] - found[0] == pytest.approx(columns + 16 * 7 * (256 << 10), abs=1)
    assert found[3] - found[2] == pytest.approx(columns, abs=1)


def test_tables_of_a_class_stay_with_the_runtime() -> None:
    """GPT-Neo keeps a mask of a byte for each pair of its 2,048 positions in every layer, 48 MiB in the 125m."""
    masks = 12 * 2048**2
    assert runtime_bytes(config("gpt-neo-125m"), scheme("bf16"), "cpu") == RUNTIME_BYTES["cpu"] + masks
    assert runtime_bytes(config("gpt2"), scheme("bf16"), "cpu") == RUNTIME_BYTES["cpu"]


@pytest.mark.usefixtures("default_folder", "without_roofs")
def test_the_default_model_s_peak_is_within_the_target_of_what_the_suite_measures(tmp_path: Path) -> None:
    """Through the plan, the runner and a worker, at 16 bits and at 4.

    Not at 8: LLM.int8()'s heap is a draw, from 250 to 530 MiB above the same process in runs of the same cell.
    """
    chosen = ["--suite", "memory", "--precision", "fp16,int4", "--profile", "standard"]
    with pytest.raises(SystemExit, match="0"):
        app(["run", *chosen, "--quiet", "--results", str(tmp_path)])
    records = [record for record in Store(tmp_path).records() if record.outcome.ending is Ending.OK]
    assert {record.cell.scheme for record in records} == {"bf16", "bnb-nf4"}
    for record in records:
        measured, predicted = figures(record)["peak_bytes"].value, record.predicted.peak_bytes
        assert predicted is not None
        assert abs(predicted - measured) <= max(TARGET * measured, FLOOR), (record.cell.scheme, predicted, measured)
