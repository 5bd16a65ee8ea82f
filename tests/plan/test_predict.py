# SPDX-License-Identifier: Apache-2.0
"""Bytes and seconds from the architecture alone, against figures worked out here by hand."""

from __future__ import annotations

from typing import Any

import pytest
from builders import make_model, make_scheme

from bench.catalog.entries import DEFAULT_MODEL, read_catalog
from bench.catalog.model import Model
from bench.engines.abilities import ROWS
from bench.engines.llamacpp import BACKEND as LLAMACPP
from bench.engines.transformers import BACKEND
from bench.instruments.machine import describe
from bench.plan.predict import (
    ANSWER_ROOM,
    RATES,
    cache_bytes,
    mapped_bytes,
    needed,
    predict,
    stored_type,
    weights_bytes,
    work_seconds,
)
from bench.plan.workspace import runtime_bytes
from bench.records.cell import Scheme
from bench.records.record import Prediction
from bench.suite import Work
from suites import quality

CATALOGUE = {model.name: model for model in read_catalog()}
DEFAULT = CATALOGUE[DEFAULT_MODEL]

LAYERS, HIDDEN, INNER, KEYS, VOCABULARY = 30, 576, 1536, 192, 49_152
"""SmolLM2-135M: 9 query and 3 key heads of 64, the head tied to the embedding."""
SHAPES = [(HIDDEN, HIDDEN), (KEYS, HIDDEN), (KEYS, HIDDEN), (HIDDEN, HIDDEN)]
SHAPES += [(INNER, HIDDEN), (INNER, HIDDEN), (HIDDEN, INNER)]
LINEAR = LAYERS * sum(rows * columns for rows, columns in SHAPES)
LINEAR_ROWS = LAYERS * sum(rows for rows, _ in SHAPES)
LINEAR_COLUMNS = LAYERS * sum(columns for _, columns in SHAPES)
OTHER = VOCABULARY * HIDDEN + (2 * LAYERS + 1) * HIDDEN


def scheme(name: str) -> Scheme:
    found = BACKEND.scheme(name)
    assert found is not None
    return found


