# SPDX-License-Identifier: Apache-2.0
"""A header names every tensor: mixtures, heads that differ by layer and unknown architectures are predicted by it."""

import pytest

pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")

from gguf_files import LAYERS, VOCABULARY, WIDTH, shapes, write

from bench.catalog import architecture, gguf_file
from bench.catalog.contents import of_gguf
from bench.catalog.gguf_model import cache_elements, config, header_in
from bench.catalog.local_model import own_model
from bench.engines.registry import backend
from bench.plan import predict
from bench.plan.takers import cache_bytes
from bench.suite import Work


def read(path):
    """The config of one file."""
    return config([gguf_file.read(path)])


def test_a_dense_llama_is_the_known_architecture_and_a_mixture_of_that_name_is_not(tmp_path):
    """Both call themselves llama; the tensors decide."""
    dense = read(write(tmp_path / "dense.gguf"))
    assert dense["model_type"] == "llama"
    assert architecture.parameters(dense) == header_in(dense).elements
    mixed = read(write(tmp_path / "mixed.gguf", shapes(experts=8), llama__expert_count=8, llama__expert_used_count=2))
    assert not architecture.is_known(mixed)
    assert header_in(mixed).experts == 8


def test_a_token_of_a_mixture_is_sent_through_its_own_experts_alone(tmp_path):
    """Everything is in memory, two of eight experts are multiplied; in a dense model everything is."""
    path = write(tmp_path / "mixed.gguf", shapes(experts=8), llama__expert_count=8, llama__expert_used_count=2)
    header, each = header_in(read(path)), 3 * 512 * WIDTH
    assert header.elements - header.multiplied == LAYERS * 6 * each
    assert header.elements == own_model(path).parameters
    dense = header_in(read(write(tmp_path / "dense.gguf")))
    assert dense.multiplied == dense.elements
    untold = header_in(read(write(tmp_path / "untold.gguf", shapes(experts=8), llama__expert_count=8)))
    assert untold.multiplied == untold.elements  # how many it is sent through is not said


@pytest.mark.parametrize("used", [9, 2**31])
def test_more_experts_than_there_are_is_no_share(tmp_path, used):
    """Found by the guided fuzzer: `inspect` told of more bytes for a token than the file has."""
    path = write(tmp_path / "odd.gguf", shapes(experts=8), llama__expert_count=8, llama__expert_used_count=used)
    held = of_gguf(gguf_file.read(path))
    assert held.bytes - held.read_bytes() == 4 * VOCABULARY * WIDTH


def test_a_generated_token_reads_its_own_experts_alone(tmp_path):
    """Six of eight rest: of the file's bytes three quarters of the experts' are not read, nor the embedding."""
    path = write(tmp_path / "mixed.gguf", shapes(experts=8), llama__expert_count=8, llama__expert_used_count=2)
    held = of_gguf(gguf_file.read(path))
    experts = 4 * LAYERS * 8 * 3 * 512 * WIDTH
    assert held.bytes - held.read_bytes() == 3 * experts // 4 + 4 * VOCABULARY * WIDTH


@pytest.mark.parametrize(
    ("metadata", "per_token"),
    [
        ({}, 2 * 2 * LAYERS * 64),  # keys and values, 2 heads of 256 / 4
        ({"llama__attention__head_count_kv": [2, 1]}, 2 * 3 * 64),
        ({"llama__attention__head_count": [4, 8], "llama__attention__head_count_kv": [1, 2]}, 2 * 3 * 64),
        ({"llama__attention__head_count_kv": [2, 0]}, 2 * 2 * 64),  # a layer without attention
        ({"llama__attention__head_count": [0, 4], "llama__attention__head_count_kv": [0, 2]}, 2 * 2 * 64),
        ({"llama__attention__key_length": 96, "llama__attention__value_length": 32}, 2 * LAYERS * (96 + 32)),
        ({"llama__attention__head_count": 0, "llama__attention__head_count_kv": 0}, 0),  # no attention at all
    ],
)
def test_heads_may_differ_from_layer_to_layer(tmp_path, metadata, per_token):
    """Keys and values of each layer are counted with its own heads, in the prediction and in the loaded file."""
    path = write(tmp_path / "m.gguf", **metadata)
    assert cache_elements(gguf_file.read(path)) == per_token
    assert header_in(read(path)).cache_elements == per_token


