# SPDX-License-Identifier: Apache-2.0
"""GGUF files without llama.cpp: headers, layouts, random weights, the cache, plans. Needs numpy and gguf alone."""

import os
from types import SimpleNamespace

import pytest

pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")

from builders import make_machine

from bench.catalog import architecture, gguf_file, gguf_model
from bench.catalog.model import Model
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.llamacpp import BACKEND, gguf_cache, gguf_layout, locate, random_weights
from bench.engines.llamacpp.census import count
from bench.engines.llamacpp.quantizer import OF_EXPERTS
from bench.errors import UserError
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from bench.processes import place
from bench.records.cell import Weights

MACHINE = make_machine()
SIZES = {
    "vocab_size": 320, "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512,
}  # fmt: skip
SCHEMES = [scheme.name for scheme in BACKEND.schemes]


def config(kind, **changes):
    """A tiny architecture of that family; BLOOM and the GPTs have no grouped heads."""
    grouped = kind not in {"bloom", "gpt2", "gpt_neox"}
    sizes = {key: value for key, value in SIZES.items() if grouped or key != "num_key_value_heads"}
    return {"model_type": kind} | sizes | changes


def model(**changes):
    """An entry that may be loaded."""
    facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "kind": "open weights"}
    return Model(**(facts | changes))


def request(scheme="gguf-q4_0", **changes):
    """A request for a local file."""
    facts = {"model": model(), "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu"}
    return LoadRequest(**(facts | changes))


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """An empty cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "gguf"


@pytest.mark.parametrize("kind", sorted(gguf_layout.ARCHITECTURES))
def test_a_written_file_is_read_back_with_the_planned_tensors(tmp_path, kind):
    """Names, shapes and types are the layout's, the parameters the architecture's, and the config comes back."""
    path = tmp_path / "tiny.gguf"
    random_weights.write(path, config(kind), "gguf-q4_k_m")
    found = gguf_file.read(path)
    planned = gguf_layout.tensors(config(kind), "gguf-q4_k_m")
    assert [(t.name, t.shape, t.type) for t in found.tensors] == [(t.name, t.shape, t.type) for t in planned]
    assert found.bytes == gguf_layout.weights_bytes(config(kind), "gguf-q4_k_m")
    counted = sum(t.elements for t in found.tensors)
    assert counted == architecture.parameters(config(kind))
    own = gguf_model.config([found])
    assert gguf_model.header_in(own).elements == counted
    if own["model_type"] != gguf_model.HEADER:
        assert architecture.parameters(own) == counted
        sizes = gguf_layout.footprint({k: v for k, v in own.items() if k != gguf_model.HEADER}, "gguf-q4_k_m", 99, 9)
        assert gguf_layout.footprint(own, "gguf-q4_k_m", 99, 9) == sizes


@pytest.mark.parametrize("scheme", [name for name in SCHEMES if name != OF_EXPERTS])
def test_a_layout_is_the_scheme_it_says(tmp_path, scheme):
    """The census of a file written in a scheme does not contradict it, and contradicts the others' precisions."""
    path = tmp_path / "tiny.gguf"
    random_weights.write(path, config("llama"), scheme)
    census = count(gguf_file.read(path))
    assert census.contradiction(BACKEND.scheme(scheme)) is None
    other = "gguf-q4_0" if scheme in {"gguf-f32", "gguf-f16", "gguf-q8_0", "gguf-q6_k"} else "gguf-q8_0"
    assert census.contradiction(BACKEND.scheme(other))


