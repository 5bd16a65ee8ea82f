# SPDX-License-Identifier: Apache-2.0
"""The proof of the instrument: known figures go through the real runner, workers and suites, and must come back.

Every expected value here is a literal or computed from the fake's formula in float64, never by the code under test.
"""

import hashlib
import json
import math
import os
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders import divergence_run, engine_of, make_record, planned, suite_run

import suites
from bench.engines import fake
from bench.engines.contract import NotFinite
from bench.errors import UserError
from bench.instruments import Instruments, Reading
from bench.instruments.clock import VirtualClock
from bench.judge.figures import anchor_of, figures, reference_figures
from bench.judge.scores import accuracies
from bench.records.cell import Precision, Weights
from bench.records.record import Ending, Unit
from bench.records.store import Store
from bench.run.ending import ending
from bench.scoring.anchor import anchor_path as found_anchor
from bench.scoring.anchor import is_anchor
from bench.suite import Pace, Work, measured
from suites import divergence, memory, probe, quality, repeats, suite, throughput

ROOT = Path(__file__).resolve().parents[2]
TEMPERATURE = {"fake-fp32": 1.0, "fake-fp16": 1.0, "fake-int8": 1.05, "fake-int4": 1.25}
SCHEMES = tuple(TEMPERATURE)
DELIMITER = {
    "bench_grammar_en": "",
    "bench_facts_en": " ",
    "bench_arithmetic": " ",
    "bench_reading_en": " ",
    "bench_cloze_zh": "",
}
SMOKE_ITEMS = 8


@pytest.fixture(scope="session")
def records(tmp_path_factory):
    """Records of one smoke run of every suite at every precision, by scheme and suite."""
    folder = tmp_path_factory.mktemp("proof")
    env = {**os.environ, "BENCH_CACHE": str(folder / "cache"), "BENCH_FAKE_FAULT": ""}
    options = ["--backend", "fake", "--profile", "smoke", "--device", "cpu", "--results", str(folder / "results")]
    subprocess.run([sys.executable, "-m", "bench", "run", *options], cwd=ROOT, env=env, check=True, capture_output=True)
    store = Store(folder / "results")
    found = list(store.records())
    assert store.unreadable == []
    assert len(found) == 16
    return {(record.cell.scheme, record.cell.suite): record for record in found}


@pytest.fixture
def figure(records):
    """One figure of one scheme, as tables read it."""

    def read(scheme, suite_name, name):
        return figures(records[scheme, suite_name])[name].value

    return read


def log_probs(scheme):
    """The fake's next-byte distribution in float64, from its definition."""
    z = -(37 * np.arange(257) % 251) / 40 / TEMPERATURE[scheme]
    return z - np.log(np.exp(z).sum())


def windows():
    """The bytes of the smoke profile's six windows of 64: the first of each register."""
    registers = ("encyclopaedic", "dialogue", "instructions", "code", "arithmetic", "chinese")
    return [(ROOT / "suites/data/probe" / f"{name}.txt").read_bytes()[:64] for name in registers]


def documents(task):
    """The items a smoke run asks, in the order it asks them."""
    text = (ROOT / "suites/tasks/data" / f"{task}.jsonl").read_text(encoding="utf-8")
    lines = [json.loads(line) for line in text.splitlines()]
    shuffled = list(range(len(lines)))
    random.Random(task).shuffle(shuffled)
    return [lines[index] for index in shuffled[:SMOKE_ITEMS]]


def sums(scheme, task, document):
    """Log-probability of each choice, trailing spaces of the context counted with it as lm-eval does."""
    context = document["context"]
    spaces = context[len(context.rstrip()) :]
    values = log_probs(scheme)
    texts = [spaces + DELIMITER[task] + choice for choice in document["choices"]]
    return [round(float(sum(values[byte] for byte in text.encode())), 6) for text in texts]


def first_best(values):
    """Index of the largest value, the first of several."""
    return values.index(max(values))


def test_every_cell_of_the_run_is_answered_ok(records):
    """Four schemes times four suites give sixteen records, all ok, of one run."""
    assert set(records) == {(scheme, name) for scheme in SCHEMES for name in suites.DEFAULT}
    assert {record.outcome.ending for record in records.values()} == {Ending.OK}
    assert len({record.run for record in records.values()}) == 1


