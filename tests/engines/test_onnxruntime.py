# SPDX-License-Identifier: Apache-2.0
"""The ONNX Runtime engine where it differs from others: proven exports or nothing, levels by name, what files hold."""

from __future__ import annotations

import errno
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tiny_llama
from contenders import CONTENDERS

from bench.engines.contract import LoadRequest, Row, Unsupported
from bench.engines.registry import backend
from bench.errors import UserError
from bench.paths import cache_folder
from bench.records.cell import Precision, Weights

(CONTENDER,) = (contender for contender in CONTENDERS if contender.backend == "onnxruntime")
pytestmark = pytest.mark.skipif(bool(CONTENDER.lacks()), reason=CONTENDER.lacks())
TEXT = "The quick brown fox jumps over the lazy dog, 42 times; then it's done. Round the corner."
FILES = {
    "ort-fp32": {"float32"}, "ort-fp16": {"float16"}, "ort-int8": {"float32", "uint8"},
    "ort-int4-acc4": {"float32", "uint8"},
}  # fmt: skip
SIZE = tiny_llama.HIDDEN * len(tiny_llama.vocabulary())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the tiny llama in every scheme, and its checkpoint beside it."""
    root = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(root / "cache"))
        tiny_llama.write_checkpoint(root / "tiny")
        for scheme in FILES:
            backend("onnxruntime").prepare(request(root / "tiny", scheme))
    return root


@pytest.fixture
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose cache holds nothing."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture
def tiny(exported: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The checkpoint, whose exports are in the cache."""
    monkeypatch.setenv("BENCH_CACHE", str(exported / "cache"))
    return exported / "tiny"


def request(path: Path, scheme: str, **changes) -> LoadRequest:
    found = backend("onnxruntime").scheme(scheme)
    assert found is not None
    return replace(CONTENDER.request(path, Precision.FP32), scheme=found, **changes)


def load(path: Path, scheme: str, **changes):
    asked = request(path, scheme, **changes)
    backend("onnxruntime").prepare(asked)
    return backend("onnxruntime").load(asked)


def folder_of(path: Path, scheme: str) -> Path:
    from bench.engines.onnxruntime.locate import locate

    return locate(request(path, scheme)).folder


def made() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "weights").glob("onnxruntime-*"))


@pytest.mark.parametrize("scheme", FILES)
def test_files_hold_the_types_of_their_scheme(tiny: Path, scheme: str) -> None:
    """Whatever was asked for: of quantized ones the table is float32 and the head is rounded."""
    from bench.engines.onnxruntime import census

    held = census.count(folder_of(tiny, scheme))
    least = {kind for kind, size in held.bytes_by_storage.items() if size > 10_000}
    assert least == FILES[scheme]
    assert held.embedding_bytes == SIZE * (2 if scheme == "ort-fp16" else 4)
    assert held.linear_weights == sum(v.size for k, v in tiny_llama.weights().items() if "_proj" in k)
    assert held.left_out == ()


def test_a_group_of_four_bits_takes_what_the_scheme_says(tiny: Path) -> None:
    """64 weights share a float32 scale and a 4-bit zero point; a row of eight bits a scale and a zero point."""
    from bench.engines.onnxruntime import census

    four, eight = (census.count(folder_of(tiny, scheme)) for scheme in ("ort-int4-acc4", "ort-int8"))
    assert four.linear_bits == 4 + (32 + 4) / 64
    rows = {name: v.shape[0] for name, v in tiny_llama.weights().items() if "_proj" in name}
    assert eight.linear_bits == pytest.approx(8 + 40 * sum(rows.values()) / eight.linear_weights)


@pytest.mark.parametrize("scheme", FILES)
def test_bytes_are_predicted_of_the_architecture(tiny: Path, scheme: str) -> None:
    """All but a few numbers that an export adds: frequencies, shapes."""
    from bench.engines.onnxruntime import census, layout

    found = backend("onnxruntime").scheme(scheme)
    assert found is not None
    held = census.count(folder_of(tiny, scheme)).total_bytes
    assert 0 <= held - layout.weights_bytes(tiny_llama.config(), found) < 2000


