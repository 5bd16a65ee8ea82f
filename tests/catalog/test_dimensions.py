# SPDX-License-Identifier: Apache-2.0
"""Sizes that no model has: in a catalogue, a config and a GGUF header, each one line with its file and field."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import yaml

from bench.catalog import architecture, gguf_file
from bench.catalog.dimensions import fault
from bench.catalog.entries import read_catalog
from bench.catalog.gguf_file import BadGguf
from bench.catalog.local_model import own_model
from bench.errors import UserError

LLAMA: dict[str, Any] = {
    "model_type": "llama", "vocab_size": 64, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128,
}  # fmt: skip
WRONG = [
    ("hidden_size", 0, "0 is not between 1 and"),
    ("hidden_size", -32, "-32 is not between 1 and"),
    ("num_attention_heads", 0, "0 is not between 1 and"),
    ("num_hidden_layers", 10**7, "is not between 1 and 10000"),
    ("vocab_size", 10**30, "is not between 1 and"),
    ("vocab_size", "many", "'many' is no whole number"),
    ("vocab_size", True, "True is no whole number"),
    ("num_key_value_heads", 2.5, "2.5 is no whole number"),
    ("hidden_size", None, "is null, and no model is without it"),
    ("num_key_value_heads", [2, 2], "is no whole number"),
    ("hidden_size", 3, "3 is less than the number of attention heads, 4"),
    ("layer_types", "sliding_attention", "is no list with a value for each layer"),
    ("layer_types", ["full_attention"], "has 1 values for 2 layers"),
    ("sliding_window", -1, "-1 is not between 0 and"),
]


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_a_config_is_refused_by_its_file_and_field(key: str, value: Any, words: str, tmp_path: Path) -> None:
    """Before anything divides by it."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA | {key: value}))
    with pytest.raises(UserError) as caught:
        own_model(tmp_path)
    assert caught.value.message.startswith(f"{tmp_path / 'config.json'}: field {key!r}: ")
    assert words in caught.value.message


@pytest.mark.parametrize(("key", "value", "words"), WRONG)
def test_an_entry_is_refused_by_its_file_line_and_field(key: str, value: Any, words: str, tmp_path: Path) -> None:
    """As any other field of an entry that cannot be."""
    entry = {
        "name": "one",
        "display": "One",
        "kind": "open weights",
        "repo": "a/b",
        "architecture": LLAMA | {key: value},
    }
    family = {"family": "odd", "organisation": "Tests", "models": [entry]}
    (tmp_path / "odd.yaml").write_text(yaml.safe_dump(family, sort_keys=False))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    lines = (tmp_path / "odd.yaml").read_text().splitlines()
    number = next(n for n, line in enumerate(lines, 1) if line.strip().startswith(f"{key}:"))
    where = f"{tmp_path / 'odd.yaml'}:{number}: entry 'one' field 'architecture.{key}': "
    assert caught.value.message.startswith(where) and words in caught.value.message


def test_what_families_leave_out_or_call_null_is_theirs() -> None:
    """GPT-2's own names, defaults and nulls; a type that we do not know may call other things what it likes."""
    assert fault({"model_type": "gpt2", "n_inner": None, "n_embd": 32, "n_layer": 2, "n_head": 4}) is None
    assert fault({"model_type": "t5", "d_kv": 64, "num_decoder_layers": None}) is None
    assert fault({"model_type": "ours", "num_attention_heads": [4, 2], "num_key_value_heads": None}) is None
    assert fault({"model_type": "ours", "hidden_size": 0}) is not None
    assert fault({"model_type": ["llama"]}) == ("model_type", "['llama'] is no name")
    assert architecture.parameters(LLAMA) > 0 and fault(LLAMA) is None


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("config.json", "[]", "holds no object"),
        ("tokenizer_config.json", "{", "not JSON"),
        ("tokenizer.json", "3", "holds no object"),
        ("model.safetensors.index.json", '"x"', "holds no object"),
        ("generation_config.json", '{"max_length": ' + "9" * 50 + "}", "a number of more than 40 digits"),
    ],
)
def test_a_file_beside_the_weights_is_named(name: str, data: str, words: str, tmp_path: Path) -> None:
    """What libraries say of it names no file."""
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    (tmp_path / name).write_text(data)
    with pytest.raises(UserError) as caught:
        own_model(tmp_path)
    assert caught.value.message.startswith(str(tmp_path / name)) and words in caught.value.message


# GGUF.


def text(value: str) -> bytes:
    """As GGUF writes it."""
    return struct.pack("<Q", len(value)) + value.encode()


def gguf(*, pairs: list[bytes] | None = None, shape: tuple[int, ...] = (64, 64), **counts: int) -> bytes:
    """A file of one tensor, its header as these say."""
    fields = pairs or [text("general.architecture") + struct.pack("<I", 8) + text("llama")]
    tensor = text("token_embd.weight") + struct.pack(
        f"<I{len(shape)}QIQ", counts.get("dimensions", len(shape)), *shape, 0, 0
    )
    head = struct.pack("<IQQ", 3, counts.get("tensors", 1), counts.get("pairs", len(fields)))
    return b"GGUF" + head + b"".join(fields) + tensor + bytes(20_000)


def u32(key: str, value: int) -> bytes:
    """One field that holds a whole number."""
    return text(key) + struct.pack("<II", 4, value)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (gguf(shape=(0, 64)), "tensor token_embd.weight has a dimension of 0"),
        (gguf(dimensions=9), "its header promises 9 dimensions of tensor token_embd.weight, more than 8"),
        (gguf(tensors=2**40), "its header promises 1099511627776 tensors, more than"),
        (gguf(pairs=[u32("general.alignment", 0)]), "field 'general.alignment' is 0"),
        (gguf(pairs=[u32("general.alignment", 2**31)]), "field 'general.alignment' is 2147483648"),
        (gguf(pairs=[text("a") + struct.pack("<IIQ", 9, 9, 1) * 1 + struct.pack("<IQ", 9, 1) * 6]), "in 2 arrays"),
        (gguf(pairs=[text("a") + struct.pack("<IIQ", 9, 4, 2**62)]), "truncated"),
        (gguf(pairs=[text("a") + struct.pack("<IIQ", 9, 8, 2**62)]), "truncated"),
        (gguf(pairs=[struct.pack("<Q", 2**63)]), "truncated"),
    ],
)
def test_a_header_that_cannot_be_is_one_line(data: bytes, words: str, tmp_path: Path) -> None:
    """At once, however much it promises."""
    path = tmp_path / "odd.gguf"
    path.write_bytes(data)
    with pytest.raises(BadGguf, match=words.replace("(", r"\(")) as caught:
        gguf_file.read(path)
    assert "\n" not in str(caught.value)
    with pytest.raises(UserError, match=r"odd\.gguf"):
        own_model(path)


def test_a_header_with_a_size_of_zero_is_one_line(tmp_path: Path) -> None:
    """Its architecture cannot be predicted from it."""
    named = text("general.architecture") + struct.pack("<I", 8) + text("llama")
    path = tmp_path / "odd.gguf"
    path.write_bytes(gguf(pairs=[named, u32("llama.embedding_length", 64), u32("llama.attention.head_count", 0)]))
    with pytest.raises(UserError, match=r"odd\.gguf: field 'num_attention_heads': 0 is not between 1 and"):
        own_model(path)