@pytest.mark.parametrize(
    ("scheme", "weights", "bits", "quantized"),
    [
        ("fake-fp32", 34_000_000, 32, 0),
        ("fake-fp16", 18_000_000, 16, 0),
        ("fake-int8", 10_000_000, 8, 1),
        ("fake-int4", 6_000_000, 4, 1),
    ],
)
def test_memory_returns_the_known_bytes(figure, scheme, weights, bits, quantized):
    """Weights, cache, peak, workspace and bits come back to the byte, and the ledger leaves nothing unexplained."""
    expected = {
        "weights_bytes": weights,
        "linear_bits": bits,
        "linear_quantized": quantized,
        "kv_bytes": 135_000,  # 128 tokens of prompt and 7 of the 8 generated: the last is never fed back
        "kv_bytes_per_token": 1_000,
        "baseline_bytes": 100_000_000,
        "load_peak_bytes": weights,
        "peak_bytes": weights + 135_000 + 3_000_000,
        "workspace_bytes": 3_000_000,
        "unexplained_bytes": 0,
        "slack_bytes": 0,
    }
    assert {name: figure(scheme, "memory", name) for name in expected} == expected


@pytest.mark.parametrize(
    ("scheme", "load_s", "prefill", "ttft_s", "decode"),
    [
        ("fake-fp32", 4.0, 1000, 0.128, 20),
        ("fake-fp16", 2.0, 2000, 0.064, 40),
        ("fake-int8", 1.0, 1600, 0.08, 50),
        ("fake-int4", 0.5, 1250, 0.1024, 80),
    ],
)
def test_speed_comes_back_to_nine_digits(figure, scheme, load_s, prefill, ttft_s, decode):
    """Load seconds, prefill and decode rates, time to first token and gaps are the fake's, to nine digits."""
    nine = {"rel": 5e-9}
    assert figure(scheme, "memory", "load_s") == pytest.approx(load_s, **nine)
    assert figure(scheme, "throughput", "prefill_tokens_per_s") == pytest.approx(prefill, **nine)
    assert figure(scheme, "throughput", "ttft_s") == pytest.approx(ttft_s, **nine)
    assert figure(scheme, "throughput", "decode_tokens_per_s") == pytest.approx(decode, **nine)
    assert figure(scheme, "throughput", "itl_s") == pytest.approx(1 / decode, **nine)
    assert figure(scheme, "throughput", "itl_p99_s") == pytest.approx(1 / decode, **nine)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_every_gap_of_every_repeat_is_stored(records, scheme):
    """Two repeats of 16 tokens leave 2 prefills, 2 first tokens and 30 gaps; warm-up samples are kept apart."""
    found = {m.name: len(m.values) for m in records[scheme, "throughput"].measurements}
    computed = {"position_bytes": 1, "read_bytes_per_step": 1, "operations_per_token": 1}
    energy = {"idle_j": 0, "prefill_j": 0, "decode_j": 0}
    timed = {"prefill_s": 2, "ttft_s": 2, "itl_s": 30, "warmup_prefill_s": 2, "warmup_itl_s": 2}
    assert found == timed | computed | energy


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_generated_text_is_kept(records, scheme):
    """The text is sixteen times the most probable byte, NUL, with the hash of just that."""
    (text,) = records[scheme, "throughput"].texts
    assert (text.name, text.text, text.tokens) == ("generated", "\0" * 16, 16)
    assert text.sha256 == hashlib.sha256(b"\0" * 16).hexdigest()


@pytest.mark.parametrize("scheme", ["fake-int8", "fake-int4"])
def test_divergence_is_the_closed_form(records, scheme):
    """KL(fp16 || this) of every token is sum p (log p - log q), rounded to the four digits that are stored."""
    p, q = log_probs("fake-fp16"), log_probs(scheme)
    kl = float((np.exp(p) * (p - q)).sum())
    values = records[scheme, "divergence"].measurement("kld_nat").values
    assert len(values) == 6 * 63
    assert set(values) == {float(f"{kl:.4g}")}


def test_equal_distributions_diverge_by_exactly_nothing(records):
    """Fp32 and fp16 are the same distribution here: not even the stored reference's own error is left."""
    error = max(records["fake-fp16", "divergence"].measurement("store_error_nat").values)
    left = records["fake-fp32", "divergence"].measurement("kld_nat").values
    assert 0 < error < 1e-6
    assert set(left) == {0.0}
    assert set(records["fake-fp16", "divergence"].measurement("floor_nat").values) == {0.0}
    assert set(records["fake-fp32", "divergence"].measurement("true_token_change").values) == {0.0}


@pytest.mark.parametrize("scheme", ["fake-int8", "fake-int4"])
def test_the_distance_from_fp32_is_the_closed_form(records, figure, scheme):
    """KL(fp32 || this) of every token beside that from the 16-bit row, found where the fp32 row left it."""
    p, q = log_probs("fake-fp32"), log_probs(scheme)
    kl = float((np.exp(p) * (p - q)).sum())
    values = records[scheme, "divergence"].measurement("anchor_kld_nat").values
    assert len(values) == 6 * 63
    assert set(values) == {float(f"{kl:.4g}")}
    assert figure(scheme, "divergence", "kld_fp32_mean") == pytest.approx(kl, rel=1e-3)
    assert figure(scheme, "divergence", "same_top1_fp32") == 1


