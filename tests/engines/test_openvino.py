# SPDX-License-Identifier: Apache-2.0
"""The OpenVINO engine where it differs from others: exports that are proven or leave nothing, ways set by name."""

from __future__ import annotations

import errno
import hashlib
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

(CONTENDER,) = (contender for contender in CONTENDERS if contender.backend == "openvino")
pytestmark = pytest.mark.skipif(bool(CONTENDER.lacks()), reason=CONTENDER.lacks())
TEXT = "The quick brown fox jumps over the lazy dog, 42 times; then it's done. Round the corner."
FILES = {
    "ov-fp32": {"float32"}, "ov-fp16": {"float16"}, "ov-int8": {"u8", "float16"}, "ov-int4": {"u4", "u8", "float16"}
}  # fmt: skip


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache with the tiny llama in every scheme, and its checkpoint beside it."""
    root = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BENCH_CACHE", str(root / "cache"))
        tiny_llama.write_checkpoint(root / "tiny")
        for scheme in FILES:
            backend("openvino").prepare(request(root / "tiny", scheme))
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
    found = backend("openvino").scheme(scheme)
    assert found is not None
    return replace(CONTENDER.request(path, Precision.FP32), scheme=found, **changes)


def load(path: Path, scheme: str, **changes):
    asked = request(path, scheme, **changes)
    backend("openvino").prepare(asked)
    return backend("openvino").load(asked)


def made() -> list[str]:
    return sorted(path.name for path in (cache_folder() / "weights").glob("openvino-*"))


@pytest.mark.parametrize("scheme", FILES)
def test_files_hold_the_types_of_their_scheme(tiny: Path, scheme: str) -> None:
    """Embeddings and the head too; the census is read from the file, whatever was asked for."""
    from bench.engines.openvino import census
    from bench.engines.openvino.locate import locate

    held = census.count(locate(request(tiny, scheme)).folder, "fp32")
    wide = {"float32"} if scheme.startswith("ov-int") else set()  # norms
    assert {kind for kind in held.bytes_by_storage if kind not in {"i64", "i32", "boolean"}} - wide <= FILES[scheme] | {
        "float32"
    }
    assert FILES[scheme] <= set(held.bytes_by_storage)
    size = tiny_llama.HIDDEN * len(tiny_llama.vocabulary())
    bits = {"ov-fp32": 32, "ov-fp16": 16}.get(scheme, 8)
    assert held.embedding_bytes >= size * bits // 8
    assert held.linear_weights == sum(v.size for k, v in tiny_llama.weights().items() if "_proj" in k)


def test_four_bit_groups_are_what_the_scheme_says(tiny: Path) -> None:
    """64 weights share a float16 scale and a 4-bit zero point."""
    from bench.engines.openvino import census
    from bench.engines.openvino.locate import locate

    held = census.count(locate(request(tiny, "ov-int4")).folder, "int8")
    assert held.linear_bits == pytest.approx(4 + (16 + 4) / 64)
    assert held.linear_quantized == held.linear_weights


@pytest.mark.parametrize("scheme", FILES)
def test_bytes_are_predicted_of_the_architecture(tiny: Path, scheme: str) -> None:
    """All but a few numbers that an export adds: a table of frequencies, shapes."""
    from bench.engines.openvino import census, layout
    from bench.engines.openvino.locate import locate

    found = backend("openvino").scheme(scheme)
    assert found is not None
    held = census.count(locate(request(tiny, scheme)).folder, "fp32").total_bytes
    assert 0 <= held - layout.weights_bytes(tiny_llama.config(), found) < 1000


@pytest.mark.parametrize(
    ("kv", "size"), [(None, 4.0), ("fp16", 2.0), ("int8", 1.0), ("int4", 0.5), ("int8/int4", 0.75), ("fp16/int8", 1.5)]
)
def test_bytes_of_a_cache_follow_what_is_asked_of_keys_and_of_values(kv: str | None, size: float) -> None:
    """Numbers of the tiny llama at 50 positions; float32 where nothing is asked of a float32 row."""
    from bench.engines.openvino import layout

    found = backend("openvino").scheme("ov-fp32")
    assert found is not None
    numbers = 50 * 2 * tiny_llama.LAYERS * tiny_llama.KV_HEADS * tiny_llama.HEAD
    told = layout.footprint(tiny_llama.config(), found, 40, 10, {"kv": kv} if kv else {})
    assert told.kv_bytes == size * numbers


def test_an_export_is_proven_on_a_text_and_says_how_near_it_is(tiny: Path) -> None:
    """Hundreds of tokens, or as many as the model has positions."""
    from bench.engines.openvino.locate import locate

    told = json.loads((locate(request(tiny, "ov-int4")).folder / "proof.json").read_text())
    assert told["tokens"] == tiny_llama.CONTEXT - 1
    assert 0 < told["mean_nat"] < 1e-4


def test_an_export_of_another_model_is_refused(tiny: Path) -> None:
    """With how far it is, and no proof is written."""
    from bench.engines.openvino import export
    from bench.engines.openvino.locate import locate
    from bench.engines.weights.files import Refused

    folder = locate(request(tiny, "ov-fp32")).folder
    tokens = tiny_llama.encode(TEXT)
    other = tiny_llama.log_probs([*tokens, 0])
    other[:, :] += 0.01
    with pytest.raises(Refused, match=r"the exported file is not the model: 0\.01 nats from transformers"):
        export.prove(folder, tokens, other)


def test_a_failed_export_leaves_nothing(empty: Path) -> None:
    """Half a checkpoint: the user's to mend, and no half model in the cache."""
    folder = tiny_llama.write_checkpoint(empty / "half")
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(UserError, match="half has a damaged weight file"):
        load(folder, "ov-int8")
    assert made() == []