def test_an_export_is_proven_on_a_text_and_says_how_near_it_is(tiny: Path) -> None:
    """Hundreds of tokens, or as many as the model has positions."""
    told = json.loads((folder_of(tiny, "ort-int4-acc4") / "proof.json").read_text())
    assert told["tokens"] == tiny_llama.CONTEXT - 1
    assert 0 < told["mean_nat"] < 1e-4
    assert told["causal"] is True


def test_an_export_of_another_model_is_refused(tiny: Path) -> None:
    """With how far it is, and no proof is written."""
    from bench.engines.onnxruntime import export
    from bench.engines.weights.files import Refused

    tokens = tiny_llama.encode(TEXT)
    other = tiny_llama.log_probs([*tokens, 0]) + 0.01
    with pytest.raises(Refused, match=r"the exported file is not the model: 0\.01 nats from transformers"):
        export.prove(folder_of(tiny, "ort-fp32"), tokens, other, sees_all=True)


def test_a_failed_export_leaves_nothing(empty: Path) -> None:
    """Half a checkpoint: the user's to mend, and no half model in the cache."""
    folder = tiny_llama.write_checkpoint(empty / "half")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="half has a damaged weight file"):
        load(folder, "ort-int8")
    assert made() == []


def test_a_full_disk_leaves_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen before anything is written, with what is needed and where."""
    folder = tiny_llama.write_checkpoint(empty / "tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"GiB are to be written into .*, where 0\.0 GiB are free"):
        load(folder, "ort-fp32")
    assert made() == []


def test_a_weight_file_that_was_cut_short_is_a_full_disk(tiny: Path, tmp_path: Path) -> None:
    """The graph says how long it is, and a full disk may be met without a word."""
    from bench.engines.onnxruntime import files

    copy = shutil.copytree(folder_of(tiny, "ort-int8"), tmp_path / "copy")
    files.check_written(copy)
    weights = copy / files.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(OSError, match="No space left") as caught:
        files.check_written(copy)
    assert caught.value.errno == errno.ENOSPC


def test_a_level_of_accuracy_is_what_the_scheme_is_called(tiny: Path) -> None:
    """Both read one file; level 4 rounds activations, level 1 is what the same weights are at float32, bit for bit."""
    tokens = tiny_llama.encode(TEXT)
    exact, rounding = (load(tiny, f"ort-int4-acc{level}") for level in (1, 4))
    assert exact.folder == rounding.folder
    assert [engine.census().compute for engine in (exact, rounding)] == ["fp32", "int8"]
    with rounding.dequantized() as own:
        assert own is not None
        assert own.census().compute == "fp32"
        assert np.array_equal(own.log_probs(tokens), exact.log_probs(tokens))
    assert np.abs(rounding.log_probs(tokens) - exact.log_probs(tokens)).max() > 1e-2
    for engine in (exact, rounding):
        engine.close()


@pytest.mark.parametrize("level", [2, 3])
def test_levels_between_are_no_schemes_for_they_compute_as_level_1(tiny: Path, tmp_path: Path, level: int) -> None:
    """To the last bit on a CPU, and who asks for one is told so."""
    import onnx

    from bench.engines.onnxruntime import files
    from bench.engines.onnxruntime.reader import Reader
    from bench.engines.onnxruntime.session import opened

    copy = shutil.copytree(folder_of(tiny, "ort-int4-acc4"), tmp_path / "copy")
    graph = files.graph(copy)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = level
    onnx.save_model(graph, copy / files.MODEL)
    tokens = tiny_llama.encode(TEXT)
    found, first = (
        Reader(opened(copy / name, 1)).read([tokens], range(len(tokens))) for name in (files.MODEL, files.WIDENED)
    )
    assert np.array_equal(found, first)
    assert "float32, as level 1" in backend("onnxruntime").lacks[f"ort-int4-acc{level}"]


def test_float16_weights_are_multiplied_as_float32(tiny: Path, tmp_path: Path) -> None:
    """A float32 checkpoint of the same rounded values gives the same bits."""
    from safetensors.numpy import load_file, save_file

    tokens = tiny_llama.encode(TEXT)
    halved = load(tiny, "ort-fp16")
    found, kinds = halved.log_probs(tokens), [caveat.kind for caveat in halved.caveats]
    halved.close()
    folder = tiny_llama.write_checkpoint(tmp_path / "rounded")
    tensors = load_file(folder / "model.safetensors")
    rounded = {name: value.astype(np.float16).astype(np.float32) for name, value in tensors.items()}
    save_file(rounded, folder / "model.safetensors", {"format": "pt"})
    wide = load(folder, "ort-fp32")
    assert np.array_equal(found, wide.log_probs(tokens))
    assert kinds == ["computed_wider"]
    wide.close()


def rows(tokens: list[int]) -> list[Row]:
    """Few-shot items: a long beginning that all share, contexts that some share."""
    begin = tuple((tokens * 3)[:80])
    return [
        Row((*begin, *tokens[at : at + 6]), tuple(tokens[end : end + 3])) for at in (0, 5, 9, 14) for end in (3, 20, 30)
    ]


@pytest.mark.parametrize("scheme", ["ort-fp32", "ort-int4-acc4"])
def test_shared_beginnings_and_padding_give_what_each_row_gives(tiny: Path, scheme: str) -> None:
    """Packed into trees behind a beginning that is read once, padded in batches, or each by itself."""
    engine = load(tiny, scheme)
    assert engine.refuted() is None
    assert engine.trees
    asked = rows(engine.encode(TEXT))
    packed = engine.score(asked)
    plain = load(tiny, scheme, plain_scoring=True).score(asked)
    for row, one, other in zip(asked, packed, plain, strict=True):
        text = [*row.context, *row.continuation]
        found = engine.log_probs(text)[len(row.context) - 1 :]
        wanted = found[np.arange(3), list(row.continuation)]
        assert one.log_probs == pytest.approx(wanted, abs=1e-3)
        assert other.log_probs == pytest.approx(wanted, abs=1e-3)
    engine.close()


def test_one_scale_for_a_pass_is_no_reading_ahead(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On the default model a last token changed moves int8's earlier predictions as much as a first token changed."""
    monkeypatch.setattr("bench.engines.exported.engine.SAME", -1.0)
    assert load(tiny, "ort-int8").refuted() is None
    assert load(tiny, "ort-fp32").refuted() == "each token is read together with those after it: it predicts none"