def test_the_head_tied_to_the_embedding_is_counted_once_and_is_no_linear_layer(tmp_path):
    """A tied file has no output tensor; an untied one has it in the bytes, never in the linear weights."""
    for tied in (True, False):
        random_weights.write(tmp_path / "t.gguf", config("llama", tie_word_embeddings=tied), "gguf-q8_0")
        census = count(gguf_file.read(tmp_path / "t.gguf"))
        layer = 256 * (256 + 128 + 128 + 256) + 3 * 256 * 1024
        assert census.linear_weights == 4 * layer
        assert census.linear_bits == 8.5
        norms = 9 * 256 * 4
        assert census.total_bytes == (4 * layer + (1 if tied else 2) * 320 * 256) * 34 // 32 + norms
        assert census.embedding_bytes == (0 if tied else 320 * 256 * 34 // 32)


@pytest.mark.parametrize(
    ("scheme", "kind"), [("gguf-f32", "fp32"), ("gguf-f16", "fp16"), ("gguf-q8_0", "int8"), ("gguf-q4_k_m", "int8")]
)
def test_a_census_says_what_the_matrices_multiply_in(tmp_path, scheme, kind):
    """Quantized weights meet activations of 8 bits; a roof of another type is none of theirs."""
    random_weights.write(tmp_path / "t.gguf", config("llama"), scheme)
    assert count(gguf_file.read(tmp_path / "t.gguf")).compute == kind


def test_random_values_are_small_in_every_type():
    """Each type's random blocks dequantize to finite values of about 0.02 with mean near zero."""
    import gguf
    import numpy as np

    for kind in ("F32", "F16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q4_K", "Q5_K", "Q6_K"):
        blocks = random_weights.pool(kind, 1 << 14, np.random.default_rng(0))
        values = gguf.quants.dequantize(blocks, gguf.GGMLQuantizationType[kind])
        assert values.std() == pytest.approx(0.02, rel=0.1), kind
        assert abs(values.mean()) < 0.003, kind  # Q4_0 has one level more below zero than above


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (lambda data: data[: len(data) - 4096], "truncated: its header promises"),
        (lambda data: data[:100], "truncated: the header ends at byte 100"),
        (lambda data: b"PK\x03\x04" + data, "not a GGUF file: it does not begin with GGUF"),
        (lambda data: b"", "not a GGUF file: it has 0 bytes"),
    ],
)
def test_a_damaged_file_is_one_clear_line(tmp_path, cut, message):
    """Truncated in the data, truncated in the header, something else, empty: a remedy, and no traceback."""
    path = tmp_path / "whole.gguf"
    random_weights.write(path, config("llama"), "gguf-q4_0")
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(cut(path.read_bytes()))
    with pytest.raises(UserError, match=f"broken.gguf: {message}"):
        locate.locate(request(path=str(broken)))


def test_a_folder_of_ggufs_gives_the_one_stored_as_asked_else_the_widest(tmp_path):
    """Q8_0 asked for: that file; Q4_0 asked for and not there: the F16 one it would be made from."""
    for scheme in ("gguf-f16", "gguf-q8_0"):
        random_weights.write(tmp_path / f"{scheme}.gguf", config("llama"), scheme)
    assert locate._local(tmp_path, "gguf-q8_0").path.name == "gguf-q8_0.gguf"
    assert locate._local(tmp_path, "gguf-q4_0").path.name == "gguf-f16.gguf"
    with pytest.raises(UserError, match=r"holds no \.gguf file"):
        locate._local(tmp_path.parent / "nowhere", "gguf-q8_0")


def test_a_quantized_source_is_marked(tmp_path):
    """The file as found says what it is; nothing is said of a 16-bit one."""
    random_weights.write(tmp_path / "q.gguf", config("llama"), "gguf-q4_0")
    random_weights.write(tmp_path / "f.gguf", config("llama"), "gguf-f16")
    found = locate.locate(request("gguf-q4_0", path=str(tmp_path / "q.gguf")))
    assert found.provenance.stored_as == "Q4_0"
    assert [caveat.kind for caveat in found.caveats] == ["low_bit_source"]
    assert locate.locate(request("gguf-f16", path=str(tmp_path / "f.gguf"))).caveats == ()