def test_the_fp32_row_measures_the_16_bit_row_that_ran_before_it(records):
    """Once, in the other direction; neither has a distance of its own, and all name the same fp32 row."""
    fp32, fp16 = records["fake-fp32", "divergence"], records["fake-fp16", "divergence"]
    values = fp32.measurement("anchor_reference_kld_nat").values
    error = max(fp16.measurement("store_error_nat").values)
    assert len(values) == 6 * 63
    assert max(map(abs, values)) <= 2 * error
    assert fp32.measurement("anchor_kld_nat") is None and fp16.measurement("anchor_kld_nat") is None
    assert list(reference_figures(fp32, fp16)) == ["kld_fp32_mean", "same_top1_fp32"]
    named = {anchor_of(records[scheme, "divergence"]) for scheme in ("fake-fp32", "fake-int8", "fake-int4")}
    assert len(named) == 1 and named.pop().startswith("fake fake-fp32 ")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_perplexity_is_the_closed_form(records, figure, scheme):
    """Perplexity is exp of the windows' mean negative log-likelihood of bytes 2 to 64."""
    expected = [-np.mean([log_probs(scheme)[byte] for byte in window[1:]]) for window in windows()]
    assert records[scheme, "divergence"].measurement("nll_nat").values == pytest.approx(expected, rel=1e-6)
    assert figure(scheme, "divergence", "ppl") == pytest.approx(math.exp(np.mean(expected)), rel=1e-5)


@pytest.mark.parametrize("scheme", ["fake-fp32", "fake-int8", "fake-int4"])
def test_ln_perplexity_ratio_is_the_closed_form(figure, scheme):
    """The paired ln ratio is the mean over windows of the difference of log-likelihoods, and no top-1 ever moves."""
    lost = log_probs("fake-fp16") - log_probs(scheme)
    expected = np.mean([np.mean([lost[byte] for byte in window[1:]]) for window in windows()])
    assert figure(scheme, "divergence", "ln_ppl_ratio") == pytest.approx(expected, abs=1e-6)
    assert figure(scheme, "divergence", "same_top1") == 1


def test_divergence_says_what_it_was_measured_on(records):
    """Registers, window length and the hash of the text stand in the labels; the reference is one file for all."""
    found = [records[scheme, "divergence"].measurement("nll_nat").labels for scheme in SCHEMES]
    assert found[0]["registers"] == list(probe.REGISTERS)
    assert found[0]["window_tokens"] == 63
    assert found[0]["text_sha256"] == probe.text_sha256()
    assert all(labels == found[0] for labels in found)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("task", quality.OFFLINE)
def test_accuracy_is_what_a_unigram_model_must_answer(records, task, scheme):
    """Each item's right or wrong is that of the choice with the highest summed byte log-probability."""
    expected = [float(first_best(sums(scheme, task, doc)) == doc["gold"]) for doc in documents(task)]
    assert list(accuracies(records[scheme, "quality"])[task].values) == expected


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("task", ["bench_facts_en", "bench_reading_en", "bench_cloze_zh"])
def test_normalised_accuracy_divides_by_the_characters_of_a_choice(records, task, scheme):
    """`acc_norm` is that of the choice with the highest log-probability per character, its delimiter not counted."""
    expected = []
    for doc in documents(task):
        shares = [total / len(text) for total, text in zip(sums(scheme, task, doc), doc["choices"], strict=True)]
        expected.append(float(first_best(shares) == doc["gold"]))
    assert list(records[scheme, "quality"].measurement("acc_norm", task=task).values) == expected


def test_accuracy_is_the_mean_over_tasks(records, figure):
    """The one figure of quality is the unweighted mean of the tasks', over five times eight items."""
    values = [m.values for m in accuracies(records["fake-fp16", "quality"]).values()]
    assert figure("fake-fp16", "quality", "acc") == pytest.approx(np.mean([np.mean(v) for v in values]), rel=1e-12)
    assert figure("fake-fp16", "quality", "items") == 40


@pytest.mark.parametrize("task", quality.OFFLINE)
def test_every_precision_answers_the_same_items(records, task):
    """The digest over documents and prompts is one and the same at every precision."""
    digests = {accuracies(records[scheme, "quality"])[task].labels["digest"] for scheme in SCHEMES}
    assert len(digests) == 1


@pytest.mark.parametrize("name", suites.DEFAULT)
def test_a_record_names_the_method_that_made_it(records, name):
    """Each record holds the hash of its suite's file, its version, and that these weights are random."""
    record = records["fake-fp16", name]
    source = (ROOT / "suites" / f"{name}.py").read_bytes()
    assert record.versions.suite_sha256 == hashlib.sha256(source).hexdigest()[:12]
    assert record.cell.suite_version == suite(name).VERSION
    assert record.cell.weights is Weights.RANDOM