@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
def test_other_families_are_what_transformers_computes(kind: str, empty: Path) -> None:
    """Learned positions and windows: exported, proven, and scored whichever way they allow."""
    import tiny
    import torch

    folder = tiny.checkpoint(empty, kind)
    engine = load(folder, "ort-fp32")
    assert engine.refuted() is None
    tokens = [(7 * index + 5) % 250 + 3 for index in range(24)]
    assert engine.trees == (kind == "gpt2")
    with torch.inference_mode():
        wanted = torch.log_softmax(tiny.model(kind)(torch.tensor([tokens[:-1]])).logits[0], -1).numpy()
    assert np.abs(engine.log_probs(tokens) - wanted).max() < 1e-3
    scores = engine.score([Row(tuple(tokens[:9]), tuple(tokens[9:12])), Row(tuple(tokens[:9]), tuple(tokens[12:15]))])
    assert scores[0].log_probs == pytest.approx(wanted[np.arange(8, 11), tokens[9:12]], abs=1e-3)
    engine.close()


def test_a_tied_head_is_one_tensor_at_float32_and_has_its_own_when_rounded(empty: Path) -> None:
    """A second copy is counted: the table that is looked up stays at float32."""
    import tiny

    folder = tiny.save(tiny.model("llama", tie_word_embeddings=True), empty / "tied")
    table = tiny.VOCABULARY * 64
    whole, rounded = (load(folder, scheme) for scheme in ("ort-fp32", "ort-int8"))
    parameters = sum(p.numel() for p in tiny.model("llama", tie_word_embeddings=True).parameters())
    assert whole.census().bytes_by_storage["float32"] == pytest.approx(4 * parameters, rel=0.01)
    assert (whole.census().embedding_bytes, rounded.census().embedding_bytes) == (0, 4 * table)
    linear = rounded.census().linear_weights
    assert rounded.census().bytes_by_storage["uint8"] == pytest.approx(linear + table, rel=0.05)
    assert rounded.census().left_out == ()
    for engine in (whole, rounded):
        engine.close()


