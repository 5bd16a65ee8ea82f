# SPDX-License-Identifier: Apache-2.0
"""llama.cpp's own quantizer writes what is planned of it: mixtures, fused projections, rows that do not divide."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s tests-llamacpp has it")
pytest.importorskip("gguf")

from gguf_files import shapes, write
from tiny_gguf import config, load, request

from bench.catalog import gguf_file, gguf_model
from bench.engines.contract import Unsupported
from bench.engines.llamacpp import BACKEND, gguf_layout, locate, random_weights
from bench.engines.llamacpp.quantizer import MATRIX, OF_EXPERTS

SCHEMES = [s.name for s in BACKEND.schemes if not s.name.endswith(MATRIX) and s.name != OF_EXPERTS]
"""Those with an importance matrix are tried in test_importance.py."""
EIGHT = {"llama__expert_count": 8, "llama__expert_used_count": 2}
FOUR = EIGHT | {"llama__expert_count": 4}
SOURCES = {
    "eight experts": (shapes(experts=8, layers=9), EIGHT),
    "four experts": (shapes(experts=4, layers=9), FOUR),
    "eight experts, tied": (shapes(experts=8, tied=True), EIGHT),
    "rows of 96": (shapes(width=96, inner=160), {}),
    "rows of 100": (shapes(width=100, inner=300), {}),
    "eight experts, rows of 96": (shapes(experts=8, width=96, inner=160), EIGHT),
    "four queries a key": (
        {
            name: (64, 256) if "attn_k" in name or "attn_v" in name else shape
            for name, shape in shapes(layers=17).items()
        },
        {"llama__attention__head_count_kv": 1},
    ),
    "an inner width of 100": (shapes(width=96, inner=100), {}),
}


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    """Each source written once, and a cache for what is made of it."""
    folder = tmp_path_factory.mktemp("sources")
    made = {name: write(folder / f"{name}.gguf", tensors, **more) for name, (tensors, more) in SOURCES.items()}
    for kind in ("bloom", "gpt2", "gpt_neox", "gemma3_text", "qwen3"):
        made[kind] = folder / f"{kind}.gguf"
        random_weights.write(made[kind], config(kind) | {"num_hidden_layers": 16}, "gguf-f32")
    return made


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("name", [*SOURCES, "bloom", "gpt2", "gpt_neox", "gemma3_text", "qwen3"])
def test_the_quantizer_writes_what_is_planned_of_the_header(sources, tmp_path, monkeypatch, name, scheme):
    """Every tensor's type, hence every byte, and never more than the room that is kept free for it."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    header = gguf_file.read(sources[name])
    made = gguf_file.read(locate.locate(request(sources[name], scheme)).path)
    described = gguf_model.config([header])
    planned = {t.name: (t.shape, t.type) for t in gguf_layout.tensors(described, scheme)}
    assert {t.name: (t.shape, t.type) for t in made.tensors} == planned
    assert gguf_layout.weights_bytes(described, scheme) == made.bytes
    assert locate.room(header, scheme) >= made.bytes


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", sorted(set(gguf_layout.ARCHITECTURES) - {"mistral", "smollm3"}))
def test_random_weights_have_the_types_that_the_quantizer_chooses(tmp_path, monkeypatch, kind, scheme):
    """What is written from an architecture alone has the size of what a user would make of real weights."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    source = tmp_path / "source.gguf"
    random_weights.write(source, config(kind), "gguf-f32")
    made = gguf_file.read(locate.locate(request(source, scheme)).path)
    assert made.bytes == gguf_layout.weights_bytes(config(kind), scheme)


@pytest.mark.parametrize("name", ["eight experts", "four experts", "eight experts, tied"])
def test_experts_alone_become_mxfp4(sources, tmp_path, monkeypatch, name):
    """All else is Q8_0, the head and tied embeddings too; the census agrees, and the model runs."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    described = gguf_model.config([gguf_file.read(sources[name])])
    made = gguf_file.read(locate.locate(request(sources[name], OF_EXPERTS)).path)
    assert {t.name: t.type for t in made.tensors} == {
        t.name: t.type for t in gguf_layout.tensors(described, OF_EXPERTS)
    }
    assert {t.type for t in made.tensors if len(t.shape) == 3} == {"MXFP4"}
    assert made.file_type == "MXFP4_MOE"
    engine = load(sources[name], OF_EXPERTS)
    assert engine.census().contradiction(BACKEND.scheme(OF_EXPERTS)) is None
    assert np.isfinite(engine.log_probs(engine.encode("some words"))).all()
    engine.close()