# Suites on their own: what a healthy run does not show.


def test_output_without_text_fails_the_cell(engine, tmp_path, monkeypatch):
    """A model that generates tokens but no text has no speed worth a figure."""
    monkeypatch.setattr(engine, "decode", lambda tokens: " \n")
    with pytest.raises(throughput.EmptyOutput, match="16 tokens were generated but decode to no text"):
        throughput.measure(suite_run("throughput", engine, tmp_path))


def test_too_few_tokens_fail_the_cell(engine, tmp_path, monkeypatch):
    """An engine that stops early is caught by counting its tokens."""
    monkeypatch.setattr(fake.FakeGeneration, "step", lambda self: [])
    monkeypatch.setattr(engine, "decode", lambda tokens: "text")
    with pytest.raises(throughput.EmptyOutput, match="0 tokens came back where 16 were asked for"):
        throughput.measure(suite_run("throughput", engine, tmp_path, Instruments(Ticking(), fake.ArithmeticMemory())))


@pytest.mark.parametrize(
    ("settings", "broken", "words"),
    [
        ({}, 1, "token 8 of the text, in the warm-up"),
        ({}, 4, "token 16 of the text, in repeat 2"),
        ({"objective": "masked"}, 3, "the text of 128 tokens, in repeat 1"),
    ],
)
def test_logits_that_are_not_finite_have_no_speed(engine, tmp_path, monkeypatch, settings, broken, words):
    """Looked at once for every text that is timed: in each warm-up round, each repeat and each forward pass."""
    made = iter(range(1, 100))
    plain = fake.FakeGeneration.__init__

    def init(self, *args):
        plain(self, *args)
        self.number = next(made)

    monkeypatch.setattr(fake.FakeGeneration, "__init__", init)
    monkeypatch.setattr(fake.FakeGeneration, "finite", property(lambda self: self.number != broken))
    run = suite_run("throughput", engine, tmp_path)
    run.cell = run.cell.model_copy(update={"settings": {**run.cell.settings, **settings}})
    with pytest.raises(NotFinite, match=rf"^NaN or infinite logits at fp16 \(fake-fp16\): {words}$"):
        throughput.measure(run)


class Ticking(VirtualClock):
    """A clock on which every reading takes longer than the one before it."""

    def __init__(self, growth=1.0):
        super().__init__()
        self.step, self.growth = 1.0, growth

    def now(self):
        """Seconds, one more step on."""
        self.step *= self.growth
        self.seconds += self.step
        return self.seconds


def test_speed_that_does_not_settle_is_a_caveat(engine, tmp_path):
    """Warm-up gives up after its last round and says so when two rounds still differ by more than 5 %."""
    run = suite_run("throughput", engine, tmp_path, Instruments(Ticking(1.1), fake.ArithmeticMemory()))
    throughput.measure(run)
    assert "not_steady" in [caveat.kind for caveat in run.caveats]


def test_steady_speed_needs_no_caveat(engine, tmp_path):
    """Two equal warm-up rounds are enough and leave no warning."""
    run = suite_run("throughput", engine, tmp_path)
    throughput.measure(run)
    assert run.caveats == []


def test_repeats_that_differ_are_a_caveat(engine, tmp_path, monkeypatch):
    """Greedy text that changes between repeats is stored as a warning, not as a failure."""
    letters = iter(range(65, 128))
    plain = fake.FakeGeneration.__init__

    def changing(self, *args):
        plain(self, *args)
        self.token = next(letters)

    monkeypatch.setattr(fake.FakeGeneration, "__init__", changing)
    run = suite_run("throughput", engine, tmp_path)
    throughput.measure(run)
    assert [caveat.kind for caveat in run.caveats] == ["not_repeatable"]
    assert run.caveats[0].text.startswith("1 of 2 repeats")


def test_the_garbage_collector_is_given_back(engine):
    """A repeat turns the collector off and leaves it as it was."""
    import gc

    assert gc.isenabled()
    repeats.one_repeat(engine, fake._CLOCK, [[1, 2, 3]], 4)
    assert gc.isenabled()


def test_the_first_tokens_own_time_is_not_prefill(engine, tmp_path, monkeypatch):
    """`prefill_s` ends when the logits are there; `ttft_s` when the first token is on the host."""
    plain = fake.FakeGeneration.step

    def step(self):
        if self.first:
            fake._CLOCK.advance(0.5)
        return plain(self)

    monkeypatch.setattr(fake.FakeGeneration, "step", step)
    found = {m.name: m.values for m in throughput.measure(suite_run("throughput", engine, tmp_path))}
    assert found["prefill_s"] == pytest.approx((0.064, 0.064), rel=5e-9)
    assert found["ttft_s"] == pytest.approx((0.564, 0.564), rel=5e-9)
    assert found["itl_s"] == pytest.approx((1 / 40,) * 30, rel=5e-9)