def test_the_cache_holds_whole_files_or_none(own_cache):
    """A write that fails half-way leaves nothing, one that is refused says so, one that works is not repeated."""

    def full(path):
        path.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(UserError, match=r"cannot write a\.gguf into .*: No space left on device; free space"):
        gguf_cache.made("a.gguf", 4, full)
    assert list(own_cache.iterdir()) == []
    with pytest.raises(UserError, match="free space, or set BENCH_CACHE to a larger disk"):
        gguf_cache.made("a.gguf", 1 << 60, full)
    path = gguf_cache.made("a.gguf", 4, lambda part: part.write_bytes(b"whole"))
    assert gguf_cache.made("a.gguf", 4, full) == path
    assert path.read_bytes() == b"whole"


def test_what_a_killed_process_left_is_removed(own_cache):
    """A part of a process that is gone disappears with the next file; one of a living process stays."""
    own_cache.mkdir(parents=True)
    (own_cache / f"x.gguf.part-{place()}-999999999").write_bytes(b"half")
    (own_cache / f"y.gguf.part-{place()}-{os.getppid()}").write_bytes(b"being written")
    gguf_cache.made("a.gguf", 4, lambda part: part.write_bytes(b"whole"))
    assert sorted(path.name for path in own_cache.iterdir()) == ["a.gguf", f"y.gguf.part-{place()}-{os.getppid()}"]


def test_the_cache_keeps_its_bound_and_drops_the_least_recently_used(own_cache, monkeypatch):
    """Of two files of 100 bytes one goes when a third needs the room: the one that was not used again."""
    monkeypatch.setenv("BENCH_GGUF_CACHE_BYTES", "250")
    for age, name in enumerate(("a.gguf", "b.gguf")):
        path = gguf_cache.made(name, 100, lambda part: part.write_bytes(bytes(100)))
        os.utime(path, (age, age))
    gguf_cache.made("a.gguf", 100, lambda part: None)
    gguf_cache.made("c.gguf", 100, lambda part: part.write_bytes(bytes(100)))
    assert sorted(path.name for path in own_cache.iterdir()) == ["a.gguf", "c.gguf"]


def test_hub_files_are_found_by_type_and_missing_ones_named(tmp_path, monkeypatch):
    """The published type is taken; else F16 is, to make it from; a wrong name is one line."""
    hub = pytest.importorskip("huggingface_hub", reason="the Hub's client")
    random_weights.write(tmp_path / "tiny-F16.gguf", config("llama"), "gguf-f16")
    asked = []

    def download(repo, name):
        asked.append(name)
        if not (tmp_path / name).is_file():
            raise hub.errors.EntryNotFoundError(name)
        return str(tmp_path / name)

    monkeypatch.setattr(hub, "hf_hub_download", download)
    entry = model(gguf_repo="some/tiny-GGUF", gguf_file="tiny-{type}.gguf")
    found = locate._hub(entry, "gguf-q8_0")
    assert (found.path.name, found.name) == ("tiny-F16.gguf", "some/tiny-GGUF/tiny-F16.gguf")
    assert asked == ["tiny-Q8_0.gguf", "tiny-F16.gguf"]
    with pytest.raises(UserError, match=r"some/tiny-GGUF holds no nothing\.gguf"):
        locate._hub(entry.model_copy(update={"gguf_file": "nothing.gguf"}), "gguf-q8_0")
    with pytest.raises(Unsupported, match="its entry names no GGUF"):
        locate._hub(model(repo="some/tiny"), "gguf-q8_0")


def test_a_hub_that_is_away_is_not_a_file_that_is_missing(monkeypatch):
    """The client's word for both is nearly the same; a repository that is gone is a finding."""
    hub = pytest.importorskip("huggingface_hub", reason="the Hub's client")
    response = SimpleNamespace(status_code=404, headers={}, request=None)
    refusals = [
        (hub.errors.LocalEntryNotFoundError("no"), UserError, r"cannot be reached .*; connect, or .* local=FILE\.gguf"),
        (
            hub.errors.RepositoryNotFoundError("no", response=response),
            Unsupported,
            "the Hub has no some/tiny-GGUF: gone",
        ),
        (hub.errors.RemoteEntryNotFoundError("no", response=response), UserError, r"some/tiny-GGUF holds no a\.gguf"),
    ]
    for error, finding, line in refusals:

        def download(repo, name, error=error):
            raise error

        monkeypatch.setattr(hub, "hf_hub_download", download)
        with pytest.raises(finding, match=line):
            locate._hub(model(gguf_repo="some/tiny-GGUF", gguf_file="a.gguf"), "gguf-q8_0")