def architecture(model: Model) -> dict[str, Any]:
    assert model.architecture is not None
    return model.architecture


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fp32", 4 * (LINEAR + OTHER)),
        ("bf16", 2 * (LINEAR + OTHER)),
        ("fp16", 2 * (LINEAR + OTHER)),
        ("native16", 2 * (LINEAR + OTHER)),
        ("bnb-int8", LINEAR + 4 * LINEAR_ROWS + 2 * OTHER),
        ("bnb-nf4", LINEAR // 2 + 4 * LINEAR // 64 + 64 * 7 * LAYERS + 2 * OTHER),
        ("torchao-int8", LINEAR + 5 * LINEAR_ROWS + 2 * OTHER),
        *((name, 2 * (LINEAR + OTHER)) for name in ("ct-w4a16", "ct-w8a16", "ct-w8a8")),
        ("gptq-int8", LINEAR + 3 * LINEAR // 64 + 4 * LINEAR_COLUMNS + 2 * OTHER),
        ("gptq-int4", LINEAR // 2 + 5 * LINEAR // 128 + 4 * LINEAR_COLUMNS + 2 * OTHER),
        ("awq-int4", LINEAR // 2 + 5 * LINEAR // 256 + 2 * OTHER),
    ],
)
def test_the_default_model_s_weights_are_exact_in_every_scheme(name: str, expected: int) -> None:
    """Row scales for int8; a float32 scale for 64 weights and a table of 16 floats a layer for nf4.

    GPTQ has a 16-bit scale and a packed zero point for 64 weights, which 128 do not divide, and an index of inputs.
    """
    assert LINEAR + OTHER == DEFAULT.parameters == 134_515_008
    assert weights_bytes(architecture(DEFAULT), scheme(name)) == expected


def test_every_scheme_of_the_transformers_backend_is_tested_above() -> None:
    """A new scheme must prove its arithmetic here."""
    assert {s.name for s in BACKEND.schemes} == {
        "fp32", "bf16", "fp16", "native16", "bnb-int8", "bnb-nf4", "torchao-int8", "ct-w4a16", "ct-w8a16", "ct-w8a8",
        "gptq-int8", "gptq-int4", "awq-int4",
    }  # fmt: skip


@pytest.mark.parametrize(("name", "wo_bytes"), [("fp32", 4), ("fp16", 4), ("bnb-int8", 4), ("bnb-nf4", 4), ("bf16", 2)])
def test_t5_keeps_its_wo_in_fp32_unless_it_is_loaded_in_bfloat16(name: str, wo_bytes: int) -> None:
    """Twelve layers of 512 x 2048: 12,582,912 weights that float16 would overflow and that nothing quantizes."""
    config = architecture(CATALOGUE["t5-small"])
    kept = scheme(name)
    assert weights_bytes(config, kept) - weights_bytes(config, kept.model_copy(update={"kept_bytes": 0})) == (
        12 * 512 * 2048 * wo_bytes
    )


def test_on_a_cpu_what_is_not_quantized_is_bfloat16_and_so_is_t5_s_wo() -> None:
    """The rest of an int8 or 4-bit model is bfloat16 there, which needs no fp32."""
    here = describe("cpu")
    adapted = {name: BACKEND.adapt(scheme(name), here).kept_bytes for name in ("fp32", "fp16", "bnb-int8", "bnb-nf4")}
    assert adapted == {"fp32": 4, "fp16": 4, "bnb-int8": 2, "bnb-nf4": 2}


def test_t5_small_in_fp16_has_the_bytes_of_the_real_class() -> None:
    """Counted on the meta device: 60,506,624 parameters, 12,582,912 of them in four bytes."""
    assert weights_bytes(architecture(CATALOGUE["t5-small"]), scheme("fp16")) == 2 * 60_506_624 + 2 * 12_582_912


def test_the_cache_holds_keys_and_values_of_every_layer() -> None:
    """SmolLM2: 30 layers of 2 x 192 elements, in the type that is not quantized."""
    config = architecture(DEFAULT)
    assert cache_bytes(config, scheme("bf16"), tokens=1) == 2 * LAYERS * 2 * KEYS
    assert cache_bytes(config, scheme("bnb-nf4"), tokens=10, batch=3) == 30 * 2 * LAYERS * 2 * KEYS
    assert cache_bytes(config, scheme("fp32"), tokens=1) == 4 * LAYERS * 2 * KEYS


def predicted(model: Model, settings: dict[str, Any], device: str = "cpu") -> Prediction:
    return predict(model, scheme("bf16"), device, settings, Work(prefill_tokens=100, decode_tokens=10))


def test_the_peak_is_weights_cache_workspace_and_runtime() -> None:
    """Prompt and generated tokens are held; the workspace grows with the tokens read at once."""
    short = predicted(DEFAULT, {"prompt_tokens": 100, "decode_tokens": 28})
    long = predicted(DEFAULT, {"prompt_tokens": 200, "decode_tokens": 28})
    assert short.weights_bytes == long.weights_bytes == 269_030_016
    assert short.kv_bytes == 128 * 2 * LAYERS * 2 * KEYS
    assert short.kv_bytes is not None and short.peak_bytes is not None and long.peak_bytes is not None
    assert short.workspace_bytes is not None and long.workspace_bytes is not None
    runtime = runtime_bytes(architecture(DEFAULT), scheme("bf16"), "cpu")
    assert short.peak_bytes == short.weights_bytes + short.kv_bytes + short.workspace_bytes + runtime
    assert long.workspace_bytes > short.workspace_bytes


def on_cpu(name: str) -> Scheme:
    """As a CPU with AVX-512 BF16 holds it."""
    return BACKEND.adapt(scheme(name), describe("cpu").model_copy(update={"cpu_flags": ("avx512f", "avx512_bf16")}))


def test_a_file_that_a_view_keeps_mapped_is_resident_beside_the_weights() -> None:
    """GPTQ's default model has a file of 171,217,152 bytes besides its header, all float32 but what is packed.

    At four bits the index of the inputs alone is used there; at eight all that is packed is, and what was cast is left.
    """
    config = architecture(DEFAULT)
    packed, index, rest = LINEAR // 2 + 5 * LINEAR // 128, 4 * LINEAR_COLUMNS, 4 * OTHER
    assert packed + index + rest == 171_217_152
    assert mapped_bytes(config, on_cpu("gptq-int4"), "float32") == packed + rest
    assert mapped_bytes(config, on_cpu("gptq-int8"), "float32") == rest
    assert mapped_bytes(config, on_cpu("gptq-int8"), "float16") == rest // 2
    assert mapped_bytes(config, on_cpu("gptq-int8"), "bfloat16") == 0
    for name in ("fp32", "bf16", "bnb-int8", "bnb-nf4"):
        assert mapped_bytes(config, on_cpu(name), "float32") == 0
    assert mapped_bytes(config, scheme("gptq-int4"), "float32") == 0  # on a GPU


def test_the_mapped_file_counts_in_the_peak_in_the_type_it_is_stored_in() -> None:
    """The package is converted to float32, a config names its type, and others are taken at 16 bits."""
    config = architecture(DEFAULT)
    hub = make_model(architecture=config)
    models = {
        "float32": DEFAULT,
        "float16": hub,
        "bfloat16": make_model(architecture={**config, "dtype": "bfloat16"}),
    }
    assert {name: stored_type(model) for name, model in models.items()} == {name: name for name in models}
    assert stored_type(make_model(architecture={**config, "torch_dtype": "torch.bfloat16"})) == "bfloat16"
    nothing, settings = Work(prefill_tokens=0, decode_tokens=0), {"prompt_tokens": 100}
    peaks = {
        name: predict(model, on_cpu("gptq-int8"), "cpu", settings, nothing).peak_bytes for name, model in models.items()
    }
    assert None not in peaks.values()
    assert peaks["float32"] - peaks["float16"] == peaks["float16"] - peaks["bfloat16"] == 2 * OTHER  # type: ignore[operator]


def test_a_prompt_is_cut_to_the_positions_there_are() -> None:
    """GPT-1 has 512 of them: the suites read what leaves room for the answer, and no more is predicted."""
    config = architecture(CATALOGUE["gpt-1"])
    assert needed(config, scheme("bf16"), "cpu", 512, 32) == needed(config, scheme("bf16"), "cpu", 480, 32)
    assert needed(config, scheme("bf16"), "cpu", 480, 32) != needed(config, scheme("bf16"), "cpu", 479, 32)


def test_a_masked_model_generates_nothing() -> None:
    """BERT reads its 512 positions whole: no room is kept for an answer."""
    bert = CATALOGUE["bert-base-uncased"]
    settings = {"prompt_tokens": 512, "decode_tokens": 32}
    assert predicted(bert, settings | {"objective": "masked"}) == predicted(bert, {"prompt_tokens": 512})
    assert predicted(bert, settings | {"objective": "masked"}) != predicted(bert, settings)


def test_windows_count_where_there_is_no_prompt() -> None:
    """Divergence reads windows; a suite that says neither is taken at 512 tokens."""
    windows = predicted(DEFAULT, {"windows": 6, "window_tokens": 64})
    assert windows.kv_bytes == 64 * 2 * LAYERS * 2 * KEYS
    assert predicted(DEFAULT, {"items": 8}).kv_bytes == 512 * 2 * LAYERS * 2 * KEYS


@pytest.mark.parametrize("unknown", [None, {}, {"model_type": "chatglm", "hidden_size": 64}])
def test_an_unknown_architecture_predicts_nothing(unknown: dict[str, Any] | None) -> None:
    """None in every field, and no guess."""
    assert predicted(make_model(architecture=unknown), {"prompt_tokens": 8}) == Prediction()


@pytest.mark.parametrize("device", ["cpu", "cuda", "mps"])
def test_every_device_kind_has_expected_seconds(device: str) -> None:
    """More work takes longer."""
    found = predicted(DEFAULT, {"prompt_tokens": 100}, device)
    assert found.seconds is not None and found.seconds > 0
    few = work_seconds(DEFAULT, 10**9, RATES[device], Work(prefill_tokens=10, decode_tokens=1))
    many = work_seconds(DEFAULT, 10**9, RATES[device], Work(prefill_tokens=20, decode_tokens=2))
    assert many == pytest.approx(2 * few)


def test_a_bias_of_a_quantized_layer_may_take_other_bytes() -> None:
    """Where a backend casts the biases beside quantized weights, they count in that type; norms do not."""
    config = {
        "model_type": "gpt2", "vocab_size": 96, "n_positions": 40, "n_embd": 32, "n_layer": 3, "n_head": 4,
    }  # fmt: skip
    biases = 3 * (96 + 32 + 128 + 32)
    plain, cast = make_scheme(bits=4), make_scheme(bits=4, bias_bytes=4)
    assert weights_bytes(config, cast) - weights_bytes(config, plain) == 2 * biases


def answered(name: str, together: int, **changes: Any) -> int | None:
    """Bytes of keys and values predicted for a quality cell."""
    settings = quality.PROFILES["standard"] | changes
    return predict(DEFAULT, scheme(name), "cpu", settings, quality.work(settings), together=together).kv_bytes


def test_answers_side_by_side_are_predicted_as_the_engine_batches_them() -> None:
    """Each takes its positions and room for 32; of others' tasks nothing is known but the length at which they are cut.

    As many as 512 MiB hold in float32, at every precision; one where nothing is shared or the whole pass matters.
    """
    each = 2 * LAYERS * KEYS
    own, cut = quality.ANSWER_POSITIONS + 32, 2048 + 32
    assert answered("fp32", 12) == 12 * own * each * 4
    assert answered("bf16", 12) == 12 * own * each * 2
    assert (1 << 29) // (4 * cut * each) == 5
    assert answered("bf16", 12, tasks=["gsm8k"]) == 5 * cut * each * 2
    assert answered("bf16", 4, tasks=["gsm8k"]) == 4 * cut * each * 2
    assert answered("bnb-int8", 12, tasks=["gsm8k"]) == cut * each * 2
    assert answered("bf16", 12, shared=False) == answered("bf16", 12, tasks=quality.OFFLINE) == 512 * each * 2


def test_the_plan_asks_the_backend_how_many_answers_stand_side_by_side() -> None:
    """Its room is that of the engine's layers, and the rows are those of the device."""
    assert BACKEND.answers == ROWS
    columns = pytest.importorskip("bench.engines.transformers.columns")
    assert columns.COLUMNS == ANSWER_ROOM


def test_an_engine_with_a_layout_of_its_own_has_its_answers_predicted_by_it() -> None:
    """Its cache is 16 bits wide whatever the scheme; twelve answers of 128 positions and their room."""
    settings = dict(quality.PROFILES["standard"])
    q8, own = LLAMACPP.scheme("gguf-q8_0"), 12 * (quality.ANSWER_POSITIONS + 32)
    assert q8 is not None
    found = predict(DEFAULT, q8, "cpu", settings, quality.work(settings), LLAMACPP.footprint, together=12)
    assert found.kv_bytes == own * 2 * LAYERS * KEYS * 2