def test_the_peak_is_that_of_generating_not_of_what_was_before(engine, tmp_path):
    """The high-water mark is started again: a spike while loading is no part of the peak."""
    memory_in_use = fake._MEMORY.bytes
    fake._MEMORY.use(10**9)
    fake._MEMORY.use(-(10**9))
    run = suite_run("memory", engine, tmp_path, fake.instruments("cpu"))
    found = {m.name: m.values for m in memory.measure(run)}
    assert found["peak_bytes"] == (memory_in_use + 135_000 + 3_000_000,)
    assert fake._MEMORY.bytes == memory_in_use


@pytest.mark.parametrize("counter", ["ru_maxrss", "VmHWM since start"])
def test_a_peak_that_cannot_be_reset_is_a_caveat(engine, tmp_path, counter):
    """Where the kernel hides the reset the figure stays, with a warning that it includes loading."""
    tool = fake.ArithmeticMemory()
    tool.name = counter
    run = suite_run("memory", engine, tmp_path, Instruments(fake._CLOCK, tool))
    memory.measure(run)
    assert [caveat.kind for caveat in run.caveats] == ["peak_not_reset"]


def test_memory_keeps_the_parts_a_counter_gives(engine, tmp_path):
    """A counter's anonymous, file, proportional, allocated and reserved bytes are measurements of their own."""
    run = suite_run("memory", engine, tmp_path)
    run.loading = replace(run.loading, loaded=Reading(total_bytes=10, anonymous_bytes=7, file_bytes=3))
    found = {m.name: m.values for m in memory.measure(run) if m.name.startswith("loaded")}
    assert found == {"loaded_bytes": (10,), "loaded_anonymous_bytes": (7,), "loaded_file_bytes": (3,)}


def test_divergence_without_its_reference_says_so(engine, tmp_path):
    """A cell whose reference is not in the cache ends with that reason."""
    run = suite_run("divergence", engine, tmp_path)
    run.reference = tmp_path / "nothing"
    with pytest.raises(divergence.MissingReference, match="16-bit reference of this model has not been measured"):
        divergence.measure(run)


def test_a_reference_of_other_files_is_none_and_the_line_says_what_to_ask(engine, tmp_path):
    """An adapter that was tuned on, a checkpoint that was replaced: the same question of weights that are gone."""
    run = suite_run("divergence", engine, tmp_path)
    run.reference = tmp_path / "question-versions-weights"
    (tmp_path / "question-versions-others").mkdir()
    with pytest.raises(
        UserError, match=f"measured from other files than these; .*--precision fp16,{run.cell.precision}"
    ):
        divergence.measure(run)
    (tmp_path / "question-versions-others").rename(tmp_path / "question-others-weights")
    with pytest.raises(divergence.MissingReference):
        divergence.measure(run)


FLOORS = {"floor_nat", "floor_nll_change_nat", "floor_decode_nat", "floor_decode_nll_change_nat"}
"""What every row stores of itself."""
COMPARED = {"kld_nat", "same_top1", "true_token_change", "nll_nat", "reference_nll_nat", *FLOORS}
"""What a row that found its reference stores."""


def names(measurements):
    """What was measured."""
    return {m.name for m in measurements}


def test_the_16_bit_row_is_measured_from_fp32_itself_when_that_is_there(tmp_path):
    """In a second run it finds the anchor of the first, and is compared with it like any other row."""
    first = names(divergence.measure(divergence_run("fake-fp16", tmp_path)))
    divergence.measure(divergence_run("fake-fp32", tmp_path))
    second = names(divergence.measure(divergence_run("fake-fp16", tmp_path)))
    assert first == {"nll_nat", "store_error_nat", *FLOORS}
    assert second - first == {"anchor_kld_nat", "anchor_same_top1"}


