# SPDX-License-Identifier: Apache-2.0
"""The longest context and the largest batch: known truths through the real suite, the real runner and a real limit."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from builders import can_make_group, make_cell, make_machine, make_model, sample

from bench.engines import fake
from bench.engines.contract import DoesNotFit, LoadRequest, Unsupported
from bench.engines.fake import faults
from bench.engines.transformers import BACKEND as TORCH
from bench.instruments import Instruments, Reading
from bench.judge.figures import figures
from bench.plan import predict
from bench.plan.baseline import BASELINE_BYTES
from bench.plan.capacity import trials, with_capacity
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from bench.records.cell import Weights
from bench.records.record import Ending, Measurement, Prediction, Record
from bench.records.store import Store
from bench.run.memory_limit import confined
from bench.scoring.journal import Journal
from bench.suite import Loading, RestartWorker, SuiteRun
from bench.views.plan import fitting, flat_capacity
from bench.views.table import flat
from suites import capacity

ROOT = Path(__file__).resolve().parents[2]
FIXED = 100_000_000 + 18_000_000 + 3_000_000
"""Bytes of the fake at 16 bits before its first position: process, weights, workspace."""
LABELS = ("bound", "peak_bytes", "budget_bytes", "held_back_bytes", "predicted")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The suite over the fake at 16 bits, with settings of one's own."""
    memory = fake.ArithmeticMemory()
    monkeypatch.setattr(fake, "_MEMORY", memory)
    scheme = fake.BACKEND.scheme("fake-fp16")
    assert scheme is not None
    request = LoadRequest(model=make_model(), weights=Weights.RANDOM, scheme=scheme, device="cpu")
    engine, reading = fake.FakeEngine(request), Reading(total_bytes=0)

    def make(predicted: Prediction | None = None, device: str = "cpu-test", **settings: Any) -> SuiteRun:
        cell = make_cell("capacity", device=device, settings={**capacity.PROFILES["smoke"], **settings})
        return SuiteRun(
            cell=cell, engine=engine, instruments=Instruments(fake._CLOCK, memory), cache=tmp_path,
            loading=Loading(seconds=1.0, baseline=reading, peak=reading, ready=reading, loaded=reading),
            predicted=predicted or Prediction(),
        )  # fmt: skip

    return make


def answer(found: list[Measurement], name: str, **labels: Any) -> Measurement:
    (only,) = (m for m in found if m.name == name and labels.items() <= m.labels.items())
    return only


