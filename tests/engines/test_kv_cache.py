# SPDX-License-Identifier: Apache-2.0
"""Quantized keys and values in every engine that keeps them: read through the cache, they never cost nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_llama
from builders import called, make_model
from contenders import CONTENDERS, Contender

from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.llamacpp import BACKEND as LLAMACPP
from bench.engines.llamacpp import gguf_layout
from bench.engines.registry import backend
from bench.engines.transformers import BACKEND as TRANSFORMERS
from bench.instruments.distributions import is_installed
from bench.records.cell import Precision
from bench.scoring.reference import kl_divergence
from suites.kv import NOTHING_NAT

APART = {"llamacpp": ("int8/int4", "int4/fp16"), "openvino": ("int8/int4", "int4/fp16")}
"""Keys and values of different precisions, where an engine takes them."""
ENGINES = ("llamacpp", "openvino", "transformers")
TEXT = "The lazy dog jumps over 42 quick foxes and then on to the other side of the house. " * 3
PIECE = 16


def _engines() -> list[Any]:
    names = [name for name in ENGINES if name in {one.backend for one in CONTENDERS}]
    return [next(one for one in CONTENDERS if one.backend == name) for name in names]


@pytest.fixture(params=_engines(), ids=lambda one: one.backend)
def contender(request: pytest.FixtureRequest) -> Contender:
    """An engine that keeps quantized caches here."""
    one: Contender = request.param
    if one.lacks() or (one.backend == "transformers" and not is_installed("hqq")):
        pytest.skip(one.lacks() or "hqq is not installed here: the extra kv has it")
    return one


@pytest.fixture
def asked(contender: Contender, tmp_path: Path) -> LoadRequest:
    """The tiny llama in float32."""
    folder = tmp_path / "model"
    folder.mkdir()
    return contender.request(contender.write(folder), Precision.FP32)


def _read(asked: LoadRequest, kv: str | None, *, own: bool) -> Any:
    engines = next(one for one in map(backend, ENGINES) if one.scheme(asked.scheme.name))
    asked = replace(asked, kv=kv, attention="flash")
    engines.prepare(asked)
    engine: Any = engines.load(asked)
    tokens = tiny_llama.encode(TEXT)
    found = engine.log_probs_in_pieces(tokens, PIECE, range(len(tokens) - 1), own_cache=own)
    whole = engine.log_probs(tokens)
    generation = engine.prefill([tokens])
    generation.step()
    generation.step()
    told = found, whole, generation.cache_bytes, generation.kept_in, generation.finite
    generation.close()
    engine.close()
    return told


def test_the_own_cache_read_in_pieces_is_the_text_read_at_once(asked: LoadRequest) -> None:
    """Whatever was asked for, the own cache loses nothing but rounding."""
    pieces, whole, *_ = _read(asked, None, own=True)
    assert float(kl_divergence(whole, pieces).mean()) < 5e-4


def test_fewer_bits_cost_more_and_never_nothing(contender: Contender, asked: LoadRequest) -> None:
    """A row that measures zero, or what float32 rounds, has not been read through its cache."""
    own, _, bytes_16, *_ = _read(asked, None, own=True)
    lost, held = {}, {}
    for kv in ("int8", "int4", *APART.get(contender.backend, ())):
        found, _, held[kv], kept_in, finite = _read(asked, kv, own=False)
        lost[kv] = float(kl_divergence(own, found).mean())
        assert lost[kv] > NOTHING_NAT, f"{kv} of {contender.backend} was not read"
        assert held[kv] < bytes_16
        assert (kept_in, finite) == (kv, True)
    assert lost["int8"] < lost["int4"]
    assert held["int4"] < held["int8"]


def test_the_other_cache_of_a_quantized_row_is_its_own(asked: LoadRequest) -> None:
    """What it is compared with attends as it does and keeps keys and values as the engine would unasked."""
    there, *_ = _read(asked, "int4", own=True)
    own, *_ = _read(asked, None, own=True)
    np.testing.assert_array_equal(there, own)


@pytest.mark.parametrize("engines", [LLAMACPP, TRANSFORMERS], ids=lambda one: one.name)
def test_heads_that_the_block_does_not_divide_are_refused_before_loading(
    engines: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp takes heads of 80 without flash attention and computes NaN; it is said in one line."""
    monkeypatch.setattr("bench.engines.transformers.is_installed", lambda name: True)
    sizes = {"model_type": "llama", "hidden_size": 320, "intermediate_size": 640, "num_hidden_layers": 1,
             "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 320}  # fmt: skip
    refused = engines.refuses_kv(make_model(architecture=sizes), "int8")
    assert refused is not None
    assert refused.startswith("its heads of 80 values are no multiple of 32")
    assert engines.refuses_kv(make_model(architecture=sizes | {"hidden_size": 256}), "int8") is None


def test_layers_that_attend_to_a_window_are_refused_before_loading(monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading would say so later; a window that is switched off is none."""
    monkeypatch.setattr("bench.engines.transformers.is_installed", lambda name: True)
    sizes = {"model_type": "mistral", "hidden_size": 256, "intermediate_size": 640, "num_hidden_layers": 1,
             "num_attention_heads": 4, "num_key_value_heads": 4, "vocab_size": 320}  # fmt: skip
    refused = TRANSFORMERS.refuses_kv(make_model(architecture=sizes | {"sliding_window": 8}), "int8")
    assert refused == "transformers' quantized cache has no layers of sliding attention, and this model has"
    assert TRANSFORMERS.refuses_kv(make_model(architecture=sizes | {"sliding_window": None}), "int8") is None


def test_a_file_of_such_heads_is_refused_by_its_header() -> None:
    """Where no architecture is known, the file tells."""
    assert gguf_layout.refuses_head(96, "int8") is None
    assert "no multiple of 32" in str(gguf_layout.refuses_head(80, "int8"))


def test_transformers_keeps_one_precision_for_both() -> None:
    """One line, before anything is loaded."""
    assert TRANSFORMERS.refuses_kv(make_model(), "int8/int4") == (
        "transformers' quantized cache has one precision for keys and values, not int8/int4"
    )


def test_cache_bytes_are_those_of_the_blocks() -> None:
    """34 and 18 bytes for 32 values, 64 in float16."""
    assert gguf_layout.element_bytes("fp16", "fp16") == 2.0
    assert gguf_layout.element_bytes("int8", "int8") == 34 / 32
    assert gguf_layout.element_bytes("int8", "int4") == (34 + 18) / 64


@pytest.mark.parametrize(
    ("text", "told"), [("int2", "no cache 'int2'"), ("int8/int4/int8", "no cache"), ("int8/", "no cache 'int8/'")]
)
def test_an_unknown_cache_is_one_line(text: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With the ones there are."""
    code, _, said = called(capsys, "plan", "--backend", "fake", "--kv", text)
    assert code == 2
    assert told in said


def test_values_of_fewer_bits_without_flash_attention_are_refused(tmp_path: Path) -> None:
    """llama.cpp has no such kernel."""
    kv_cache = pytest.importorskip("bench.engines.llamacpp.kv_cache", reason="llama-cpp-python is not installed here")
    from tiny_gguf import request

    class Header:
        architecture = "llama"

        def whole(self, key: str, otherwise: int) -> int:
            return {"llama.attention.head_count": 4, "llama.embedding_length": 256}.get(key, otherwise)

    header: Any = Header()
    asked = replace(request(tmp_path / "x.gguf"), kv="int8/int4", attention="plain")
    with pytest.raises(Unsupported, match="int4 values with flash attention alone"):
        kv_cache.asked_of(asked, header)
    keys = kv_cache.asked_of(replace(asked, kv="int8/fp16"), header)
    assert (keys.attention, keys.kept_in) == ("plain", "int8/fp16")
