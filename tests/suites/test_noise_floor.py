# SPDX-License-Identifier: Apache-2.0
"""What a row measures of itself: neighbours, decoding, its own weights in float32; known figures come back."""

from contextlib import contextmanager

import numpy as np
import pytest
from builders import divergence_run, engine_of, make_record

from bench.engines.contract import DoesNotFit
from bench.judge.figures import figures
from bench.judge.noise_floor import arithmetic, noise_floor
from suites import divergence, probe

SCHEME = "fake-int8-pass"
READ = 63
"""Tokens that a pass over one window of the smoke profile reads."""
TEXT = [window for _, window in probe.windows(lambda words: list(words.encode()), 6, 64)]
Z = -(37 * np.arange(257) % 251) / 40


def of_pass(read, scheme=SCHEME):
    """The fake's log-probabilities where a pass reads these tokens, from its docstring."""
    temperature = {SCHEME: 1.05 * (1 + sum(read) % 13 / 10), "fake-fp16": 1.0}[scheme]
    return Z / temperature - np.log(np.exp(Z / temperature).sum())


def kl(p, q):
    """KL(p || q), nats."""
    return float((np.exp(p) * (p - q)).sum())


def measured(run):
    """By name."""
    return {m.name: m for m in divergence.measure(run)}


def names(measurements):
    """What was measured."""
    return {m.name for m in measurements}


@pytest.fixture
def run(tmp_path):
    """A cell of the scheme that looks at the whole pass, its reference measured."""
    divergence.measure(divergence_run("fake-fp16", tmp_path))
    return divergence_run(SCHEME, tmp_path)


EXACT = of_pass((), "fake-fp16")


def beside(windows):
    """What all of these windows in one pass are given."""
    return of_pass([token for window in windows for token in window[:-1]])


def test_every_row_measures_its_neighbours_and_its_decoding(run):
    """Closed forms: a pass over a window alone, over four of them, over one token after the other."""
    found = measured(run)
    alone, four = [of_pass(window[:-1]) for window in TEXT], beside(TEXT[:4])
    assert found["kld_nat"].values[::READ] == pytest.approx([kl(EXACT, own) for own in alone], rel=1e-3)
    assert found["floor_nat"].values == pytest.approx([kl(own, four) for own in alone[:4]], rel=1e-3, abs=1e-6)
    changes = [own[token] - four[token] for own, window in zip(alone, TEXT[:4], strict=False) for token in window[1:]]
    assert found["floor_nll_change_nat"].values == pytest.approx(changes, abs=1e-3)
    distances, changes = [], []
    for window in TEXT[:2]:
        once, steps = of_pass(window[:32]), [of_pass([token]) for token in window[:32]]
        distances.append(np.mean([kl(once, step) for step in steps]))
        changes += [once[token] - step[token] for step, token in zip(steps, window[1:33], strict=True)]
    assert found["floor_decode_nat"].values == pytest.approx(distances, rel=1e-3)
    assert found["floor_decode_nll_change_nat"].values == pytest.approx(changes, abs=1e-3)
    assert (found["floor_nat"].labels["batch"], found["floor_nat"].labels["window_tokens"]) == (4, READ)
    assert found["floor_decode_nat"].labels["window_tokens"] == 32
    assert found["floor_decode_nat"].labels["registers"] == found["kld_nat"].labels["registers"][:2]


def test_the_floor_of_a_record_is_a_figure_and_a_judgement(run):
    """Both ways, the larger one counts; ln perplexity moves as far as these windows may."""
    record = make_record(run.cell, measurements=divergence.measure(run))
    floor, shown = noise_floor(record), figures(record)
    assert shown["kld_floor"].value == floor.neighbours.kl > 0
    assert shown["kld_floor_decode"].value == floor.decode.kl > 0
    assert floor.kl == max(floor.neighbours.kl, floor.decode.kl)
    changes = np.array(record.measurement("floor_decode_nll_change_nat").values)
    random = 1.96 * np.sqrt((changes**2).mean() / (6 * READ))
    assert random <= floor.decode.ln_perplexity * 1.001 < random + abs(changes.mean())


