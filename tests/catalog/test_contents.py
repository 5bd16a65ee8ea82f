# SPDX-License-Identifier: Apache-2.0
"""What weight files hold, from their headers alone."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest

from bench.catalog.contents import Contents, Stored, label_of, of_folder, parse
from bench.errors import UserError


def written(path: Path, tensors: dict[str, tuple[str, list[int]]]) -> None:
    """A safetensors file of zeros."""
    bits = {"F32": 32, "BF16": 16, "U8": 8}
    entries, at = {}, 0
    for name, (kind, shape) in tensors.items():
        size = bits[kind] // 8
        for side in shape:
            size *= side
        entries[name] = {"dtype": kind, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    header = json.dumps({"__metadata__": {"format": "pt"}, **entries}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(at))


def test_shards_are_one_model_with_its_types_by_share(tmp_path: Path) -> None:
    """800 bytes of bfloat16 in two files and 200 of float32."""
    written(tmp_path / "a.safetensors", {"model.embed_tokens.weight": ("BF16", [20, 10])})
    written(tmp_path / "b.safetensors", {"lm_head.weight": ("BF16", [20, 10]), "norm.weight": ("F32", [50])})
    found = of_folder(tmp_path, {"torch_dtype": "bfloat16"})
    assert (found.bytes, found.elements, found.label) == (1000, 450, "bfloat16")
    assert found.shares() == {"BF16": 0.8, "F32": 0.2}
    embedding, head = found.embedding(), found.head()
    assert embedding == Stored("model.embed_tokens.weight", "BF16", 200, 400)
    assert head == Stored("lm_head.weight", "BF16", 200, 400)
    assert found.read_bytes() == 600


def test_a_tied_table_is_read_whole_for_every_token() -> None:
    """It is the head too."""
    tied = Contents(tensors=(Stored("wte.weight", "F32", 100, 400), Stored("h.0.w", "F32", 10, 40)), label="")
    assert (tied.head(), tied.read_bytes()) == (None, 440)


@pytest.mark.parametrize(
    ("config", "label"),
    [
        ({"dtype": "float16"}, "float16"),
        ({"quantization_config": {"quant_method": "gptq", "bits": 4}}, "gptq 4 bits"),
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "bitsandbytes 8 bits"),
        ({"quantization_config": {"quant_method": "awq"}}, "awq"),
        ({"quantization_config": "odd"}, ""),
        ({}, ""),
    ],
)
def test_a_config_s_label(config: dict[str, Any], label: str) -> None:
    """The quantizer's before the type's."""
    assert label_of(config) == label


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (b"[]", "its safetensors header is no JSON object"),
        (b"{", "its safetensors header is no JSON object"),
        (b'{"w": {}}', "tensor 'w' has no type, shape and place"),
        (b'{"w": 5}', "tensor 'w' has no type, shape and place"),
        (b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 4]}}', "tensor 'w': 2 of F32 in 4 bytes"),
        (b'{"w": {"dtype": "F32", "shape": [-1], "data_offsets": [4, 0]}}', "tensor 'w': -1 of F32 in -4 bytes"),
    ],
)
def test_a_damaged_header_is_one_line(header: bytes, reason: str) -> None:
    """With file, tensor and remedy."""
    with pytest.raises(UserError, match="download the file again") as error:
        parse(header, "w.safetensors")
    assert str(error.value).startswith(f"w.safetensors: {reason}")


@pytest.mark.parametrize("data", [b"", b"12", struct.pack("<Q", 2**60), struct.pack("<Q", 0)])
def test_what_is_no_safetensors_is_one_line(tmp_path: Path, data: bytes) -> None:
    """Too short, or a header longer than any."""
    (tmp_path / "w.safetensors").write_bytes(data)
    with pytest.raises(UserError, match="no safetensors header"):
        of_folder(tmp_path, {})


def test_a_folder_without_safetensors_has_no_header_to_read(tmp_path: Path) -> None:
    """Pickles are not opened."""
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(UserError, match="holds no safetensors"):
        of_folder(tmp_path, {})
