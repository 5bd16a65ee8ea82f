# SPDX-License-Identifier: Apache-2.0
"""A header names every tensor: mixtures, heads that differ by layer and unknown architectures are predicted by it."""

import pytest

pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")

from gguf_files import LAYERS, VOCABULARY, WIDTH, shapes, write

from bench.catalog import architecture, gguf_file
from bench.catalog.contents import of_gguf
from bench.catalog.gguf_model import cache_elements, config, header_in
from bench.catalog.local_model import own_model


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