def test_a_model_without_experts_has_no_mxfp4(sources, tmp_path, monkeypatch):
    """Its file would be Q8_0 throughout and call itself MXFP4."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    with pytest.raises(Unsupported, match="MXFP4 of a mixture's experts alone, and this model has none"):
        locate.locate(request(sources["rows of 96"], OF_EXPERTS))


@pytest.mark.parametrize(
    ("name", "scheme", "figures", "reason"),
    [
        (
            "an inner width of 100",
            "gguf-q8_0",
            "gguf-q8_0 asks for 95% of linear weights quantized, 83.0% are",
            "blk.0.ffn_down.weight has rows of 100, which 32 does not divide, so llama.cpp stores it as F16",
        ),
        (
            "rows of 96",
            "gguf-q6_k",
            "gguf-q6_k asks for 7 bits a linear weight, found 8.50",
            "blk.0.attn_k.weight has rows of 96, which 256 does not divide, so llama.cpp stores it as Q8_0",
        ),
    ],
)
def test_a_file_whose_rows_do_not_divide_says_so_by_name_and_width(
    sources, tmp_path, monkeypatch, name, scheme, figures, reason
):
    """The quantizer falls back without a word, and the file still calls itself Q8_0: the reason is in the shapes."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    engine = load(sources[name], scheme)
    assert engine.census().contradiction(BACKEND.scheme(scheme)) == f"{figures}: {reason}"
    engine.close()


def test_a_record_says_why_its_file_is_not_what_it_is_called(sources, tmp_path):
    """No second try changes it, so it is unsupported, in one line and without a traceback."""
    done = subprocess.run(
        [
            sys.executable, "-m", "bench", "run", "--backend", "llamacpp", "--device", "cpu", "--suite", "memory",
            "--weights", f"local={sources['an inner width of 100']}", "--scheme", "gguf-q8_0", "--profile", "smoke",
            "--quiet", "--results", tmp_path / "r",
        ],
        env=os.environ | {"BENCH_CACHE": str(tmp_path / "cache")}, check=False, capture_output=True, text=True,
    )  # fmt: skip
    (path,) = (tmp_path / "r").glob("*/*/*/memory/*.json")
    outcome = json.loads(path.read_text())["outcome"]
    assert (done.returncode, outcome["ending"], outcome["detail"]) == (0, "unsupported", "")
    assert "blk.0.ffn_down.weight has rows of 100" in outcome["reason"]


def test_a_mixture_runs_and_its_census_tells_its_experts_apart(sources, tmp_path, monkeypatch):
    """All of them are held, two of eight are read for a token; bytes and cache are those that were planned."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    engine = load(sources["eight experts"], "gguf-q8_0")
    census, described = engine.census(), gguf_model.config([gguf_file.read(sources["eight experts"])])
    assert census.contradiction(BACKEND.scheme("gguf-q8_0")) is None
    assert census.expert_weights == 9 * 8 * 3 * 512 * 256
    assert census.expert_bytes == census.expert_weights * 34 // 32
    assert census.expert_share == 0.25
    assert census.multiplied_weights == census.linear_weights - 0.75 * census.expert_weights
    generation = engine.prefill([engine.encode("some words")])
    generation.step()
    assert generation.cache_bytes == gguf_layout.cache_bytes(described, generation.cache_tokens)
    assert census.total_bytes == BACKEND.footprint(described, BACKEND.scheme("gguf-q8_0"), 9, 9).weights_bytes
    generation.close()
    engine.close()


def test_heads_that_differ_by_layer_run_and_are_counted(tmp_path):
    """One and two pairs of heads: the loaded engine's cache is the header's sum."""
    tensors = shapes() | {"blk.1.attn_k.weight": (64, 256), "blk.1.attn_v.weight": (64, 256)}
    path = write(tmp_path / "m.gguf", tensors, "deci", deci__attention__head_count_kv=[2, 1])
    engine = load(path)
    generation = engine.prefill([engine.encode("some words")])
    assert generation.cache_bytes == 2 * 2 * 3 * 64 * generation.cache_tokens
    generation.close()
    engine.close()