def test_without_an_fp32_row_nothing_is_said_of_it(tmp_path):
    """No figure and no warning: most runs have none."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    run = divergence_run("fake-int8", tmp_path)
    assert names(divergence.measure(run)) == COMPARED
    assert run.caveats == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("tokens", "its tokens of the probe text are not those of the fp32 reference"),
        ("vocabulary", "its vocabulary has 258 tokens, the fp32 reference's 257"),
        ("files", "the fp32 reference was measured from other weight files"),
    ],
)
def test_what_is_not_the_same_question_is_not_paired_with_fp32(tmp_path, monkeypatch, change, words):
    """Other tokens, another vocabulary or other weights: a caveat, no figure, and all else as ever."""
    engine = engine_of("fake-int8")
    if change == "tokens":
        monkeypatch.setattr(engine, "encode", lambda text, special=False: [*text.encode()][1:])
    elif change == "vocabulary":
        engine.vocabulary = 258
        engine.unigram = np.append(engine.unigram, np.float32(-30))
    else:
        engine.provenance = engine.provenance.model_copy(update={"files": {"none": "1:1"}})
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    divergence.measure(divergence_run("fake-fp32", tmp_path))
    divergence.measure(divergence_run("fake-fp16", tmp_path, engine=engine))  # its own reference, in its own tokens
    run = divergence_run("fake-int8", tmp_path, engine=engine)
    assert names(divergence.measure(run)) == COMPARED
    (caveat,) = run.caveats
    assert (caveat.kind, caveat.text) == ("anchor_not_paired", f"not compared with the fp32 reference: {words}")


def test_another_engine_is_paired_by_its_tokens_not_its_files(tmp_path):
    """It has a file of its own; only a file of the same name must be the same file."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    divergence.measure(divergence_run("fake-fp32", tmp_path))
    for files, paired in (({"model.gguf": "9:9"}, True), ({"none": "0:0"}, True), ({"none": "9:9"}, False)):
        run = divergence_run("fake-int8", tmp_path)
        run.cell = run.cell.model_copy(update={"backend": "other"})
        run.engine.provenance = run.engine.provenance.model_copy(update={"files": files})
        assert ("anchor_kld_nat" in names(divergence.measure(run))) == paired


@pytest.mark.parametrize("scheme", ["fake-int8", "fake-int4"])
def test_the_change_of_the_true_token_is_the_closed_form(tmp_path, scheme):
    """p(this) - p(reference) of each byte that follows in the text, and its mean and root mean square."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    run = divergence_run(scheme, tmp_path)
    found = {m.name: m for m in divergence.measure(run)}["true_token_change"]
    difference = np.exp(log_probs(scheme)) - np.exp(log_probs("fake-fp16"))
    expected = np.concatenate([difference[list(window[1:])] for window in windows()])
    assert found.values == pytest.approx(expected, abs=2e-6)
    shown = figures(make_record(run.cell, measurements=divergence.measure(run)))
    assert shown["true_token_mean"].value == pytest.approx(expected.mean(), abs=2e-6)
    assert shown["true_token_rms"].value == pytest.approx(math.sqrt((expected**2).mean()), rel=1e-3)


@pytest.mark.parametrize(("scheme", "reference"), [("fake-fp16", True), ("fake-int8", False)])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_logits_that_are_not_finite_fail_the_cell(tmp_path, scheme, reference, value):
    """The message names precision, scheme, window and token; no reference is left behind."""
    if not reference:
        divergence.measure(divergence_run("fake-fp16", tmp_path))
    run = divergence_run(scheme, tmp_path)
    run.engine.unigram = run.engine.unigram.copy()
    run.engine.unigram[7] = value
    precision = "fp16" if reference else "int8"
    message = rf"NaN or infinite logits at {precision} \({scheme}\): window 1, token 1, and 63 of its 63 positions"
    with pytest.raises(NotFinite, match=message):
        divergence.measure(run)
    assert (tmp_path / "reference").exists() != reference
    assert ending(NotFinite("item 3")).reason == "item 3"
    assert ending(NotFinite("item 3")).ending is Ending.FAILED


def test_a_distance_within_the_stores_own_error_is_marked(tmp_path, monkeypatch):
    """Where storing the reference costs more than 1 % of the distance, the distance carries a warning."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    run = divergence_run("fake-int8", tmp_path)
    divergence.measure(run)
    assert run.caveats == []
    monkeypatch.setattr(divergence, "STORE_SHARE", 1e-9)
    divergence.measure(run)
    assert [caveat.kind for caveat in run.caveats] == ["store_error"]
    assert run.caveats[0].text.startswith("KL from the 16-bit row is ")


def test_a_text_of_the_callers_own_is_read_in_windows(tmp_path):
    """One window after the other from its beginning; another text, or too little of it, is one clear line."""
    text = tmp_path / "own.txt"
    text.write_bytes(bytes(range(32, 127)) * 3)
    sha256 = hashlib.sha256(text.read_bytes()).hexdigest()[:12]
    found = probe.file_windows(text, sha256, lambda words: list(words.encode()), count=4, length=64)
    assert [name for name, _ in found] == ["text"] * 4
    assert bytes(token for _, window in found for token in window) == text.read_bytes()[:256]
    with pytest.raises(UserError, match=r"own\.txt gives 1 windows of 200 tokens; give at least 400 tokens"):
        probe.file_windows(text, sha256, lambda words: list(words.encode()), count=4, length=200)
    with pytest.raises(UserError, match=r"own\.txt has changed"):
        probe.file_windows(text, "0" * 12, lambda words: list(words.encode()), count=4, length=64)
    run = divergence_run("fake-fp16", tmp_path)
    run.cell = run.cell.model_copy(update={"settings": {**run.settings, "text": "own.txt", "text_sha256": sha256}})
    run.files = {"text": str(text)}
    (nll, *_) = divergence.measure(run)
    assert nll.labels["registers"] == ["text"] * 4
    assert nll.labels["text_sha256"] == sha256


