# SPDX-License-Identifier: Apache-2.0
"""What every backend must do, tried on the same tiny model: one table of contenders, one set of sentences."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from contenders import CONTENDERS, Contender
from numpy.typing import NDArray

from bench.engines.abilities import DequantizesItself, ScoresStepwise, ScoresTogether
from bench.engines.contract import Engine, LoadRequest, Row, Unsupported
from bench.engines.registry import backend, backend_names
from bench.errors import UserError
from bench.records.cell import Precision
from bench.records.record import Ending, Outcome
from bench.run.ending import ending

ROOT = Path(__file__).resolve().parents[2]
TEXT = "The quick brown fox jumps over the lazy dog, 42 times; then it's done. Round the corner."
BY_NAME = {contender.backend: contender for contender in CONTENDERS}
CASES = [(c.backend, precision) for c in CONTENDERS for precision in c.tolerance]
each_backend = pytest.mark.parametrize("name", list(BY_NAME))
each_case = pytest.mark.parametrize(("name", "precision"), CASES, ids=[f"{name}-{p}" for name, p in CASES])


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for this file, so that what a backend makes of the tiny model is made once and can be looked at."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(autouse=True)
def _use_own_cache(own_cache: Path, monkeypatch: pytest.MonkeyPatch, _own_cache: None) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(own_cache))


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Where each backend's model lies, written on first use."""
    return {}


@pytest.fixture
def contender(name: str) -> Contender:
    """The entry, skipped with the reason where its library is not installed."""
    found = BY_NAME[name]
    if found.lacks():
        pytest.skip(found.lacks())
    return found


