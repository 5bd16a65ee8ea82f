# SPDX-License-Identifier: Apache-2.0
"""Points of the throughput suite, repeats while the answer is noisy, budgets and known delays, on the fake."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
from builders import make_cell, make_record, suite_run

from bench.engines import fake
from bench.engines.contract import DoesNotFit
from bench.instruments import Instruments
from bench.judge.figures import figures
from bench.judge.stats import median_estimate
from suites import memory, throughput
from suites.sweep import noisy_share, repeated


def run_of(engine, tmp_path, clock=None, **settings):
    """The suite's surroundings with those settings and that clock."""
    run = suite_run("throughput", engine, tmp_path, Instruments(clock or fake._CLOCK, fake.ArithmeticMemory()))
    run.cell = run.cell.model_copy(update={"settings": {**run.cell.settings, **settings}})
    return run


POINTS = {"point_decode_tokens": 8, "point_repeats": 2, "point_repeats_max": 2}


def kinds(run):
    """Of its caveats."""
    return [caveat.kind for caveat in run.caveats]


def test_every_point_brings_the_known_rates_back(engine, tmp_path):
    """Batch 4 reads four prompts in four times the time, and one step serves four sequences."""
    run = run_of(engine, tmp_path, points=[[4, 128], [1, 512]], **POINTS)
    found = throughput.measure(run)
    by_point = {(m.labels["batch"], m.labels["prompt_tokens"]): m for m in found if m.name == "prefill_s"}
    assert [m.labels.get("point") for m in by_point.values()] == [None, True, True]
    assert {key: m.values[0] for key, m in by_point.items()} == pytest.approx(
        {(1, 128): 0.064, (1, 512): 0.256, (4, 128): 0.256}
    )
    gaps = next(m for m in found if m.name == "itl_s" and m.labels["batch"] == 4)
    assert (len(gaps.values), gaps.labels["per_repeat"]) == (14, 7)
    assert gaps.values == pytest.approx([1 / 40] * 14)
    assert kinds(run) == []


def test_rates_of_a_point_are_aggregate_and_named_by_it(engine, tmp_path):
    """Four sequences at 40 steps a second make 160 tokens a second, 40 each; the main rates stay the main ones."""
    from bench.views.table import flat

    run = run_of(engine, tmp_path, points=[[4, 128]], **POINTS)
    record = make_record(make_cell("throughput"), measurements=tuple(throughput.measure(run)))
    row = flat(record)
    assert row["decode_tokens_per_s_4x128"] == pytest.approx(160)
    assert row["prefill_tokens_per_s_4x128"] == pytest.approx(2000)
    assert row["decode_tokens_per_s"] == pytest.approx(40)


def test_bytes_read_grow_with_the_batch_s_cache(engine, tmp_path):
    """The weights once, the cache of every sequence: 17.5 MB and 4 x 132 positions of 1000 bytes."""
    found = throughput.measure(run_of(engine, tmp_path, points=[[4, 128]], **POINTS))
    read = {m.labels["batch"]: m.values[0] for m in found if m.name == "read_bytes_per_step"}
    assert read == {1: 17_500_000 + 136_000, 4: 17_500_000 + 528_000}
    (operations,) = [m for m in found if m.name == "operations_per_token"]
    assert (operations.values, operations.labels) == ((16_000_000,), {"compute": "bf16"})


def test_a_step_reads_the_experts_that_its_sequences_are_sent_through(engine, tmp_path, monkeypatch):
    """Two of eight experts for one sequence; a quarter is left resting by one, (3/4)^4 by four, drawn evenly."""
    census = replace(engine.census(), expert_bytes=8_000_000, expert_weights=4_000_000, expert_share=0.25)
    monkeypatch.setattr(engine, "census", lambda: census)
    found = throughput.measure(run_of(engine, tmp_path, points=[[4, 128]], **POINTS))
    read = {m.labels["batch"]: m.values[0] for m in found if m.name == "read_bytes_per_step"}
    assert read == {1: 17_500_000 + 136_000 - 6_000_000, 4: 17_500_000 + 528_000 - 2_531_250}
    (operations,) = [m for m in found if m.name == "operations_per_token"]
    assert operations.values == (16_000_000 - 2 * 3_000_000,)