def test_an_anchor_is_found_by_the_model_and_not_by_the_engine(tmp_path):
    """Backend, scheme and the engine's own file name change nothing; model, weights, device and settings do."""
    model = planned("memory").model

    def anchor_path(entry, asked):
        return found_anchor(entry, asked, fake.BACKEND)

    for weights, changed in ((Weights.PACKAGE, False), (Weights.HUB, False), (Weights.LOCAL, False), ("random", True)):
        cell = planned("divergence").cell.model_copy(update={"weights": Weights(weights)})
        other = cell.model_copy(
            update={"backend": "other", "scheme": "q8_0", "precision": "int8", "source": "x", "revision": "y"}
        )
        assert (anchor_path(model, cell) != anchor_path(model, other)) == changed
    cell = planned("divergence").cell
    for change in (
        {"model": "another"},
        {"weights": Weights.HUB},
        {"device": "d"},
        {"settings": {}},
        {"suite_version": 9},
    ):
        assert anchor_path(model, cell) != anchor_path(model, cell.model_copy(update=change))
    attends = cell.model_copy(update={"settings": {**cell.settings, "attention": "plain"}})
    assert anchor_path(model, cell) == anchor_path(model, attends)


def test_two_checkpoints_of_one_name_have_two_anchors(tmp_path, monkeypatch):
    """An engine with files of its own finds the anchor by name if there is one, and none of two."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path))
    model, other = planned("memory").model, replace(fake.BACKEND, name="other", anchor=False)
    one, two, gguf = (
        planned("divergence").cell.model_copy(update={"weights": Weights.LOCAL, "fingerprint": mark})
        for mark in ("aaaa", "bbbb", "cccc")
    )
    own = found_anchor(model, one, fake.BACKEND)
    assert own != found_anchor(model, two, fake.BACKEND)
    assert found_anchor(model, gguf, other) not in {own, found_anchor(model, two, fake.BACKEND)}
    own.mkdir(parents=True)
    assert found_anchor(model, gguf, other) == own
    assert found_anchor(model, two, fake.BACKEND) != own
    found_anchor(model, two, fake.BACKEND).mkdir()
    assert not found_anchor(model, gguf, other).exists()


def test_only_the_fp32_row_of_a_backend_that_says_so_is_the_anchor():
    """Of any other the distributions stay private."""
    fp16 = planned("divergence").cell
    fp32 = fp16.model_copy(update={"precision": Precision.FP32})
    assert is_anchor(fake.BACKEND, fp32)
    assert not is_anchor(fake.BACKEND, fp16)
    assert not is_anchor(replace(fake.BACKEND, anchor=False), fp32)


def test_a_figure_that_is_not_a_number_is_refused():
    """NaN and infinity are errors, not samples."""
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="a sample is not finite"):
            measured("load_s", Unit.SECOND, [1.0, value])


def test_samples_are_kept_to_nine_digits_and_bytes_whole():
    """Rounding saves space where it cannot matter and never touches a count."""
    assert measured("load_s", Unit.SECOND, 1 / 3).values == (0.333333333,)
    assert measured("peak_bytes", Unit.BYTE, 123_456_789_012).values == (123_456_789_012,)


def test_windows_come_from_the_registers_in_turn():
    """Six registers give the first six windows; the seventh goes on where the first one ended."""
    found = probe.windows(lambda text: list(text.encode()), 7, 64)
    assert [register for register, _ in found] == [*probe.REGISTERS, "encyclopaedic"]
    text = probe.text("encyclopaedic").encode()
    assert bytes(found[0][1]) == text[:64]
    assert bytes(found[6][1]) == text[64:128]


def test_windows_run_out_with_the_text():
    """No window is short and none is made up: asking for too many gives fewer."""
    whole = sum(len(probe.text(register).encode()) // 1000 for register in probe.REGISTERS)
    found = probe.windows(lambda text: list(text.encode()), 10**6, 1000)
    assert len(found) == whole
    assert {len(window) for _, window in found} == {1000}


@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
@pytest.mark.parametrize("name", suites.ORDER)
def test_every_suite_says_what_each_profile_costs(name, profile):
    """Each suite has all three profiles, and larger ones never cost less."""
    found = suite(name)
    assert list(found.PROFILES) == ["smoke", "standard", "full"]
    work, smoke = found.work(found.PROFILES[profile]), found.work(found.PROFILES["smoke"])
    assert work.prefill_tokens >= smoke.prefill_tokens > 0
    assert work.decode_tokens >= smoke.decode_tokens


def test_what_costs_beside_tokens_is_counted():
    """A memory cell is one round; each window's distributions are compared; 60 answers of 4 tokens share 30 steps."""
    assert memory.work(memory.PROFILES["standard"]).rounds == 1
    windows = divergence.work(divergence.PROFILES["standard"])
    assert windows.compared_tokens == windows.prefill_tokens == 22 * 256
    answers = quality.work(quality.PROFILES["standard"])
    assert (answers.prefill_tokens, answers.decode_tokens) == (6 * 60 * 66, 30)
    pace = Pace(prefill_s=1, decode_s=10, compared_s=100, round_s=1000)
    work = Work(prefill_tokens=1, decode_tokens=2, compared_tokens=3, rounds=4)
    assert (pace.seconds(work), pace.times(2).seconds(work)) == (4321, 8642)