def test_a_plan_leaves_out_what_llamacpp_cannot_have(tmp_path):
    """No GGUF in the entry, no such architecture, and of random weights the suites that judge quality."""
    models = [
        model(name="no-gguf", repo="some/thing"),
        model(name="an-opt", repo="some/opt", architecture=config("opt")),
        model(name="a-llama", repo="some/llama", architecture=config("llama")),
    ]
    asked = Selection(models=("*",), backends=("llamacpp",), schemes=("gguf-q4_0",))
    hub = make_plan(asked, models, MACHINE)
    assert {left.reason for left in hub.left_out} == {
        "llamacpp: its entry names no GGUF (gguf_repo, gguf_file): pass --weights local=FILE.gguf"
    }
    random = make_plan(
        Selection(models=("*",), backends=("llamacpp",), schemes=("gguf-q4_0",), weights=Weights.RANDOM),
        models,
        MACHINE,
    )
    assert [(left.model, left.what, left.reason) for left in random.left_out] == [
        ("no-gguf", "*", "its architecture is not known, so it cannot be built"),
        ("an-opt", "*", "llamacpp: llama.cpp runs no opt model"),
        ("a-llama", "divergence", "random weights say nothing about quality"),
        ("a-llama", "quality", "random weights say nothing about quality"),
    ]
    assert [(p.cell.model, p.cell.suite, p.cell.source) for p in random.cells] == [
        ("a-llama", "memory", "random"), ("a-llama", "throughput", "random"),
    ]  # fmt: skip
    expected = gguf_layout.weights_bytes(config("llama"), "gguf-q4_0")
    assert random.cells[0].predicted.weights_bytes == expected


def test_a_gguf_file_is_a_model_of_its_own(tmp_path):
    """`--weights local=FILE.gguf` needs no entry and no config.json: the header describes it."""
    path = tmp_path / "Own Model.gguf"
    random_weights.write(path, config("qwen2"), "gguf-q8_0")
    asked = Selection(backends=("llamacpp",), weights=Weights.LOCAL, path=str(path), schemes=("gguf-q8_0",))
    planned = next(p for p in make_plan(asked, [], MACHINE).cells if p.cell.scheme == "gguf-q8_0")
    assert (planned.cell.model, planned.cell.source) == ("own-model", "Own Model.gguf")
    assert planned.predicted.weights_bytes == gguf_file.read(path).bytes
    (tmp_path / "bad.gguf").write_bytes(b"no")
    with pytest.raises(UserError, match=r"bad\.gguf: not a GGUF file: it has 2 bytes; get the file again"):
        make_plan(
            Selection(backends=("llamacpp",), weights=Weights.LOCAL, path=str(tmp_path / "bad.gguf")), [], MACHINE
        )


def test_q4_0_of_a_7b_is_predicted_to_a_percent():
    """LLaMA-7B: 32 layers of Q4_0 (4.5 bits), a Q6_K head, a Q4_0 embedding, float32 norms; 3,825 MB as published."""
    llama = {"model_type": "llama", "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
             "num_hidden_layers": 32, "num_attention_heads": 32}  # fmt: skip
    layers = 32 * (4 * 4096 * 4096 + 3 * 4096 * 11008) * 18 // 32
    ends = 32000 * 4096 * 18 // 32 + 32000 * 4096 * 210 // 256
    assert gguf_layout.weights_bytes(llama, "gguf-q4_0") == layers + ends + 65 * 4096 * 4
    assert gguf_layout.cache_bytes(llama, 1) == 2 * 32 * 4096 * 2