@pytest.fixture
def path(contender: Contender, paths: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its model."""
    if contender.backend not in paths:
        paths[contender.backend] = contender.write(tmp_path_factory.mktemp(contender.backend))
    return paths[contender.backend]


@pytest.fixture(scope="module")
def engines() -> Iterator[dict[tuple[str, Precision], Engine]]:
    """Loaded engines, made on first use."""
    made: dict[tuple[str, Precision], Engine] = {}
    yield made
    for engine in made.values():
        engine.close()


def load(request: LoadRequest, name: str) -> Engine:
    backend(name).prepare(request)
    return backend(name).load(request)


@pytest.fixture
def engine(
    contender: Contender, precision: Precision, path: Path, engines: dict[tuple[str, Precision], Engine]
) -> Engine:
    """The backend's engine at that precision."""
    key = (contender.backend, precision)
    if key not in engines:
        engines[key] = load(contender.request(path, precision), contender.backend)
    return engines[key]


def generate(engine: Engine, prompt: list[int], count: int, **options: Any) -> list[int]:
    generation = engine.prefill([prompt], **options)
    steps = [generation.step() for _ in range(count)]
    generation.close()
    assert [len(step) for step in steps] == [1] * count
    return [step[0] for step in steps]


@each_case
def test_texts_have_the_tokens_of_their_tokenizer_and_come_back(engine: Engine, contender: Contender) -> None:
    """The very tokens that the model's own tokenizer defines; special ones only when asked for."""
    tokens = engine.encode(TEXT)
    assert tokens == contender.encode(TEXT)
    assert engine.decode(tokens) == TEXT
    assert all(type(token) is int for token in tokens)
    with_special = engine.encode(TEXT, special=True)
    assert len(with_special) >= len(tokens)
    assert [t for t in with_special if t not in {engine.prefix_token, *engine.end_tokens}] == tokens


@pytest.mark.parametrize("text", ["", " ", "\n\n", "naïve 北京 🦊", "</s> is not the end"])
@each_case
def test_any_text_comes_back(engine: Engine, text: str) -> None:
    """Nothing is added, stripped or read as a control token."""
    tokens = engine.encode(text)
    assert engine.decode(tokens) == text
    assert not engine.end_tokens & set(tokens) or text.startswith("</s>")


@each_case
def test_log_probs_are_float32_distributions(engine: Engine) -> None:
    """One row for each predicted token over the whole vocabulary, each summing to one, for one token too."""
    tokens = engine.encode(TEXT)
    found = engine.log_probs(tokens)
    assert (found.dtype, found.shape) == (np.float32, (len(tokens) - 1, engine.vocabulary))
    assert np.exp(found.astype(np.float64)).sum(-1) == pytest.approx(1.0, abs=1e-5)
    assert engine.log_probs(tokens[:2]).shape == (1, engine.vocabulary)


@each_case
def test_log_probs_are_those_of_the_model(engine: Engine, contender: Contender, precision: Precision) -> None:
    """Over a text's tokens within the tolerance of the scheme, against a computation by other means."""
    tokens = engine.encode(TEXT)
    exact = contender.reference(tokens, contender.scheme(precision))
    found = engine.log_probs(tokens)
    at = np.arange(len(tokens) - 1), tokens[1:]
    assert np.abs(found[at] - exact[at]).mean() <= contender.tolerance[precision]


@each_case
def test_a_later_token_changes_no_earlier_prediction(
    engine: Engine, contender: Contender, precision: Precision
) -> None:
    """Rows are causal, and a call leaves nothing behind for the next one."""
    tokens = engine.encode(TEXT)
    whole, part = engine.log_probs(tokens), engine.log_probs(tokens[:9])
    assert np.abs(whole[:8] - part).max() <= contender.noise[precision]
    assert np.array_equal(engine.log_probs(tokens), whole)


def rows_of(tokens: list[int]) -> list[Row]:
    cuts = [(1, 2), (3, 12), (7, 9), (3, 5), (3, 12), (2, len(tokens)), (len(tokens) - 1, len(tokens))]
    return [Row(tuple(tokens[:cut]), tuple(tokens[cut:end])) for cut, end in cuts]


@each_case
def test_scores_are_the_log_probs_of_their_tokens(engine: Engine, contender: Contender, precision: Precision) -> None:
    """However rows are batched, whatever context they share, in the order in which they were given."""
    tokens = engine.encode(TEXT)
    every, heard = engine.log_probs(tokens), []
    rows = rows_of(tokens)
    near = contender.noise[precision]
    scores = engine.score(rows, heard.append)
    for row, score in zip(rows, scores, strict=True):
        first = len(row.context) - 1
        wanted = [float(every[first + i, token]) for i, token in enumerate(row.continuation)]
        assert score.log_probs == pytest.approx(wanted, abs=near)
        assert score.total == pytest.approx(sum(score.log_probs))
        short = every[first : first + len(row.continuation)].max(-1) - np.array(wanted)
        assert score.greedy == bool((short == 0).all()) or short.max() < near
    assert heard == sorted(heard) and heard[-1] == len(rows)
    assert engine.score([]) == []


@each_case
def test_the_most_probable_continuation_is_greedy(engine: Engine) -> None:
    """And one that has any other token is not."""
    tokens = engine.encode(TEXT)
    best, worst = (int(f(engine.log_probs([*tokens, 0])[-1])) for f in (np.argmax, np.argmin))
    assert [s.greedy for s in engine.score([Row(tuple(tokens), (t,)) for t in (best, worst)])] == [True, False]


@each_case
def test_generation_gives_exactly_as_many_tokens_as_asked_and_again_the_same(engine: Engine) -> None:
    """Greedy, from a fresh state each time, whatever was scored between."""
    prompt = engine.encode(TEXT)
    first = generate(engine, prompt, 12, suppress=engine.end_tokens)
    engine.log_probs(prompt[:5])
    assert generate(engine, prompt, 12, suppress=engine.end_tokens) == first
    assert all(0 <= token < engine.vocabulary for token in first)


@each_case
def test_generation_follows_the_log_probs(engine: Engine, contender: Contender, precision: Precision) -> None:
    """Each token is the most probable one after all before it; a 16-bit cache may decide a tie otherwise."""
    prompt = engine.encode(TEXT)
    tokens = [*prompt, *generate(engine, prompt, 8)]
    found = engine.log_probs(tokens)[len(prompt) - 1 :]
    short = found.max(-1) - found[np.arange(8), tokens[len(prompt) :]]
    assert short.max() <= contender.noise[precision]


@each_case
def test_suppressed_tokens_are_never_generated(engine: Engine) -> None:
    """Neither first nor later; with all but one suppressed, that one comes, a special one too."""
    prompt = engine.encode(TEXT)
    usual = set(generate(engine, prompt, 8))
    assert not usual & set(generate(engine, prompt, 8, suppress=usual))
    end = min(engine.end_tokens)
    others = set(range(engine.vocabulary)) - {end}
    assert generate(engine, prompt, 3, suppress=others) == [end] * 3


@each_case
def test_the_end_of_a_sequence_is_a_token_like_any_other(engine: Engine, contender: Contender) -> None:
    """The model says it where it must, the caller sees it, and suppressed it does not come."""
    assert engine.end_tokens and all(0 <= token < engine.vocabulary for token in engine.end_tokens)
    assert 0 <= engine.prefix_token < engine.vocabulary
    if contender.closing is None:
        return
    prompt = engine.encode(contender.closing)
    assert generate(engine, prompt, 1)[0] in engine.end_tokens
    assert not engine.end_tokens & set(generate(engine, prompt, 3, suppress=engine.end_tokens))


@each_case
def test_the_cache_holds_what_was_read(engine: Engine) -> None:
    """One position for each token but the last generated, at the same bytes a position."""
    prompt = engine.encode(TEXT)
    generation = engine.prefill([prompt])
    sizes = []
    for step in range(4):
        generation.step()
        assert generation.cache_tokens == len(prompt) + step
        sizes.append(generation.cache_bytes / generation.cache_tokens)
    generation.close()
    assert sizes[0] > 0 and set(sizes) == {sizes[0]}


@each_case
def test_prompts_of_a_batch_do_not_see_each_other(engine: Engine, contender: Contender, precision: Precision) -> None:
    """Two prompts at once give what each gives alone (first tokens: later ones may part at a 16-bit tie)."""
    one = engine.encode(TEXT)
    prompts = [one, one[::-1]]
    generation = engine.prefill(prompts, suppress=engine.end_tokens)
    together = [generation.step() for _ in range(3)]
    assert generation.cache_tokens == len(one) + 2
    generation.close()
    assert [len(step) for step in together] == [2, 2, 2]
    for prompt, first in zip(prompts, together[0], strict=True):
        found = engine.log_probs([*prompt, 0])[-1].copy()
        found[list(engine.end_tokens)] = -np.inf
        assert found.max() - found[first] <= contender.noise[precision]


@each_case
def test_more_tokens_than_the_context_are_refused(engine: Engine) -> None:
    """In one line with both counts, as `unsupported`; the context itself can be filled, and the engine goes on."""
    limit = engine.context_length
    filler = (engine.encode(TEXT) * (limit // 10))[: limit + 2]
    refused = rf"{limit + 1} tokens are more than this model's context of {limit}"
    with pytest.raises(Unsupported, match=refused):
        engine.prefill([filler[: limit + 1]])
    with pytest.raises(Unsupported, match=refused):
        engine.log_probs(filler)
    with pytest.raises(Unsupported, match=refused):
        engine.score([Row(tuple(filler[:-1]), (filler[-1],))])
    assert engine.log_probs(filler[: limit + 1]).shape[0] == limit
    generation = engine.prefill([filler[: limit - 1]])
    generation.step()
    generation.step()
    with pytest.raises(Unsupported, match=refused) as caught:
        generation.step()
    generation.close()
    assert ending(caught.value).ending is Ending.UNSUPPORTED
    assert len(generate(engine, filler[:9], 2)) == 2


@each_case
def test_the_census_counts_every_byte(engine: Engine, contender: Contender, precision: Precision, path: Path) -> None:
    """All bytes of the file or the tensors, and they prove the precision."""
    scheme, census = contender.scheme(precision), engine.census()
    assert census.total_bytes == contender.stored_bytes(path, scheme)
    assert census.contradiction(scheme) is None
    assert sum(census.kernels.values()) > 0 and census.linear_weights > 0
    assert census.linear_quantized == (census.linear_weights if scheme.quantizes else 0)


@each_case
def test_the_engine_says_what_it_loaded(engine: Engine, path: Path) -> None:
    """Source and files with size and hash, never a path of this machine; threads as asked."""
    assert engine.provenance.files
    assert str(path.parent) not in engine.provenance.model_dump_json()
    assert engine.threads == 1
    assert not engine.provenance.random


MOVED = 1e-3
"""Nats by which a scheme that looks at the whole pass is moved at least by what stands there."""
STILL = 1e-7
"""Nats by which no other is: at the same shape its kernels do the same sums."""
SCHEMES = [(c.backend, s.name) for c in CONTENDERS if c.backend in backend_names() for s in backend(c.backend).schemes]


def divergence(this: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    return float((np.exp(this) * (this - other)).sum(-1).mean())


def other_company(engine: Engine, tokens: list[int]) -> dict[str, float]:
    """Mean KL in nats of 24 tokens between two passes of one shape that hold other tokens beside or after them."""
    assert isinstance(engine, ScoresTogether)
    first, back = tokens[:24], tokens[::-1]
    beside = [
        next(iter(engine.log_probs_together([first, *(of[i : i + 24] for i in (3, 9, 15))]))) for of in (tokens, back)
    ]
    before = [engine.log_probs([*first, *of[24:48]])[:23] for of in (tokens, back)]
    return {"neighbours": divergence(*beside), "later tokens": divergence(*before)}


def other_shapes(engine: Engine, tokens: list[int]) -> dict[str, float]:
    """The same between one pass over the 24 tokens alone and passes of other shapes."""
    assert isinstance(engine, ScoresTogether) and isinstance(engine, ScoresStepwise)
    first, rest = tokens[:24], tokens[24:]
    alone = engine.log_probs(first)
    beside = next(iter(engine.log_probs_together([first, tokens[20:44], tokens[::-1][:24], tokens[5:29]])))
    before, decoded = engine.log_probs([*first, *rest])[: len(alone)], engine.log_probs_stepwise(first)
    found = {"neighbours": beside, "later tokens": before, "token by token": decoded}
    return {what: divergence(alone, other) for what, other in found.items()}


@pytest.mark.parametrize(("name", "scheme"), SCHEMES, ids=[scheme for _, scheme in SCHEMES])
def test_a_scheme_says_whether_its_arithmetic_looks_at_the_whole_pass(
    contender: Contender, scheme: str, tmp_path: Path
) -> None:
    """What stands beside a sequence or after it moves those that say so, and no other.

    Others are moved by the shape of a pass alone, within the rounding of their type: another kernel, another order of
    sums. What is scored of those that say so is what each row gives by itself, bit for bit: no pack, no padding, no
    shared beginning. Of the others it is that within the noise of their precision.
    """
    asked = backend(contender.backend).scheme(scheme)
    if scheme in contender.stored:
        pytest.skip(f"{scheme} is of other models")
    if asked is None or backend(contender.backend).missing(scheme):
        pytest.skip(f"{scheme} needs {', '.join(backend(contender.backend).missing(scheme))}")
    path = contender.write_loud(tmp_path)
    engine = load(replace(contender.request(path, Precision.FP32), scheme=asked), contender.backend)
    tokens = engine.encode(TEXT)
    for what, moved in other_company(engine, tokens).items():
        assert moved > MOVED if asked.whole_pass else abs(moved) <= STILL, what
    for what, moved in other_shapes(engine, tokens).items():
        assert moved > MOVED if asked.whole_pass else abs(moved) <= contender.rounding[scheme], what
    rows = [*rows_of(tokens[:24]), Row((tokens[30],), tuple(tokens[31:40])), Row(tuple(tokens[:30]), (tokens[44],))]
    near = 0.0 if asked.whole_pass else contender.noise[asked.precision]
    for row, score in zip(rows, engine.score(rows), strict=True):
        own = engine.log_probs([*row.context, *row.continuation])[len(row.context) - 1 :]
        wanted = own[np.arange(len(row.continuation)), list(row.continuation)]
        assert np.abs(np.array(score.log_probs) - wanted).max() <= near
    engine.close()


@pytest.mark.parametrize(
    ("name", "scheme"),
    [
        ("transformers", "bnb-int8"),
        ("transformers", "bnb-nf4"),
        ("transformers", "torchao-int8"),
        ("llamacpp", "gguf-q8_0"),
        ("llamacpp", "gguf-q4_0"),
        ("openvino", "ov-int8"),
        ("openvino", "ov-int4"),
        ("onnxruntime", "ort-int8"),
        ("onnxruntime", "ort-int4-acc4"),
    ],
)
def test_weights_taken_back_to_float32_are_the_formats_own(contender: Contender, scheme: str, tmp_path: Path) -> None:
    """Moved by nothing more than float32's rounding, and no further from the model than the quantized row itself."""
    asked = backend(contender.backend).scheme(scheme)
    assert asked is not None
    if lacking := backend(contender.backend).missing(scheme):
        pytest.skip(f"{scheme} needs {', '.join(lacking)}")
    path = contender.write_loud(tmp_path)
    engine = load(replace(contender.request(path, Precision.FP32), scheme=asked), contender.backend)
    assert isinstance(engine, DequantizesItself)
    tokens = engine.encode(TEXT)
    exact = contender.reference(tokens, asked)
    before = engine.log_probs(tokens)
    with engine.dequantized() as own:
        assert own is not None
        assert max(map(abs, [*other_company(own, tokens).values(), *other_shapes(own, tokens).values()])) < 1e-5
        found = own.log_probs(tokens)
    assert 1e-5 < divergence(exact, found) < 1.05 * divergence(exact, before)
    assert np.array_equal(engine.log_probs(tokens), before)
    engine.close()


@each_case
def test_nothing_is_taken_back_that_is_not_quantized_or_does_not_fit(
    engine: Engine, contender: Contender, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A row at 16 or 32 bits has no third figure, nor one whose float32 weights would fill the memory."""
    if not isinstance(engine, DequantizesItself):
        return
    if contender.scheme(precision).quantizes:
        monkeypatch.setattr("bench.instruments.memory.ProcessMemory.capacity_bytes", lambda self: 1_000_000)
    with engine.dequantized() as own:
        assert own is None


def failure(request: LoadRequest, name: str) -> tuple[Exception, Outcome]:
    try:
        load(request, name)
    except Exception as error:  # noqa: BLE001 - every way of failing is what is tested
        return error, ending(error)
    pytest.fail("it loaded")


@each_backend
def test_a_model_too_large_for_memory_does_not_fit(
    contender: Contender, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever words its library has for that."""
    request = contender.request(path, Precision.FP32)
    contender.starve(request, monkeypatch)
    _, outcome = failure(request, contender.backend)
    assert outcome.ending is Ending.DOES_NOT_FIT
    assert outcome.reason.startswith("out of memory in load")


@each_backend
def test_an_unknown_architecture_is_unsupported(
    contender: Contender, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one line that a table can print."""
    request = contender.stranger(contender.request(path, Precision.FP32), tmp_path, monkeypatch)
    _, outcome = failure(request, contender.backend)
    assert (outcome.ending, outcome.detail) == (Ending.UNSUPPORTED, "")
    assert outcome.reason and "\n" not in outcome.reason


@each_backend
def test_broken_weights_fail(contender: Contender, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a file is the user's to mend: one line that names it, no traceback."""
    request = contender.broken(contender.request(path, Precision.FP32), tmp_path, monkeypatch)
    error, outcome = failure(request, contender.backend)
    assert outcome.ending is Ending.FAILED
    if contender.files:
        assert isinstance(error, UserError)
        assert Path(str(request.path)).name in outcome.reason
        assert "\n" not in outcome.reason


PROGRAM = """
import gc, json, os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from contenders import CONTENDERS
from bench.records.cell import Precision
from bench.engines.contract import Row
from bench.engines.registry import backend

name, path, report = sys.argv[2:]
contender = next(c for c in CONTENDERS if c.backend == name)
request = contender.request(Path(path), Precision.FP32)
tools = backend(name).instruments("cpu")
backend(name).prepare(request)
seen = []
for _ in range(8):
    engine = backend(name).load(request)
    tokens = engine.encode("The quick brown fox")
    engine.log_probs(tokens)
    engine.score([Row((tokens[0],), tuple(tokens[1:]))])
    generation = engine.prefill([tokens])
    generation.step()
    generation.step()
    generation.close()
    engine.close()
    weights = engine.census().total_bytes if name == "fake" else contender.stored_bytes(Path(path), request.scheme)
    del engine, generation
    gc.collect()
    tools.memory.trim()
    linux = sys.platform == "linux"
    seen.append({
        "bytes": tools.memory.read().total_bytes,
        "files": sorted(os.readlink(f"/proc/self/fd/{n}") for n in os.listdir("/proc/self/fd")
                        if os.path.exists(f"/proc/self/fd/{n}")) if linux else [],
        "mapped": Path(path).name in Path("/proc/self/maps").read_text() if linux and name != "fake" else False,
        "threads": len(os.listdir("/proc/self/task")) if linux else 0,
    })
Path(report).write_text(json.dumps({"seen": seen, "weights": weights}))
"""


@each_backend
def test_nothing_is_left_and_nothing_is_said(contender: Contender, path: Path, tmp_path: Path, own_cache: Path) -> None:
    """Eight loads in one process: memory, files, maps and threads come back, no temporary file, no word on stdout."""
    temporary, report = tmp_path / "temporary", tmp_path / "report.json"
    temporary.mkdir()
    before = sorted(path.parent.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(ROOT / "tests"), contender.backend, str(path), str(report)],
        cwd=ROOT, capture_output=True, check=False,
        env=os.environ | {"TMPDIR": str(temporary), "BENCH_CACHE": str(own_cache), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    told = json.loads(report.read_text())
    settled, last = told["seen"][3], told["seen"][-1]
    later = len(told["seen"]) - 4
    assert last["bytes"] - settled["bytes"] < told["weights"] + later * contender.left_bytes
    assert last["threads"] <= settled["threads"] + later * contender.left_threads
    assert last["files"] == settled["files"]
    assert not last["mapped"]
    assert list(temporary.rglob("*")) == []
    assert sorted(path.parent.rglob("*")) == before
    assert [p for p in own_cache.rglob("*") if ".part" in p.name or p.suffix in {".tmp", ".lock"}] == []