@pytest.mark.parametrize("hint", [None, 2_000, 5_000, 100])
def test_the_longest_context_is_the_formula_s(run: Any, hint: int | None) -> None:
    """A thousand bytes a position, 2 % of the limit held back: found to 2 %, whatever was predicted."""
    limit = 125_000_000
    found = capacity.measure(run(Prediction(context_tokens=hint), memory_limit_bytes=limit, batch_prompts=[]))
    context = answer(found, "max_context_tokens")
    right = (limit * 98 // 100 - FIXED) // 1000
    assert right == 1500
    assert 0.98 * right <= context.values[0] <= right
    trials = answer(found, "trial_bytes")
    assert max(trials.values) == context.labels["peak_bytes"] == FIXED + 1000 * context.values[0]
    assert (context.labels["bound"], context.labels["held_back_bytes"]) == ("memory", 2_500_000)
    assert [FIXED + 1000 * size for size in trials.labels["sizes"]] == list(trials.values)  # type: ignore[union-attr]


def test_the_largest_batch_is_the_formula_s_to_the_sequence(run: Any) -> None:
    """136,000 bytes a sequence of 128 + 8; 24 of them and half another one would fit."""
    limit = round((FIXED + 24.5 * 136_000) / 0.98)
    found = capacity.measure(run(Prediction(batch={"128": 20}), memory_limit_bytes=limit))
    batch = answer(found, "max_batch")
    assert (batch.values, batch.labels["prompt_tokens"]) == ((24,), 128)
    assert [batch.labels[name] for name in LABELS] == ["memory", FIXED + 24 * 136_000, limit, int(0.02 * limit), 20]
    assert answer(found, "trial_bytes", of="max_batch").labels["sizes"] == [1, 2, 8, 19, 22, 24]
    assert answer(found, "trial_s", of="max_batch").values == pytest.approx((0.064, 0.128, 0.512, 1.216, 1.408, 1.536))


def test_every_position_is_held_at_the_end(run: Any) -> None:
    """4096 tokens of context are 4088 read and 8 generated and fed back, and the model's own limit is met exactly."""
    context = answer(capacity.measure(run(memory_limit_bytes=10**9)), "max_context_tokens")
    assert (context.values, context.labels["bound"]) == ((4096,), "context")
    assert context.labels["peak_bytes"] == FIXED + 4_096_000


@pytest.mark.parametrize(
    ("settings", "bound", "sequences"),
    [
        ({"trial_tokens": 1000}, "tokens", range(7, 8)),
        ({"trial_s": 1.0, "trial_tokens": 10**6}, "seconds", range(12, 16)),  # 2000 tokens a second: 15.6 prompts
        ({"trials": 3, "trial_tokens": 10**6}, "trials", range(2, 100)),
    ],
)
def test_what_the_profile_does_not_allow_is_not_tried(
    run: Any, settings: dict[str, Any], bound: str, sequences: range
) -> None:
    """The answer is then a least one, and its label says what ended the search."""
    found = capacity.measure(run(memory_limit_bytes=10**9, **settings))
    batch = answer(found, "max_batch")
    assert batch.labels["bound"] == bound
    assert batch.values[0] in sequences
    assert max(answer(found, "trial_s", of="max_batch").values) <= 1.0 or bound != "seconds"


def test_a_spent_budget_of_time_ends_the_search_with_what_ran(run: Any) -> None:
    """The least of each question is tried all the same: an answer without a trial would be none."""
    made = run(memory_limit_bytes=10**9)
    made.spent = lambda: True
    found = capacity.measure(made)
    assert {m.labels["bound"] for m in found if m.name.startswith("max_")} == {"spent"}
    assert [m.values[0] for m in found if m.name.startswith("max_")] == [24, 0]  # 24 positions hold no prompt of 128


def test_without_a_limit_the_budget_is_what_the_device_could_give(run: Any) -> None:
    """5 % of it are left to others; a GPU refuses instead of killing, and nothing is held back."""
    context = answer(capacity.measure(run()), "max_context_tokens")
    assert (context.labels["budget_bytes"], context.labels["held_back_bytes"]) == (10**12, 5 * 10**10)
    context = answer(capacity.measure(run(device="cuda-test")), "max_context_tokens")
    assert context.labels["held_back_bytes"] == 0


def test_a_device_that_does_not_tell_its_memory_has_no_budget(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reason names the remedy."""
    made = run()
    monkeypatch.setattr(made.instruments.memory, "capacity_bytes", lambda: 0, raising=False)
    with pytest.raises(Unsupported, match="does not tell how much memory it has: give a budget with --memory-limit"):
        capacity.measure(made)


def test_a_loaded_model_that_fills_the_budget_does_not_fit(run: Any) -> None:
    """Nothing is read then: the first trial would already be killed."""
    with pytest.raises(DoesNotFit, match="with the model loaded and nothing read yet"):
        capacity.measure(run(memory_limit_bytes=120_000_000))


def test_a_least_trial_beyond_the_budget_does_not_fit(run: Any) -> None:
    """118 MB are loaded, 121 MB are needed to read anything."""
    with pytest.raises(DoesNotFit, match="a context of 24 tokens"):
        capacity.measure(run(memory_limit_bytes=121_000_000))


@pytest.mark.parametrize("fault", ["memory", "unsupported"])
def test_an_engine_that_refuses_is_a_no(run: Any, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """The fourth prompt is refused: the search closes in on it from below, and every trial is kept with its reason."""
    monkeypatch.setenv("BENCH_FAKE_FAULT", f"{fault}@prefill#4")
    monkeypatch.setattr(faults, "_REACHED", type(faults._REACHED)())
    found = capacity.measure(run(Prediction(context_tokens=4000), memory_limit_bytes=10**9, batch_prompts=[]))
    trials = answer(found, "trial_bytes").labels
    sizes, failures = trials["sizes"], trials["failures"]
    assert isinstance(sizes, list)
    assert isinstance(failures, list)
    why = "memory" if fault == "memory" else "a fault that was asked for"
    assert [bool(failure) for failure in failures[:4]] == [False, False, False, True]
    assert failures[3] == why
    context = answer(found, "max_context_tokens")
    assert context.labels["bound"] == why
    assert sizes[3] * 0.98 - 16 <= context.values[0] < sizes[3]  # type: ignore[operator]


def test_what_trials_left_behind_counts_in_the_next_question(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte leaked by the context's trials is expected under the batch's."""
    made = run(memory_limit_bytes=10**9)
    search = capacity._search

    def leaky(run: SuiteRun, question: Any, *rest: Any) -> None:
        search(run, question, *rest)
        fake._MEMORY.use(1_000_000)

    monkeypatch.setattr(capacity, "_search", leaky)
    expected = answer(capacity.measure(made), "trial_bytes", of="max_batch").labels["expected_bytes"]
    assert isinstance(expected, list)
    assert expected[0] == FIXED + 24_000 + 1_000_000


def test_an_engine_that_can_do_nothing_is_unsupported(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Refusing the least trial is not an answer of 0."""
    monkeypatch.setenv("BENCH_FAKE_FAULT", "unsupported@prefill")
    with pytest.raises(Unsupported, match="a fault that was asked for"):
        capacity.measure(run(memory_limit_bytes=10**9))


def test_a_prompt_longer_than_the_context_has_no_batch_and_one_that_memory_forbids_has_none_of_it(run: Any) -> None:
    """The first is a warning, the second an answer of 0 without a trial."""
    made = run(memory_limit_bytes=125_000_000, batch_prompts=[1600, 5000])
    found = capacity.measure(made)
    batch = answer(found, "max_batch")
    assert (batch.values, batch.labels["bound"], batch.labels["peak_bytes"]) == ((0,), "memory", None)
    assert [m.labels["of"] for m in found if m.name == "trial_bytes"] == ["max_context_tokens"]
    (caveat,) = made.caveats
    assert caveat.text == "batch of prompt 5000: 5008 tokens are more than its context of 4096"


def test_a_masked_model_has_a_context_and_no_batch(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It reads and does not generate: its positions are the prompt's, and no step is asked of it."""
    monkeypatch.setattr(fake.FakeGeneration, "step", lambda self: pytest.fail("asked to generate"))
    found = capacity.measure(run(memory_limit_bytes=10**9, objective="masked"))
    assert {m.name for m in found} == {"max_context_tokens", "trial_bytes", "trial_s"}
    context = answer(found, "max_context_tokens")
    assert (context.values, context.labels["decode_tokens"]) == ((4096,), 0)


def test_prompts_go_on_where_the_text_ends(run: Any) -> None:
    """A context longer than the probe text holds it again; no two sequences of a batch are equal."""
    made = run()
    (long,) = capacity._prompts(made, 10**6, 1)
    text = made.engine.encode(capacity.probe.text("encyclopaedic"))
    assert len(long) == 10**6
    assert long[len(text) : 2 * len(text)] == text
    batch = capacity._prompts(made, 128, 100)
    assert {len(prompt) for prompt in batch} == {128}
    assert len({tuple(prompt) for prompt in batch}) == 100


class Died(BaseException):
    """What the kernel's kill is to a test."""


@pytest.mark.parametrize(("deaths", "killed"), [(1, 1), (0, 0)])
def test_a_search_is_taken_up_where_its_process_ended(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaths: int, killed: int
) -> None:
    """What ran is not run again; what it died in is a no after a death, and is run again after Ctrl-C."""
    fields = {"memory_limit_bytes": 125_000_000, "batch_prompts": []}
    whole = answer(capacity.measure(run(**fields)), "trial_bytes").labels["sizes"]
    assert isinstance(whole, list)
    prefill, asked = fake.FakeEngine.prefill, list[int]()

    def dying(self: Any, prompts: Any, **options: Any) -> Any:
        asked.append(len(prompts[0]) + 8)
        if len(asked) == 4:
            raise Died
        return prefill(self, prompts, **options)

    monkeypatch.setattr(fake.FakeEngine, "prefill", dying)
    first = run(**fields)
    first.journal = Journal(tmp_path / "journal")
    with pytest.raises(Died):
        capacity.measure(first)
    second = run(**fields)
    second.journal, second.deaths = first.journal, deaths
    trials = answer(capacity.measure(second), "trial_bytes")
    sizes, failures = trials.labels["sizes"], trials.labels["failures"]
    assert isinstance(sizes, list)
    assert isinstance(failures, list)
    assert asked[:4] == whole[:4] == sizes[:4]
    assert asked[4:] == sizes[4 - (not killed) :]
    assert (trials.labels["killed"], failures.count("memory")) == (killed, killed)
    if not killed:
        assert sizes == whole
    else:
        assert trials.values[3] == 125_000_000


def test_where_memory_remembers_each_trial_has_a_process_of_its_own(
    run: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The suite asks for it before it begins a second trial, and before anything in a process that was used."""
    monkeypatch.setenv("BENCH_FAKE_FAULT", "leak@prefill")
    journal, processes = Journal(tmp_path / "journal"), 0
    used = run(memory_limit_bytes=126_000_000, batch_prompts=[])
    used.used = used.renewable = True
    with pytest.raises(RestartWorker):
        capacity.measure(used)
    found: list[Measurement] = []
    while not found:
        processes += 1
        memory = fake.ArithmeticMemory()
        memory.use(18_000_000)
        monkeypatch.setattr(fake, "_MEMORY", memory)
        fresh = run(memory_limit_bytes=126_000_000, batch_prompts=[])
        fresh.instruments = Instruments(fake._CLOCK, memory)
        fresh.journal, fresh.renewable = journal, True
        with contextlib.suppress(RestartWorker):
            found = capacity.measure(fresh)
        assert processes < 20
    kept = answer(found, "trial_bytes")
    assert processes == len(kept.values) > 3
    sizes = kept.labels["sizes"]
    assert isinstance(sizes, list)
    assert list(kept.values) == [FIXED + 1_000_000 + 1000 * int(str(size)) for size in sizes]  # one leak in each


# Through the runner and the kernel.


def bench_run(tmp_path: Path, *options: str) -> dict[str, Record]:
    """The records of a smoke run of this suite on the fake, by scheme."""
    results = tmp_path / "results"
    call = ["run", "--backend", "fake", "--suite", "capacity", "--profile", "smoke", "--device", "cpu", "--force"]
    done = subprocess.run(
        [sys.executable, "-m", "bench", *call, "--quiet", "--results", str(results), *options],
        cwd=ROOT, env=os.environ | {"BENCH_CACHE": str(tmp_path / "cache")}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert "bounded by" in done.stdout
    return {record.cell.scheme: record for record in Store(results).records()}


def test_the_real_runner_brings_the_known_bytes_back(tmp_path: Path) -> None:
    """A worker under a real limit (where this machine makes groups), the fake's bytes in arithmetic."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here: a crude limit stops the worker itself")
    limit = 141_800_000
    records = bench_run(tmp_path, "--precision", "fp32,fp16", "--memory-limit", str(limit))
    full = records["fake-fp32"]
    assert full.outcome.ending is Ending.OK
    right = (limit * 98 // 100 - FIXED - 16_000_000) // 1000
    assert right == 1964
    found = {name: value.value for name, value in figures(full).items()}
    assert right - 39 <= found["max_context_tokens"] <= right
    assert (found["max_batch:128"], found["budget_bytes"]) == (14, limit)
    half = flat(records["fake-fp16"])
    assert (half["max_context_tokens"], half["max_context_tokens_bound"]) == (4096, "context")
    assert (half["max_batch_128"], half["max_batch_128_bound"]) == (30, "tokens")
    assert half["memory_limit_bytes"] == limit


def test_a_trial_that_is_killed_is_a_no_and_the_search_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every fourth prompt of a process meets the real limit: two processes die, the third finds the answer."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here: a crude limit kills nobody")
    monkeypatch.setenv("BENCH_FAKE_FAULT", "hoard@prefill#4")
    (record,) = bench_run(tmp_path, "--precision", "fp16", "--memory-limit", "200MB").values()
    assert record.outcome.ending is Ending.OK
    trials = [m.labels for m in record.measurements if m.name == "trial_bytes"]
    killed = sum(int(str(labels["killed"])) for labels in trials)
    assert killed in range(1, 5)
    for name, labels in zip(("max_context_tokens", "max_batch"), trials, strict=True):
        sizes, failures = labels["sizes"], labels["failures"]
        assert isinstance(sizes, list)
        assert isinstance(failures, list)
        best = answer(list(record.measurements), name).values[0]
        assert best == max(size for size, failure in zip(sizes, failures, strict=True) if not failure)  # type: ignore[type-var]
        assert all(size > best for size, failure in zip(sizes, failures, strict=True) if failure)  # type: ignore[operator]
    assert list((tmp_path / "cache" / "journal").iterdir()) == []


def test_the_runner_gives_every_trial_a_process_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A megabyte stays behind each prompt, and yet every peak has just one: as many loads as trials, one record."""
    monkeypatch.setenv("BENCH_FAKE_FAULT", "leak@prefill")
    (record,) = bench_run(tmp_path, "--precision", "fp16").values()
    assert record.outcome.ending is Ending.OK
    trials = [m for m in record.measurements if m.name == "trial_bytes"]
    assert [len(m.values) > 2 for m in trials] == [True, True]
    for trial, held in zip(trials, (1, 136), strict=True):
        sizes = trial.labels["sizes"]
        assert isinstance(sizes, list)
        assert list(trial.values) == [FIXED + 1_000_000 + 1000 * held * int(str(size)) for size in sizes]
    assert record.seconds > 0.5  # a process takes some tenths of a second: those before the last are counted
    assert list((tmp_path / "cache" / "journal").iterdir()) == []


def test_a_search_that_always_dies_does_not_fit_in_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first prompt is too much each time: the least trial is a no, which is the answer."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here: a crude limit kills nobody")
    monkeypatch.setenv("BENCH_FAKE_FAULT", "hoard@prefill#1")
    (record,) = bench_run(tmp_path, "--precision", "fp16", "--memory-limit", "200MB").values()
    assert record.outcome.ending is Ending.DOES_NOT_FIT
    assert record.outcome.reason.startswith("out of memory in a context of 24 tokens")
    assert list((tmp_path / "cache" / "journal").iterdir()) == []


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")
def test_a_search_under_a_hard_limit_comes_back_alive_and_close(tmp_path: Path) -> None:
    """An engine that really takes 40,000 bytes a token, in a group of 200 MB: the answer is what its memory allows."""
    if not can_make_group():
        pytest.skip("no cgroup may be made here")
    limit = 200_000_000
    with confined(limit, "cpu") as confinement:
        assert confinement is not None
        command = confinement.command([sys.executable, str(ROOT / "tests" / "hoarder.py"), str(limit)])
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        assert confinement.kills() == 0
    said = json.loads(done.stdout)
    found = [Measurement.model_validate(item) for item in said["found"]]
    context = answer(found, "max_context_tokens")
    room = 0.98 * limit - said["base"]
    assert context.values[0] == pytest.approx(room / 40_000, rel=0.04)
    batch = answer(found, "max_batch")
    assert batch.values[0] == pytest.approx(room / (40_000 * 136), abs=1.5)
    assert 0.95 * limit < float(str(context.labels["peak_bytes"])) <= limit


# What is said before anything is loaded.

SETTINGS = capacity.PROFILES["standard"]
BUDGET = 700 * 2**20


def big() -> Any:
    """A model whose cache counts: 16 layers of 1024."""
    shape = {"hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16, "intermediate_size": 2048}
    config = {"model_type": "llama", "vocab_size": 1000, "max_position_embeddings": 8192} | shape
    return make_model(architecture=config)


def test_the_prediction_is_the_largest_that_is_predicted_to_fit() -> None:
    """One token or one sequence more is predicted beyond the budget less what the process has before loading."""
    scheme = TORCH.scheme("bf16")
    assert scheme is not None
    budget = BUDGET + BASELINE_BYTES["cpu"]["transformers"]
    found = with_capacity(Prediction(), big(), scheme, TORCH, "cpu", SETTINGS, budget)

    def peak(prompt: int, batch: int) -> int:
        return predict.needed(big().architecture or {}, scheme, "cpu", prompt, 8, batch).peak_bytes

    tokens, batch = found.context_tokens, (found.batch or {})["512"]
    assert tokens is not None
    assert peak(tokens - 8, 1) <= BUDGET < peak(tokens - 7, 1)
    assert peak(512, batch) <= BUDGET < peak(512, batch + 1)
    assert 100 < tokens < 8192
    assert found.peak_bytes == peak(1, 1)
    assert fitting(found) == f"context of {tokens:,} tokens; batch of {batch} x 512"
    assert flat_capacity(found) == {"predicted_context_tokens": tokens, "predicted_batch_512": batch}


def test_a_batch_of_more_tokens_than_one_sequence_may_have_still_grows() -> None:
    """Its sequences are counted as such: 100 of 520 tokens hold 100 times the cache of one."""
    scheme = TORCH.scheme("bf16")
    assert scheme is not None
    cache = 2 * 16 * 1024 * 2 * 520  # keys and values, layers, width, bytes, positions
    budget = 100 * cache + BASELINE_BYTES["cpu"]["transformers"]
    found = with_capacity(Prediction(), big(), scheme, TORCH, "cpu", {**SETTINGS, "trial_tokens": 10**6}, budget)
    assert found.batch is not None
    assert 20 < found.batch["512"] < 100


def test_a_context_ends_where_the_model_s_own_or_the_profile_s_does() -> None:
    """With memory for anything."""
    scheme = TORCH.scheme("bf16")
    assert scheme is not None
    found = with_capacity(Prediction(), big(), scheme, TORCH, "cpu", SETTINGS, 10**15)
    assert (found.context_tokens, found.batch) == (8192, {"512": 32768 // 520})
    masked = with_capacity(Prediction(), big(), scheme, TORCH, "cpu", {**SETTINGS, "objective": "masked"}, 10**15)
    assert (masked.context_tokens, masked.batch) == (8192, {})


def test_nothing_is_predicted_where_nothing_can_be() -> None:
    """No architecture, no budget; and a budget below the weights holds nothing."""
    scheme = TORCH.scheme("bf16")
    assert scheme is not None
    unknown = make_model(architecture=None)
    assert with_capacity(Prediction(), unknown, scheme, TORCH, "cpu", SETTINGS, 10**9) == Prediction()
    assert with_capacity(Prediction(), big(), scheme, TORCH, "cpu", SETTINGS, 0) == Prediction()
    assert fitting(Prediction()) == "unknown, the search starts small"
    nothing = with_capacity(Prediction(), big(), scheme, TORCH, "cpu", SETTINGS, 1)
    assert (nothing.context_tokens, nothing.batch, fitting(nothing)) == (0, {"512": 0}, "nothing")


def test_it_is_planned_only_by_name_and_with_its_prediction() -> None:
    """Last of a load; the limit is its budget, else what is free."""
    chosen = Selection(models=("tiny",), backends=("transformers",), precisions=())
    suites = {planned.cell.suite for planned in make_plan(chosen, [big()], make_machine()).cells}
    assert suites == {"memory", "throughput", "divergence", "quality"}
    chosen = replace(chosen, suites=("capacity", "memory"), memory_limit_bytes=1_500_000_000)
    cells = make_plan(chosen, [big()], make_machine(), (), 10**12).cells
    assert [planned.cell.suite for planned in cells[:2]] == ["memory", "capacity"]
    limited = cells[1].predicted
    free = make_plan(replace(chosen, memory_limit_bytes=None), [big()], make_machine(), (), 10**12).cells[1].predicted
    assert (free.batch, cells[0].predicted.context_tokens) == ({"512": 63}, None)
    assert limited.batch is not None
    assert 0 < limited.batch["512"] < 63


def test_a_record_shows_the_tokens_of_every_trial() -> None:
    """Those of the context by their sizes, those of a batch by its sequences; ten steps each."""
    context = sample("trial_bytes", [1, 2, 3], sizes=[24, 100, 400], of="max_context_tokens")
    batch = sample("trial_bytes", [1, 2], sizes=[1, 4], of="max_batch", prompt_tokens=512)
    done = capacity.done({**SETTINGS, "decode_tokens": 9}, [context, batch])
    assert (done.prefill_tokens, done.decode_tokens, done.rounds) == (524 + 5 * 512, 50, 5)


def test_its_seconds_are_expected_by_what_is_predicted_to_fit() -> None:
    """Six trials of each question, together 2.6 times as long as the last ones; unknown where nothing is predicted."""
    found = trials({**SETTINGS, "decode_tokens": 8}, Prediction(context_tokens=1000, batch={"512": 3}))
    assert found is not None
    assert (found.prefill_tokens, found.decode_tokens, found.rounds) == (round(2.6 * (1000 + 3 * 520)), 12 * 9, 12)
    assert trials(SETTINGS, Prediction()) is None
