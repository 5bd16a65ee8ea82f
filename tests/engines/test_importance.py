# SPDX-License-Identifier: Apache-2.0
"""The importance matrix: mean squares of what layers read, the experts of a mixture apart, disclosed in every row."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tiny_llama

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s tests-llamacpp has it")
pytest.importorskip("gguf")

from gguf_files import shapes, write
from tiny_gguf import load, request

from bench.catalog import gguf_file, gguf_model
from bench.engines.contract import Unsupported
from bench.engines.llamacpp import BACKEND, command, gguf_layout, importance, locate
from bench.engines.weights import gptq
from bench.errors import UserError
from bench.records.cell import Weights

EIGHT = {"llama__expert_count": 8, "llama__expert_used_count": 2}
SOURCES = {
    "eight experts, tied": (shapes(experts=8, tied=True), EIGHT),
    "four queries a key": (
        {
            name: (64, 256) if "attn_k" in name or "attn_v" in name else shape
            for name, shape in shapes(layers=17).items()
        },
        {"llama__attention__head_count_kv": 1},
    ),
}
WITH_MATRIX = [f"{scheme}-imatrix" for scheme in gguf_layout.WITH_MATRIX]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Two windows of 24 tokens instead of the calibration text's; they are what is found of it."""
    tokens = tiny_llama.encode("the fox on a quick law the number is the fox the number")
    found = [(tokens * 4)[at : at + 24] for at in (0, 3)]
    monkeypatch.setattr(importance, "windows", lambda vocab: found)
    return found


def test_it_is_the_mean_square_of_what_a_matrix_reads(tmp_path: Path, few: list[list[int]]) -> None:
    """Of the first layer's projections: the normalised embeddings of every token, whatever they are multiplied with."""
    path, made = tiny_llama.write_gguf(tmp_path / "tiny.gguf"), tiny_llama.weights()
    found = importance.collect(str(path), 1)
    read = tiny_llama._norm(
        made["model.embed_tokens.weight"][[token for window in few for token in window]],
        made["model.layers.0.input_layernorm.weight"],
    )
    for name in ("attn_q", "attn_k", "attn_v"):
        assert found[f"blk.0.{name}.weight"] == pytest.approx((read**2).mean(0), rel=1e-4)
    assert {name.split(".")[2] for name in found} == {
        "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down",
    }  # fmt: skip
    assert {len(value) for name, value in found.items() if "ffn_down" in name} == {
        len(made["model.layers.0.mlp.down_proj.weight"].T)
    }


def test_experts_have_rows_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the tokens that were sent to them, two of eight a token; one that got none counts every input alike."""
    tensors, more = SOURCES["eight experts, tied"]
    path = write(tmp_path / "mixture.gguf", tensors, **more)
    taken: list[importance.Importance] = []
    made = importance.Importance.__init__
    monkeypatch.setattr(importance.Importance, "__init__", lambda self: (made(self), taken.append(self))[0])
    monkeypatch.setattr(importance, "windows", lambda vocab: [list(range(3, 35))])
    found = importance.collect(str(path), 1)
    (seen,) = taken
    name = next(name for name in found if "ffn_down_exps" in name)
    assert seen.counts[name].sum() == 2 * 32
    rows = found[name].reshape(8, -1)
    assert np.isfinite(rows).all()
    for expert, count in enumerate(seen.counts[name]):
        assert (rows[expert] == 1).all() == (count == 0)


@pytest.mark.parametrize("scheme", WITH_MATRIX)
@pytest.mark.parametrize("name", list(SOURCES))
def test_the_quantizer_writes_what_is_planned_with_a_matrix(
    name: str, scheme: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """IQ4's first layers need no more bits then."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    tensors, more = SOURCES[name]
    source = write(tmp_path / "source.gguf", tensors, **more)
    header = gguf_file.read(source)
    made = gguf_file.read(locate.locate(request(source, scheme)).path)
    described = gguf_model.config([header])
    assert {t.name: t.type for t in made.tensors} == {t.name: t.type for t in gguf_layout.tensors(described, scheme)}
    assert gguf_layout.weights_bytes(described, scheme) == made.bytes


def test_a_row_says_on_which_text_its_matrix_was_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And lies in a file of its own, beside that without one, whose bytes it has and whose values it has not."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    path = tiny_llama.write_gguf(tmp_path / "tiny.gguf")
    plain, with_matrix = (load(path, f"gguf-q4_k_m{end}") for end in ("", "-imatrix"))
    assert [c.kind for c in plain.caveats if c.kind == "calibrated"] == []
    (told,) = (c for c in with_matrix.caveats if c.kind == "calibrated")
    assert told.text.startswith("its importance matrix was made on at most 32 windows of 256 tokens of this project's")
    assert f"sha256 {gptq.calibration_sha256()}" in told.text
    tokens = tiny_llama.encode("the fox on a quick law")
    assert plain.census().bytes_by_storage == with_matrix.census().bytes_by_storage
    assert not np.array_equal(plain.log_probs(tokens), with_matrix.log_probs(tokens))
    for engine in (plain, with_matrix):
        engine.close()


def test_there_is_none_of_random_weights_nor_of_a_repository_s_file() -> None:
    """Nothing to calibrate; and what a repository holds was made by somebody else."""
    from builders import make_cell, make_model

    from bench.records.record import Provenance

    asked = request(Path("none"), WITH_MATRIX[0], weights=Weights.RANDOM)
    with pytest.raises(Unsupported, match="there is nothing to calibrate here"):
        locate.locate(asked)
    model = make_model(gguf_repo="tests/gguf", gguf_file="{type}.gguf")
    found = command(model, Provenance(source="tests/gguf/f.gguf"), make_cell(scheme=WITH_MATRIX[0], settings={}))
    assert found is None
    assert {BACKEND.scheme(name) is not None for name in WITH_MATRIX} == {True}


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing half is left in the cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    path = tiny_llama.write_gguf(tmp_path / "stranger.gguf", architecture="nonsense")
    with pytest.raises(UserError, match=r"llama.cpp could not make .*imatrix.*unknown model architecture"):
        locate.locate(request(path, WITH_MATRIX[0]))
    assert not [file for file in (tmp_path / "cache").rglob("*") if file.is_file()]