def test_a_full_disk_leaves_nothing(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seen before anything is written, with what is needed and where."""
    folder = tiny_llama.write_checkpoint(empty / "tiny")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 10, 0))
    with pytest.raises(UserError, match=r"GiB are to be written into .*, where 0\.0 GiB are free"):
        load(folder, "ov-fp32")
    assert made() == []


def test_a_weight_file_that_was_cut_short_is_a_full_disk(tiny: Path, tmp_path: Path) -> None:
    """The graph says how long it is, and a full disk may be met without a word."""
    from bench.engines.openvino import files
    from bench.engines.openvino.locate import locate

    copy = shutil.copytree(locate(request(tiny, "ov-int8")).folder, tmp_path / "copy")
    files.check_written(copy)
    weights = copy / files.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-1])
    with pytest.raises(OSError, match="No space left") as caught:
        files.check_written(copy)
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize(
    ("scheme", "kv", "kept_in", "compute"),
    [
        ("ov-fp32", None, "fp32", "fp32"),
        ("ov-fp16", None, "fp16", "fp32"),
        ("ov-int8", None, "fp16", "int8"),
        ("ov-int4", "int8", "int8", "int8"),
        ("ov-fp32", "fp16", "fp16", "fp32"),
        ("ov-fp32", "int4", "int4", "fp32"),
        ("ov-fp16", "fp16/int4", "fp16/int4", "fp32"),
    ],
)
def test_keys_and_products_are_what_the_compiled_model_says(
    tiny: Path, scheme: str, kv: str | None, kept_in: str, compute: str
) -> None:
    """Set by name, never what the file carries or the library takes unasked."""
    engine = load(tiny, scheme, kv=kv)
    generation = engine.prefill([engine.encode(TEXT)])
    heads = tiny_llama.LAYERS * tiny_llama.KV_HEADS
    widths = {"fp32": 4 * tiny_llama.HEAD, "fp16": 2 * tiny_llama.HEAD, "int8": tiny_llama.HEAD + 8}
    widths["int4"] = tiny_llama.HEAD // 2 + 8  # a scale and a zero point behind each head's
    size = sum(heads * widths[one] for one in (kept_in if "/" in kept_in else f"{kept_in}/{kept_in}").split("/"))
    assert (generation.kept_in, generation.cache_bytes) == (kept_in, size * generation.cache_tokens)
    assert engine.census().compute == compute
    generation.close()
    engine.close()


def test_reading_through_an_8_bit_cache_costs_something_and_through_its_own_nothing(tiny: Path) -> None:
    """Piece by piece, as a cache is judged."""
    engine = load(tiny, "ov-fp32", kv="int8")
    tokens = engine.encode(TEXT)
    keep = list(range(len(tokens) - 1))
    own, asked = (engine.log_probs_in_pieces(tokens, 4, keep, own_cache=own) for own in (True, False))
    exact = tiny_llama.log_probs(tokens)
    assert np.abs(own - exact).max() < 1e-3
    assert np.abs(asked - exact).max() > 1e-3
    engine.close()


def test_what_a_device_computes_otherwise_is_refused_in_one_line() -> None:
    """Bfloat16 where there is none, and other keys and values than asked, which OpenVINO takes without a word."""
    from bench.engines.openvino.compiled import WAYS, Way, check

    with pytest.raises(Unsupported, match=r"^this CPU multiplies no bf16: OpenVINO would compute in fp32$"):
        check(WAYS["ov-bf16"], Way("f32", "f16", "f16", 0))
    with pytest.raises(Unsupported, match=r"^OpenVINO keeps keys and values as fp32 here, not as int8$"):
        check(Way("f32", "u8", "u8", 0), Way("f32", "f32", "f32", 0))
    with pytest.raises(Unsupported, match=r"^OpenVINO keeps keys and values as int8 here, not as int8/int4$"):
        check(Way("f32", "u8", "u4", 0), Way("f32", "u8", "u8", 0))


def rows(tokens: list[int]) -> list[Row]:
    """Few-shot items: a long beginning that all share, contexts that some share."""
    begin = tuple((tokens * 3)[:80])
    return [
        Row((*begin, *tokens[at : at + 6]), tuple(tokens[end : end + 3])) for at in (0, 5, 9, 14) for end in (3, 20, 30)
    ]


@pytest.mark.parametrize("scheme", ["ov-fp32", "ov-int8"])
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
        near = CONTENDER.noise[Precision.FP32] if scheme == "ov-fp32" else CONTENDER.noise[Precision.INT8]
        assert one.log_probs == pytest.approx(wanted, abs=near)
        assert other.log_probs == pytest.approx(wanted, abs=near)
    engine.close()


def test_a_long_row_is_read_in_parts_that_leave_few_logits(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And its scores are those of one pass."""
    from bench.engines.exported import tree_scoring

    engine = load(tiny, "ov-fp32")
    tokens = engine.encode(TEXT)
    row = Row(tuple(tokens[:1]), tuple(tokens[1:]))
    whole = engine.score([row])[0]
    monkeypatch.setattr(tree_scoring, "LOGITS", 7 * engine.vocabulary)
    parts = engine.score([row])[0]
    assert parts.log_probs == pytest.approx(whole.log_probs, abs=1e-4)
    engine.close()


@pytest.mark.parametrize("kind", ["gpt2", "mistral"])
def test_other_families_are_what_transformers_computes(kind: str, empty: Path) -> None:
    """Learned positions and windows: exported, proven, and scored whichever way they allow."""
    import tiny
    import torch

    folder = tiny.checkpoint(empty, kind)
    engine = load(folder, "ov-fp32")
    assert engine.refuted() is None
    tokens = [(7 * index + 5) % 250 + 3 for index in range(24)]
    assert engine.trees == (kind == "gpt2")
    with torch.inference_mode():
        wanted = torch.log_softmax(tiny.model(kind)(torch.tensor([tokens[:-1]])).logits[0], -1).numpy()
    assert np.abs(engine.log_probs(tokens) - wanted).max() < 1e-3
    scores = engine.score([Row(tuple(tokens[:9]), tuple(tokens[9:12])), Row(tuple(tokens[:9]), tuple(tokens[12:15]))])
    assert scores[0].log_probs == pytest.approx(wanted[np.arange(8, 11), tokens[9:12]], abs=1e-3)
    engine.close()


def test_a_tied_head_is_counted_once(empty: Path) -> None:
    """It is no table that is looked up a row at a time, for it is read whole."""
    import tiny

    folder = tiny.save(tiny.model("llama", tie_word_embeddings=True), empty / "tied")
    engine = load(folder, "ov-fp32")
    held = engine.census()
    assert held.embedding_bytes == 0
    assert held.bytes_by_storage["float32"] < 4 * 1.1 * sum(p.numel() for p in tiny.model("llama").parameters())
    engine.close()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": "seq2seq"}, "an encoder and its decoder are exported as two graphs, and this engine runs one"),
        ({"objective": "masked"}, "masked models are not exported by this backend"),
        ({}, "random weights are not built for an export"),
    ],
)
def test_what_is_never_exported_is_left_out_of_plans(changes: dict[str, str], reason: str) -> None:
    """With the reason."""
    model = CONTENDER.request(Path(), Precision.FP32).model.model_copy(update=changes)
    weights = Weights.LOCAL if changes else Weights.RANDOM
    assert backend("openvino").refuses(model, weights) == reason


def test_texts_of_a_gguf_have_the_tokens_that_its_file_defines() -> None:
    """Whichever transformers reads it: 5.5.4 makes a tokenizer of another family where it may choose the class."""
    from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select
    from bench.engines.weights.locate import locate
    from suites import probe

    (model,) = select(read_catalog(), [DEFAULT_MODEL])
    scheme = backend("openvino").scheme("ov-fp32")
    assert scheme is not None
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=scheme, device="cpu")
    from tokenizers import Tokenizer

    folder = locate(asked).folder
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    named = json.loads((folder / "tokenizer_config.json").read_text())
    assert (named["bos_token"], named["eos_token"]) == ("<|im_start|>", "<|im_end|>")
    found = [tokenizer.encode(probe.text(register), add_special_tokens=False).ids for register in probe.REGISTERS]
    assert hashlib.sha256(repr(found).encode()).hexdigest()[:12] == "34e2b10cafef"