def test_the_probe_text_is_long_enough_for_the_full_profile():
    """The largest profile finds all its windows even with a tokenizer of four bytes a token."""
    settings = divergence.PROFILES["full"]
    found = probe.windows(lambda text: list(text.encode()[::4]), settings["windows"], settings["window_tokens"])
    assert len(found) == settings["windows"]


class Windows:
    """A share that holds so many further looks at the budget."""

    def __init__(self, looks):
        self.looks = looks

    def __call__(self, ahead_s=0.0):
        """Whether all looks were taken."""
        self.looks -= 1
        return self.looks < 0


def test_rows_are_compared_over_the_windows_that_both_have(tmp_path):
    """The reference was cut after four of six windows, int8 has them all, int4 was cut after three."""
    reference = divergence_run("fake-fp16", tmp_path, spent=Windows(2))
    found = {m.name: m for m in divergence.measure(reference)}
    assert len(found["nll_nat"].values) == 4
    assert (len(found["nll_nat"].labels["registers"]), found["nll_nat"].labels["windows_asked"]) == (4, 6)
    assert [c.text for c in reference.caveats] == ["divergence: 4 of 6 windows", "noise floor: not measured"]
    done = divergence.done(reference.settings, list(found.values()))
    assert (done.prefill_tokens, done.compared_tokens) == (4 * 64, 4 * 64)
    for scheme, share, windows in (("fake-int8", Windows(100), 4), ("fake-int4", Windows(1), 3)):
        run = divergence_run(scheme, tmp_path, spent=share)
        run.anchor = None
        found = {m.name: m for m in divergence.measure(run)}
        assert [len(found[n].values) for n in ("nll_nat", "reference_nll_nat", "same_top1")] == [windows] * 3
        assert len(found["kld_nat"].values) == windows * 63
        assert found["kld_nat"].labels["windows_asked"] == 6
        p, q = (np.exp(log_probs(name)) for name in ("fake-fp16", scheme))
        assert np.mean(found["kld_nat"].values) == pytest.approx(float((p * np.log(p / q)).sum()), rel=1e-3)
        assert run.caveats[0].text == "divergence: 4 of 6 windows, for the 16-bit row has no more"


def test_an_anchor_of_fewer_windows_is_compared_as_far_as_it_goes(tmp_path):
    """fp32 was cut after three windows; the row compared with it has all six from its own reference."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    divergence.measure(divergence_run("fake-fp32", tmp_path, spent=Windows(1)))
    found = {m.name: m for m in divergence.measure(divergence_run("fake-int8", tmp_path))}
    assert (len(found["nll_nat"].values), len(found["anchor_same_top1"].values)) == (6, 3)
    labels = found["anchor_kld_nat"].labels
    assert (len(labels["registers"]), labels["windows_asked"]) == (3, 6)
    assert "windows_asked" not in found["kld_nat"].labels


@pytest.mark.parametrize("name", ["memory", "throughput", "divergence", "quality"])
@pytest.mark.parametrize("profile", ["smoke", "standard", "full"])
def test_the_stated_minimum_is_part_of_the_work(name, profile):
    """And it is less wherever there are rounds."""
    found = suite(name)
    settings = found.PROFILES[profile]
    least, work = found.least(settings), found.work(settings)
    assert 0 < least.prefill_tokens <= work.prefill_tokens
    assert least.decode_tokens <= work.decode_tokens


def test_a_record_shows_the_work_that_was_done(records):
    """Of a run that nothing cut it is what was planned, but for warm-up rounds that were not needed."""
    for (_, name), record in records.items():
        found = suite(name)
        done, work = found.done(record.cell.settings, record.measurements), found.work(record.cell.settings)
        assert done.prefill_tokens <= work.prefill_tokens * 1.01
        assert done.prefill_tokens >= work.prefill_tokens * 0.6
        assert record.seconds > 0
