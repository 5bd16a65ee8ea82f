# SPDX-License-Identifier: Apache-2.0
"""The model of a folder is told by headers: what lies beside it is named, and where two could be meant both are."""

from pathlib import Path

import pytest

pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")

from gguf_files import shapes, write

from bench.catalog.gguf_folder import chosen, models_of
from bench.catalog.local_model import own_model
from bench.engines.llamacpp import random_weights
from bench.errors import UserError

MODEL = {
    "model_type": "llama", "vocab_size": 320, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
ADAPTER = {"blk.0.attn_q.weight.lora_a": (4, 256), "blk.0.attn_q.weight.lora_b": (256, 4)}
BESIDE = {
    "a projector": {"tensors": {"v.blk.0.attn_q.weight": (64, 64)}, "architecture": "clip"},
    "a projector of today": {
        "tensors": {"v.blk.0.attn_q.weight": (64, 64)},
        "architecture": "clip",
        "general__type": "mmproj",
    },
    "an adapter": {"tensors": ADAPTER, "general__type": "adapter", "adapter__type": "lora"},
    "an importance matrix": {"tensors": {"blk.0.attn_q.weight.in_sum2": (1, 256)}, "general__type": "imatrix"},
    "a control vector": {"tensors": {"direction.1": (256,)}, "architecture": "controlvector"},
    "a vocabulary alone": {"tensors": {}},
    "a shard": {"tensors": shapes(), "split__count": 3, "split__no": 0},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the model, called so that its neighbours come first by name."""
    random_weights.write(tmp_path / "the-model.gguf", MODEL, "gguf-q8_0")
    return tmp_path


@pytest.mark.parametrize("what", BESIDE)
def test_what_lies_beside_a_model_is_never_taken_for_it(folder, what):
    """First by name, larger or smaller: its header says that it is no model of language, or no whole one."""
    write(folder / "a-file.gguf", **BESIDE[what])
    assert chosen(folder).path.name == "the-model.gguf"
    assert own_model(folder).parameters == sum(t.elements for t in models_of(folder)[0].header.tensors)


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("a projector", "a projector"),
        ("a projector of today", "a projector"),
        ("an adapter", "an adapter"),
        ("an importance matrix", "an importance matrix"),
        ("a control vector", "a control vector"),
        ("a vocabulary alone", r"no language model \(architecture llama, no token_embd\.weight\)"),
    ],
)
def test_what_is_no_model_is_named_alone_or_in_its_folder(tmp_path, what, said):
    """One line says what it is."""
    path = write(tmp_path / "a-file.gguf", **BESIDE[what])
    with pytest.raises(UserError, match=rf"^a-file\.gguf is {said}; give the model's own file"):
        models_of(path)
    with pytest.raises(UserError, match=rf"holds no whole language model: a-file\.gguf is {said}; give the model's"):
        models_of(tmp_path)


def test_shards_alone_get_the_command_that_joins_them(tmp_path):
    """The first one is what the tool is given, whichever name comes first."""
    for name, number in (("b.gguf", 0), ("a.gguf", 1)):
        write(tmp_path / name, split__count=2, split__no=number)
    remedy = r"join its parts: llama-gguf-split --merge b\.gguf WHOLE\.gguf"
    with pytest.raises(UserError, match=rf"a\.gguf is part 2 of 2 of a split model, b\.gguf is part 1 .*; {remedy}"):
        models_of(tmp_path)


def test_two_models_in_a_folder_are_both_named_and_none_is_taken(folder):
    """A draft beside its model is a model too: which one is meant only its user knows."""
    write(folder / "draft.gguf", shapes(layers=1))
    line = r"holds several models: draft\.gguf \(llama, F32, .*\), the-model\.gguf \(llama, Q8_0, .*\); give the one"
    with pytest.raises(UserError, match=line):
        chosen(folder)
    with pytest.raises(UserError, match=line):
        own_model(folder)
    assert chosen(folder / "the-model.gguf").path.name == "the-model.gguf"


def test_two_tunes_of_one_size_are_two_models(tmp_path):
    """Equal shapes and another name in the header, or the same type twice."""
    write(tmp_path / "a.gguf", general__name="Base")
    write(tmp_path / "b.gguf", general__name="Instruct")
    with pytest.raises(UserError, match=r"several models: a\.gguf .*, b\.gguf "):
        chosen(tmp_path)
    write(tmp_path / "b.gguf", general__name="Base")
    with pytest.raises(UserError, match="several models"):
        chosen(tmp_path)


def test_one_model_in_several_types_is_one_and_the_widest_is_what_others_are_made_from(tmp_path):
    """The type that is asked for, else F32, F16, and then whichever holds most bytes."""
    for scheme in ("gguf-q4_0", "gguf-q8_0", "gguf-f16"):
        random_weights.write(tmp_path / f"{scheme}.gguf", MODEL, scheme)
    assert [chosen(tmp_path, kind).path.name for kind in ("Q4_0", "Q8_0", "F16", "Q4_K_M", None)] == [
        "gguf-q4_0.gguf", "gguf-q8_0.gguf", "gguf-f16.gguf", "gguf-f16.gguf", "gguf-f16.gguf",
    ]  # fmt: skip
    (tmp_path / "gguf-f16.gguf").unlink()
    assert chosen(tmp_path, "Q4_K_M").path.name == "gguf-q8_0.gguf"  # by bytes: q4_0 comes first by name
    with pytest.raises(UserError, match=r"holds no \.gguf file"):
        chosen(tmp_path.parent / "nowhere")