SCALED = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
          "original_max_position_embeddings": 32}  # fmt: skip


def test_a_configuration_of_transformers_5_keeps_its_rotary_positions(empty: Path) -> None:
    """Transformers 4 takes `rope_parameters` for nothing: an export of it would be proven against the same mistake."""
    told, tokens = {}, tiny_llama.encode(TEXT)
    for name, more in (
        ("plain", {}),
        ("four", {"rope_theta": 500.0, "rope_scaling": SCALED}),
        ("five", {"rope_parameters": {"rope_theta": 500.0, **SCALED}}),
    ):
        folder = tiny_llama.write_checkpoint(empty / name)
        file = folder / "config.json"
        config = json.loads(file.read_text())
        if more:
            del config["rope_theta"]
        file.write_text(json.dumps(config | more))
        engine = load(folder, "ort-fp32")
        told[name] = engine.log_probs(tokens)
        engine.close()
    assert np.array_equal(told["four"], told["five"])
    assert np.abs(told["four"] - told["plain"]).max() > 0.1


def test_positions_for_each_kind_of_layer_are_refused() -> None:
    """They have no words in transformers 4."""
    from bench.engines.onnxruntime.export import older
    from bench.engines.weights.files import Refused

    kinds = {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}
    with pytest.raises(Refused, match="rotary positions of their own for each kind of layer"):
        older({"model_type": "gemma3_text", "rope_parameters": kinds})


def test_a_checkpoint_that_lacks_a_tensor_is_refused_by_its_name(empty: Path) -> None:
    """Transformers would make one up, and an export would be proven against it."""
    from safetensors.numpy import load_file, save_file

    folder = tiny_llama.write_checkpoint(empty / "lacking")
    tensors = load_file(folder / "model.safetensors")
    del tensors["model.layers.1.mlp.up_proj.weight"]
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match=r"finds no model\.layers\.1\.mlp\.up_proj\.weight in this llama"):
        load(folder, "ort-fp32")
    assert made() == []


def test_weights_beyond_float16_are_refused(empty: Path) -> None:
    """They would be infinite."""
    from safetensors.numpy import load_file, save_file

    folder = tiny_llama.write_checkpoint(empty / "large")
    tensors = load_file(folder / "model.safetensors")
    tensors["model.layers.1.mlp.up_proj.weight"] *= 1e6
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(Unsupported, match="holds weights beyond what float16 can"):
        load(folder, "ort-fp16")
    assert [name.rpartition("-ort-")[2] for name in made()] == ["fp32"]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [({"objective": "seq2seq"}, "seq2seq models are not exported"), ({}, "random weights are not built")],
)
def test_what_is_never_exported_is_left_out_of_plans(changes: dict[str, str], reason: str) -> None:
    """With the reason."""
    model = CONTENDER.request(Path(), Precision.FP32).model.model_copy(update=changes)
    weights = Weights.LOCAL if changes else Weights.RANDOM
    assert reason in str(backend("onnxruntime").refuses(model, weights))
    assert backend("onnxruntime").refuses_kv(model, "int4")
