# SPDX-License-Identifier: Apache-2.0
"""Joules of prefill and of decode, part of the throughput suite: counters read around work of about a second.

The windows are apart from the timed repeats, so that reading counters does not slow any sample. First the device
idles for IDLE_S with the model loaded; then prompts are read until WORK_S have passed; then one prompt is read and,
from its first token on, tokens are generated until WORK_S have passed or the context is full. A window begins and ends
when the clock has waited for the device. The joules, seconds and tokens of each window are stored; joules per token are
gross, and the idle rate stands beside them. If there is no counter, or a window proves nothing, the measurement has no
sample and its label says why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing

from bench.instruments import energy
from bench.records.record import Measurement, Unit
from bench.suite import SuiteRun, measured

IDLE_S = 2.0
WORK_S = 1.0
NAMES = ("idle_j", "prefill_j", "decode_j")


def measure(run: SuiteRun, prompt: list[int], *, generates: bool = True) -> list[Measurement]:
    """Energy of idling, of reading and (if the model can) of generating, or the reason why there is no figure."""
    meter = energy.open_meter(run.cell.device.split("-")[0], run.instruments.clock.name)
    if isinstance(meter, str):
        return [measured(name, Unit.JOULE, [], labels={"reason": meter}) for name in NAMES]
    if run.spent(IDLE_S + 2 * WORK_S):
        reason = "the budget was spent before it"
        return [measured(name, Unit.JOULE, [], labels={"reason": reason}) for name in NAMES]
    run.phase("energy", 0, 1)
    tokens = {"idle_j": 0, "prefill_j": 0, "decode_j": 0}

    def read() -> None:
        for _ in _until(run, WORK_S):
            run.engine.prefill([prompt], suppress=run.engine.end_tokens).close()
            tokens["prefill_j"] += len(prompt)

    run.instruments.clock.now()
    windows = {"idle_j": energy.idle(meter, IDLE_S), "prefill_j": meter.window(_waited_for(run, read))}
    if generates:
        windows["decode_j"] = _decode(run, prompt, meter, tokens)
    run.phase("energy", 1, 1)
    return [
        measured(
            name, Unit.JOULE, [] if window.joules is None else [window.joules], counter=meter.name,
            labels={"seconds": round(window.seconds, 6), "tokens": tokens[name], "reason": window.reason},
        )
        for name, window in windows.items()
    ]  # fmt: skip


def _decode(run: SuiteRun, prompt: list[int], meter: energy.Meter, tokens: dict[str, int]) -> energy.Window:
    """The joules of generating, its tokens counted."""
    room = run.engine.context_length - len(prompt) - 1
    with closing(run.engine.prefill([prompt], suppress=run.engine.end_tokens)) as generation:
        generation.step()
        run.instruments.clock.now()

        def generate() -> None:
            for _ in _until(run, WORK_S):
                if tokens["decode_j"] >= room:
                    break
                generation.step()
                tokens["decode_j"] += 1

        return meter.window(_waited_for(run, generate))


def _waited_for(run: SuiteRun, work: Callable[[], None]) -> Callable[[], None]:
    """The work, until the device has done it."""

    def whole() -> None:
        work()
        run.instruments.clock.now()

    return whole


def _until(run: SuiteRun, seconds: float) -> Iterator[None]:
    """At least once, and again until so many seconds of the run's clock have passed."""
    end = run.instruments.clock.now() + seconds
    yield
    while run.instruments.clock.now() < end:
        yield