def test_a_masked_model_is_expected_to_generate_nothing():
    """Its tokens are read; the plan's seconds count no decoded ones."""
    for found in (throughput, memory):
        settings = found.PROFILES["smoke"]
        assert found.work({**settings, "objective": "masked"}).decode_tokens == 0
        assert found.work({**settings, "objective": "masked"}).prefill_tokens == found.work(settings).prefill_tokens
        assert found.work(settings).decode_tokens > 0


def test_sequences_of_a_batch_differ(engine):
    """Rotations of one prompt: the same tokens, so the same work, and no two alike."""
    point = throughput.points({**throughput.PROFILES["full"], "batch": 4})[0]
    prompts = throughput._prompts(engine.encode, point)
    assert {len(prompt) for prompt in prompts} == {512}
    assert len({tuple(prompt) for prompt in prompts}) == 4
    assert {tuple(sorted(prompt)) for prompt in prompts} == {tuple(sorted(prompts[0]))}


def test_a_point_beyond_the_context_is_left_out_with_its_reason(engine, tmp_path):
    """The others are measured."""
    run = run_of(engine, tmp_path, points=[[1, 4090], [1, 64]], **POINTS)
    found = throughput.measure(run)
    assert {m.labels["prompt_tokens"] for m in found if m.name == "prefill_s"} == {128, 64}
    assert [caveat.text for caveat in run.caveats] == [
        "throughput at batch 1, prompt 4090: 4098 tokens are more than this model's context of 4096"
    ]


def test_a_point_expected_not_to_fit_is_not_tried(engine, tmp_path, monkeypatch):
    """Memory grown in proportion from the point before: 2 GB for 144 tokens make 16 times more."""
    run = run_of(engine, tmp_path, points=[[16, 136]], **POINTS)
    memory = run.instruments.memory
    monkeypatch.setattr(memory, "capacity_bytes", lambda: 8 << 30)
    monkeypatch.setattr(memory, "peak", lambda: SimpleNamespace(total_bytes=memory.bytes + (2 << 30)))
    throughput.measure(run)
    assert [c.text for c in run.caveats] == [
        "throughput at batch 16, prompt 136: it would need about 32.1 GiB, 8.0 GiB are there"
    ]


def test_a_point_that_did_not_fit_costs_that_point_alone(engine, tmp_path, monkeypatch):
    """The main point's answer stands."""
    plain = fake.FakeEngine.prefill

    def prefill(self, prompts, *, suppress=()):
        if len(prompts) > 1:
            raise DoesNotFit("prefill")
        return plain(self, prompts, suppress=suppress)

    monkeypatch.setattr(fake.FakeEngine, "prefill", prefill)
    run = run_of(engine, tmp_path, points=[[2, 64]], **POINTS)
    assert [m.labels for m in throughput.measure(run) if m.name == "prefill_s"] == [{"prompt_tokens": 128, "batch": 1}]
    assert [c.text for c in run.caveats] == ["throughput at batch 2, prompt 64: it did not fit in prefill"]


def test_a_steady_engine_is_not_repeated_for_nothing(engine, tmp_path):
    """The least repeats are enough where every one takes the same time."""
    found = throughput.measure(run_of(engine, tmp_path, repeats=3, repeats_max=9))
    assert len(next(m for m in found if m.name == "prefill_s").values) == 3


def test_a_noisy_engine_is_repeated_up_to_the_cap_and_marked(engine, tmp_path, monkeypatch):
    """Intervals wider than 10 % of the median ask for more, then for a caveat with both figures."""
    clock = fake.NoisyClock(0.5, seed=1)
    monkeypatch.setattr(fake, "_CLOCK", clock)
    run = run_of(engine, tmp_path, clock, repeats=2, repeats_max=7, warmup_max=1)
    found = throughput.measure(run)
    prefill = next(m for m in found if m.name == "prefill_s")
    assert len(prefill.values) == 7
    estimate = median_estimate([1 / value for value in prefill.values])
    width = 2 * estimate.half_width / estimate.value
    assert kinds(run)[0] == "noisy"
    assert run.caveats[0].text == f"prefill: the interval is {width:.0%} of the median after 7 repeats"