def test_a_row_that_no_other_way_moves_has_a_floor_of_zero(tmp_path):
    """The reference too: its floor is measured as every other row's."""
    record = make_record((run := divergence_run("fake-fp16", tmp_path)).cell, measurements=divergence.measure(run))
    assert (noise_floor(record).kl, noise_floor(record).ln_perplexity) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("lacking", "left"), [("log_probs_together", "floor_decode_nat"), ("log_probs_stepwise", "floor_nat")]
)
def test_an_engine_that_cannot_read_in_that_way_has_the_other(tmp_path, lacking, left):
    """One sequence at a time has no other batch; a masked model does not decode."""

    class Single:
        def __init__(self, inner):
            self.inner = inner

        def __getattr__(self, name):
            if name == lacking:
                raise AttributeError(name)
            return getattr(self.inner, name)

    run = divergence_run("fake-fp16", tmp_path, engine=Single(engine_of("fake-fp16")))
    assert names(divergence.measure(run)) & {"floor_decode_nat", "floor_nat"} == {left}
    assert run.caveats == []


def test_a_noise_floor_that_does_not_fit_costs_no_record(tmp_path):
    """Four windows at a time can be too much where one fits: a warning, and all else as ever."""

    def together(rows):
        raise DoesNotFit("score")
        yield

    run = divergence_run("fake-fp16", tmp_path)
    run.engine.log_probs_together = together
    found = names(divergence.measure(run))
    assert found == {"nll_nat", "store_error_nat", "floor_decode_nat", "floor_decode_nll_change_nat"}
    assert [caveat.kind for caveat in run.caveats] == ["no_noise_floor"]


def dequantizing(run, scheme):
    """Let the run's engine take its weights back to what that scheme of the fake computes."""

    @contextmanager
    def dequantized():
        yield engine_of(scheme) if scheme else None

    run.engine.dequantized = dequantized
    return run


def test_what_the_weights_alone_cost_is_the_third_figure(run):
    """Over the first windows, from the same reference; a KL that is mostly not in the weights carries a warning."""
    record = make_record(run.cell, measurements=divergence.measure(dequantizing(run, "fake-int8")))
    weights = kl(EXACT, Z / 1.05 - np.log(np.exp(Z / 1.05).sum()))
    whole = np.mean([kl(EXACT, of_pass(window[:-1])) for window in TEXT[:4]])
    found = record.measurement("weights_kld_nat")
    assert found.values == pytest.approx([weights] * 4 * READ, rel=1e-2)
    assert (arithmetic(record).weights, arithmetic(record).as_it_runs) == pytest.approx((weights, whole), rel=1e-2)
    assert arithmetic(record).share == pytest.approx(1 - weights / whole, rel=1e-2)
    assert figures(record)["kld_weights"].value == pytest.approx(weights, rel=1e-2)
    (caveat,) = run.caveats
    assert caveat.kind == "device_arithmetic"
    assert caveat.text.startswith(f"{1 - weights / whole:.0%} of its KL is this device's arithmetic, not its weights: ")


def test_a_distance_that_is_the_formats_own_carries_no_warning(run):
    """Weights as far away as the row is: nothing is the device's."""
    record = make_record(run.cell, measurements=divergence.measure(dequantizing(run, SCHEME)))
    assert arithmetic(record).share == 0.0
    assert run.caveats == []


@pytest.mark.parametrize("why", ["nothing", "spent"])
def test_weights_are_left_where_they_are(run, why):
    """Where the engine says that they do not fit, or the budget is spent: no figure, no warning."""
    dequantizing(run, None if why == "nothing" else "fake-int8")
    if why == "spent":
        run.spent = lambda ahead_s=0.0: True
    record = make_record(run.cell, measurements=divergence.measure(run))
    assert arithmetic(record) is None
    assert {caveat.kind for caveat in run.caveats} == (set() if why == "nothing" else {"cut_by_budget"})