SSM = {"brandnew__ssm__conv_kernel": 4, "brandnew__ssm__inner_size": 128, "brandnew__ssm__state_size": 16}
STATES = 4 * (3 * 128 + 128 * 16)
"""Bytes that one such layer carries: the last three inputs of its convolution, and its recurrence; float32."""
NOTHING = Work(prefill_tokens=0, decode_tokens=0)
ONE_LAYER = 2 * 2 * 64
"""Elements of keys and values of one position: two heads of 64."""


@pytest.mark.parametrize(
    ("first", "metadata", "per_token"),
    [
        (("ssm_in", "ssm_out"), {}, ONE_LAYER),  # one number of heads for all layers, of which one has none
        (("ssm_in", "ssm_out"), {"brandnew__attention__head_count_kv": [0, 2]}, ONE_LAYER),
        (("attn_qkv", "attn_gate", "ssm_out"), {}, ONE_LAYER),  # linear attention names its projection so
        (("attn_q", "attn_k", "attn_v", "ssm_out"), {}, 2 * ONE_LAYER),  # both in one layer
    ],
)
def test_a_hybrid_keeps_keys_in_its_attention_layers_and_a_state_in_the_others(tmp_path, first, metadata, per_token):
    """The header's names decide; each sequence has states of one size, and prediction and inspection count them."""
    tensors = {name: shape for name, shape in shapes().items() if not name.startswith("blk.0.attn_")}
    tensors |= {f"blk.0.{name}.weight": (WIDTH, WIDTH) for name in first}
    path = write(tmp_path / "m.gguf", tensors, architecture="brandnew", **SSM, **metadata)
    header = header_in(read(path))
    assert (header.cache_elements, header.state_bytes) == (per_token, STATES)
    model = own_model(path)
    assert cache_bytes(model, 100) == 2 * 100 * per_token + STATES
    engine = backend("llamacpp")
    asked = {"prompt_tokens": 30, "decode_tokens": 2}
    for batch in (1, 3):
        settings = {**asked, "batch": batch}
        found = predict.predict(model, engine.scheme("gguf-f16"), "cpu", settings, NOTHING, engine.footprint)
        assert found.kv_bytes == batch * (2 * 32 * per_token + STATES)


def test_a_recurrent_model_keeps_no_keys(tmp_path):
    """Mamba's file says that it has no heads, RWKV's has none of the keys; both carry a state in every layer."""
    tensors = {"token_embd.weight": (VOCABULARY, WIDTH)} | {f"blk.{i}.ssm_out.weight": (WIDTH, WIDTH) for i in (0, 1)}
    path = write(tmp_path / "m.gguf", tensors, architecture="brandnew", **SSM, brandnew__attention__head_count_kv=4)
    header = header_in(read(path))
    assert (header.cache_elements, header.state_bytes) == (0, 2 * STATES)


def test_counts_of_more_layers_than_a_tokenizer_has_texts_to_keep_are_read(tmp_path):
    """80 layers have 80 counts: an array of numbers is kept, an array of a vocabulary's length is not."""
    path = write(tmp_path / "deep.gguf", llama__block_count=80, llama__attention__head_count_kv=[1, 3] * 40)
    found = gguf_file.read(path)
    assert cache_elements(found) == 2 * 160 * 64
    assert found.metadata["tokenizer.ggml.tokens"] == VOCABULARY


def test_an_architecture_that_nobody_knows_is_described_by_its_tensors(tmp_path):
    """Not by a formula for another one."""
    path = write(tmp_path / "new.gguf", architecture="brandnew")
    made = read(path)
    assert made["model_type"] == "gguf"
    header = header_in(made)
    assert (header.hidden, header.widest, header.vocabulary, header.context) == (256, 512, 320, 512)
    assert header.stored == {"F32": 4 * header.elements}