def test_a_masked_model_s_forward_passes_are_judged_as_repeats_are(engine, tmp_path, monkeypatch):
    """Warmed up until steady, repeated while noisy, marked where still noisy; a steady one costs the least."""
    run = run_of(engine, tmp_path, objective="masked", repeats=2, repeats_max=7, warmup_max=5)
    counts = {m.name: len(m.values) for m in throughput.measure(run) if m.name.endswith("prefill_s")}
    assert (counts, kinds(run)) == ({"prefill_s": 2, "warmup_prefill_s": 2}, [])
    clock = fake.NoisyClock(0.5, seed=1)
    monkeypatch.setattr(fake, "_CLOCK", clock)
    run = run_of(engine, tmp_path, clock, objective="masked", repeats=2, repeats_max=7, warmup_max=3)
    counts = {m.name: len(m.values) for m in throughput.measure(run) if m.name.endswith("prefill_s")}
    assert (counts, kinds(run)) == ({"prefill_s": 7, "warmup_prefill_s": 3}, ["not_steady", "noisy"])
    assert run.caveats[1].text.endswith("of the median after 7 repeats")
    run.spent, run.caveats = lambda ahead_s=0.0: True, []
    throughput.measure(run)
    assert kinds(run)[-1] == "undecided"


def test_a_spent_budget_ends_repeats_and_points_and_says_so(engine, tmp_path, monkeypatch):
    """The least repeats of the main point are the price of any answer."""
    clock = fake.NoisyClock(0.5, seed=1)
    monkeypatch.setattr(fake, "_CLOCK", clock)
    run = run_of(engine, tmp_path, clock, repeats=2, repeats_max=7, warmup_max=1, points=[[1, 64]], **POINTS)
    run.spent = lambda ahead_s=0.0: True
    found = throughput.measure(run)
    assert len(next(m for m in found if m.name == "prefill_s").values) == 2
    assert kinds(run)[0] == "undecided"
    assert run.caveats[0].text.endswith("after 2 repeats, and the budget was spent")
    assert run.caveats[-1].text == "throughput at batch 1, prompt 64: the budget was spent before it"


def test_a_known_delay_for_each_token_comes_back(engine, tmp_path, monkeypatch):
    """Ten milliseconds more a step are ten milliseconds more in every gap, and none in prefill."""
    plain = fake.FakeGeneration.step

    def step(self):
        fake._CLOCK.advance(0.0 if self.first else 0.010)
        return plain(self)

    monkeypatch.setattr(fake.FakeGeneration, "step", step)
    found = {m.name: m.values for m in throughput.measure(run_of(engine, tmp_path))}
    assert found["itl_s"] == pytest.approx([1 / 40 + 0.010] * 30)
    assert found["prefill_s"] == pytest.approx([0.064] * 2)


def test_two_runs_agree_within_their_intervals(engine, tmp_path, monkeypatch):
    """Twenty pairs of standard runs under 8 % of injected noise: both rates' intervals meet in at least nineteen."""
    agree = 0
    for pair in range(20):
        rates = []
        for seed in (2 * pair, 2 * pair + 1):
            clock = fake.NoisyClock(0.08, seed)
            monkeypatch.setattr(fake, "_CLOCK", clock)
            run = run_of(engine, tmp_path, clock, repeats=5, repeats_max=10)
            rates.append(figures(make_record(make_cell("throughput"), measurements=tuple(throughput.measure(run)))))
        one, two = rates
        meets = [
            one[name].low <= two[name].high and two[name].low <= one[name].high
            for name in ("prefill_tokens_per_s", "decode_tokens_per_s")
        ]
        agree += all(meets)
    assert agree >= 19


@pytest.mark.parametrize(
    ("profile", "behind"), [("smoke", 0), ("standard", 0), ("full", 4 * (2 * (2048 + 8192) + 3 * 512))]
)
def test_the_work_is_what_the_points_cost(profile, behind):
    """Every point's prompts count; the full profile's batches make most of it, and it reads behind two long texts."""
    settings = throughput.PROFILES[profile]
    assert throughput.work(settings).prefill_tokens == behind + sum(
        (p.repeats + p.warmup_min + 1) * p.batch * p.prompt_tokens for p in throughput.points(settings)
    )


def test_noise_is_expected_to_ask_for_the_share_of_repeats_that_it_asked_for_before():
    """From 5 repeats to 10: none of it, half of it in the geometric middle, and all; smoke has no more to ask for."""
    settings = throughput.PROFILES["standard"]
    assert [noisy_share(settings, count) for count in (5, 10, 4, 11)] == [0.0, 1.0, 0.0, 1.0]
    assert repeated(settings, 0.5)["repeats"] == pytest.approx(50**0.5)
    assert noisy_share(settings, 7) == pytest.approx(0.4854, abs=1e-4)
    smoke = throughput.PROFILES["smoke"]
    assert (noisy_share(smoke, 2), repeated(smoke, 0.5)) == (None, smoke)
    assert noisy_share({"repeats": 5}, 5) is None
    full = repeated(throughput.PROFILES["full"], 1.0)
    assert (full["repeats"], full["point_repeats"]) == (30, 8)
    work = throughput.work(repeated(settings, 0.5))
    assert (work.prefill_tokens, work.decode_tokens, work.rounds) == (5156, 929, 10)


def test_points_come_smallest_first_after_the_main_one():
    """What fits is known before what may not."""
    found = throughput.points(throughput.PROFILES["full"])
    assert found[0].main and (found[0].batch, found[0].prompt_tokens) == (1, 512)
    tokens = [point.tokens for point in found[1:]]
    assert tokens == sorted(tokens)
    assert {(p.batch, p.prompt_tokens) for p in found} == {(b, t) for b in (1, 4, 16) for t in (128, 512, 2048)}


# A share of the budget.


class Share:
    """A cell's share of the fake's seconds."""

    def __init__(self, seconds):
        self.end = fake._CLOCK.now() + seconds

    def __call__(self, ahead_s=0.0):
        """Whether less is left."""
        return fake._CLOCK.now() + ahead_s > self.end


STANDARD = {"prompt_tokens": 512, "decode_tokens": 128, "repeats": 5, "repeats_max": 10, "warmup_max": 6}


@pytest.mark.parametrize(
    ("seconds", "counts", "said"),
    [
        (100.0, (2, 5, 127), []),
        (14.0, (2, 3, 127), ["throughput: 3 of 5 repeats"]),
        (7.5, (1, 2, 127), ["throughput: 2 of 5 repeats"]),
        (4.7, (1, 2, 63), ["throughput: 2 of 5 repeats, 64 of 128 generated tokens"]),
        (0.0, (1, 2, 15), ["throughput: 2 of 5 repeats, 16 of 128 generated tokens"]),
    ],
)
def test_a_share_is_spent_on_whole_repeats_then_on_shorter_answers(engine, tmp_path, seconds, counts, said):
    """A repeat is 0.256 s of prompt and 127 gaps of 25 ms; a warm-up round 0.431 s."""
    run = run_of(engine, tmp_path, warmup_min=2, **STANDARD)
    run.spent = Share(seconds)
    found = {m.name: m for m in throughput.measure(run)}
    gaps = found["itl_s"]
    assert (len(found["warmup_prefill_s"].values), len(found["prefill_s"].values), gaps.labels["per_repeat"]) == counts
    assert [c.text for c in run.caveats if c.kind == "cut_by_budget"] == said
    assert found["prefill_s"].labels.get("repeats_asked") == (5 if said else None)
    assert gaps.labels.get("decode_asked") == (128 if counts[2] < 127 else None)
    done = throughput.done(run.settings, list(found.values()))
    assert done.prefill_tokens == 512 * (counts[0] + counts[1])
    assert done.rounds == counts[0] + counts[1]
    assert done.decode_tokens == 8 * counts[0] + counts[1] * (counts[2] + 1)
