# SPDX-License-Identifier: Apache-2.0
"""The longest context and the largest batch that really run in a given memory: tried, not computed. Asked by name.

`max_context_tokens` is the most positions of one sequence: a prompt read in one prefill and `decode_tokens` generated
after it, all held in the cache at the end. `max_batch` is the most sequences of a prompt of `batch_prompts` tokens,
with as many generated each. The budget is the hard limit of the cell (`--memory-limit`), else what the device could
give when the suite began. A trial fits if it ran and the highest bytes of the whole process, absolute, loaded model and
libraries included, stayed within the budget; an engine that refuses it for lack of memory is a no.

The search (suites/search.py) comes from below, because a process that exceeds a hard limit is killed with all it has
measured: first the least context, then an eighth of what was predicted before loading, then what the growth measured so
far allows, straight or bending upwards, and half as much again where that is far away. No trial is run whose peak is
expected within `held_back_bytes` of the budget: 2 % of a hard limit for what the kernel counts besides resident pages
(page tables, buffers); 5 % of the machine's memory where there is no limit, for everyone else; nothing on a GPU that
refuses an allocation without killing. A trial that is killed all the same is a no as well: every trial is written down
as it begins and ends, the runner loads the model again, up to `suites.DEATHS` times, and the search goes on. So the
answer is the largest that ran; what is a little larger may run too, and was expected not to.

What bounds the answer is in the label `bound`: `memory`; `context`, the model's own; `sequences`, of which the engine
takes no more at once; `tokens` or `seconds`, this profile's ceilings for one trial (`trial_tokens`, `trial_s`: the
prompts' reading), `trials`, `spent` (the call's budget of time): then more may fit and the answer is a least one; else
what the engine said. The search ends when the bracket is narrower than 2 % or 16 tokens, or one sequence. On a CPU a
peak depends on what its process did before, for an allocator keeps pieces of what was freed (int8 read 512 tokens in
793 to 1,009 MiB of one process); so each trial there has a process of its own, the model loaded anew. Every trial is
kept: `trial_bytes` and `trial_s`, in order, with sizes, what was expected and what became of it in their labels. A
masked model reads its context and has no batch.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from typing import Any, cast

from pydantic import JsonValue

from bench.engines.contract import DoesNotFit, Unsupported
from bench.records.cell import MEMORY_LIMIT
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import RestartWorker, SuiteRun, Work, measured
from suites import probe
from suites.search import MEMORY, Search, Trial

VERSION = 1
PROFILES: dict[str, dict[str, JsonValue]] = {
    "smoke": {"decode_tokens": 8, "batch_prompts": [128], "trial_tokens": 4096, "trial_s": 20, "trials": 12},
    "standard": {"decode_tokens": 8, "batch_prompts": [512], "trial_tokens": 32768, "trial_s": 120, "trials": 16},
    "full": {
        "decode_tokens": 32, "batch_prompts": [128, 512, 2048], "trial_tokens": 262144, "trial_s": 300, "trials": 24,
    },
}  # fmt: skip
Shape = Callable[[int], tuple[int, int]]
"""Prompt tokens and sequences of a trial of that size."""
LEAST = 16
"""Tokens of the smallest prompt."""
TRIALS, TRIAL_TOKENS = 6, 2.6
"""About how many trials a question takes, and their tokens in tokens of the last: the least, an eighth of what was
predicted, a quarter, about a half, most, and the last."""
HELD_BACK = {"limit": 0.02, "machine": 0.05, "refuses": 0.0}
"""Share of the budget that no trial is expected to touch, by what happens to who exceeds it."""


def work(settings: Mapping[str, Any]) -> Work:
    """The last trial of each question, and the shorter ones before it; what is predicted to fit makes it less."""
    questions = 1 + len(settings["batch_prompts"])
    return expected(settings, questions * settings["trial_tokens"], questions)


def expected(settings: Mapping[str, Any], tokens: int, questions: int) -> Work:
    """What answering so many questions takes whose last trials have so many tokens in all."""
    trials, steps = questions * TRIALS, 1 + settings["decode_tokens"]
    return Work(prefill_tokens=round(TRIAL_TOKENS * tokens), decode_tokens=trials * steps, rounds=trials)


def least(settings: Mapping[str, Any]) -> Work:
    """The first trial alone, the smallest there is."""
    return Work(prefill_tokens=1, decode_tokens=settings["decode_tokens"], rounds=1)


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The trials that were run, each with its tokens; one that was killed counts whole."""
    tokens = trials = 0
    for measurement in measurements:
        if measurement.name == "trial_bytes":
            sizes, prompt = cast(list[int], measurement.labels["sizes"]), measurement.labels.get("prompt_tokens")
            trials += len(sizes)
            tokens += sum(sizes) * (1 if prompt is None else int(str(prompt)))
    return Work(prefill_tokens=tokens, decode_tokens=trials * (1 + settings["decode_tokens"]), rounds=trials)


def measure(run: SuiteRun) -> list[Measurement]:
    """The longest context, then the largest batch of each prompt."""
    _renew(run)
    masked = run.settings.get("objective") == "masked"
    decode = 0 if masked else run.settings["decode_tokens"]
    budget, held_back = _budget(run)
    memory = run.instruments.memory
    memory.trim()
    loaded = memory.read().total_bytes
    if loaded > budget - held_back:
        raise DoesNotFit("capacity, with the model loaded and nothing read yet", had_bytes=budget)
    common: dict[str, Any] = {"room_bytes": budget - held_back, "seconds": run.settings["trial_s"]}
    context = Search(
        least=LEAST + decode, step=16, bends=True, hint=run.predicted.context_tokens,
        ceilings={"context": run.engine.context_length, "tokens": run.settings["trial_tokens"]}, **common,
    )  # fmt: skip
    labels: dict[str, JsonValue] = {"budget_bytes": budget, "held_back_bytes": held_back, "decode_tokens": decode}
    _search(run, context, budget, "context", lambda size: (size - decode, 1), decode)
    if context.best is None:
        raise DoesNotFit(f"a context of {context.trials[0].size} tokens", had_bytes=budget)
    found = _measurements(run, context, "max_context_tokens", Unit.TOKEN, labels)
    for prompt in () if masked else run.settings["batch_prompts"]:
        left = max(0, memory.read().total_bytes - loaded)  # what the trials before it left behind is in every peak
        common["origin"] = (context.fitting[0].size / (prompt + decode), context.fitting[0].peak_bytes + left)
        found += _batch(run, context, prompt, budget, {**labels, "prompt_tokens": prompt}, common)
    return found


def _batch(
    run: SuiteRun, context: Search, prompt: int, budget: int, labels: dict[str, JsonValue], common: Mapping[str, Any]
) -> list[Measurement]:
    """The most sequences of one prompt."""
    decode = run.settings["decode_tokens"]
    held, longest = prompt + decode, context.fitting[-1].size
    if held > run.engine.context_length:
        text = f"batch of prompt {prompt}: {held} tokens are more than its context of {run.engine.context_length}"
        run.caveats.append(Caveat(kind="not_measured", text=text))
        return []
    ceilings = {"tokens": run.settings["trial_tokens"] // held}
    if most := getattr(run.engine, "most_sequences", None):
        ceilings["sequences"] = most
    predicted = (run.predicted.batch or {}).get(str(prompt))
    search = Search(least=1, step=1, bends=False, hint=predicted, ceilings=ceilings, **common)
    if held > min(longest + context.step, run.settings["trial_tokens"]):  # not even one sequence
        search.ended = context.bound()
    else:
        _search(run, search, budget, f"batch of {prompt}", lambda size: (prompt, size), decode)
    return _measurements(run, search, "max_batch", Unit.COUNT, labels)


def _budget(run: SuiteRun) -> tuple[int, int]:
    """Bytes that the whole process may take, and those of them that no trial is expected to touch."""
    limit, kind = run.settings.get(MEMORY_LIMIT), run.cell.device.split("-")[0]
    budget = limit if isinstance(limit, int) else run.instruments.memory.capacity_bytes()
    if budget <= 0:
        raise Unsupported("this device does not tell how much memory it has: give a budget with --memory-limit")
    what = "refuses" if kind == "cuda" else "limit" if limit else "machine"
    return budget, int(HELD_BACK[what] * budget)


def _search(run: SuiteRun, search: Search, budget: int, name: str, shape: Shape, decode: int) -> None:
    """Try sizes until the answer is known, the trials are used up or the call's time is spent."""
    while (size := search.next_size()) is not None:
        if len(search.trials) >= run.settings["trials"]:
            search.ended = "trials"
        elif search.trials and run.spent():
            search.ended = "spent"
        else:
            run.phase(f"{name}, trying {size}", len(search.trials), run.settings["trials"])
            search.trials.append(_remembered(run, search, size, budget, name, shape, decode))


def _remembered(run: SuiteRun, search: Search, size: int, budget: int, name: str, shape: Shape, decode: int) -> Trial:
    """The trial that an earlier process of this cell has run, or died of; else it is run now."""
    number, own = len(search.trials), f"{os.getpid()}-{secrets.token_hex(4)}"

    def compute() -> JsonValue:
        _renew(run)
        begun = cast(list[Any], run.journal.remember([name, number, "begun"], lambda: [own, size]))
        if begun[0] != own and run.deaths:
            expected = search.expected_bytes(begun[1])
            end: dict[str, Any] = {"failure": MEMORY, "killed": True, "peak_bytes": budget, "seconds": 0.0}
            return asdict(Trial(size=begun[1], expected_bytes=expected, **end))
        run.used = True
        prompt, batch = shape(begun[1])  # the size as it was then: what was loaded differs by some bytes
        return asdict(_trial(run, search, begun[1], budget, prompt, batch, decode))

    return Trial(**cast(dict[str, Any], run.journal.remember([name, number], compute)))


def _renew(run: SuiteRun) -> None:
    """Go on in a new process where this one's memory shows what it has done before."""
    if run.used and run.renewable and run.instruments.memory.remembers:
        raise RestartWorker


def _trial(run: SuiteRun, search: Search, size: int, budget: int, prompt: int, batch: int, decode: int) -> Trial:
    """Read the prompts, generate, and see the highest bytes of it; everything it held is given back."""
    engine, memory, clock = run.engine, run.instruments.memory, run.instruments.clock
    expected, prompts = search.expected_bytes(size), _prompts(run, prompt, batch)
    generation, failure = None, ""
    memory.reset_peak()
    start = clock.now()
    seconds = 0.0
    try:
        generation = engine.prefill(prompts, suppress=engine.end_tokens)
        seconds = clock.now() - start
        for _ in range(decode + 1 if decode else 0):  # the first step reads what prefill left, and holds no position
            generation.step()
    except (DoesNotFit, MemoryError):
        failure = MEMORY
    except Unsupported as error:
        if not search.trials:
            raise
        failure = str(error)
    peak = memory.peak().total_bytes
    if generation is not None:
        generation.close()
        del generation
    if release := getattr(engine, "release", None):  # a context kept for the next user would count in every trial
        release()
    memory.trim()
    if not failure and peak > budget:
        failure = MEMORY
    return Trial(size=size, peak_bytes=peak, seconds=seconds, expected_bytes=expected, failure=failure)


def _prompts(run: SuiteRun, length: int, batch: int) -> list[list[int]]:
    """The probe prompt, over again where the text is shorter, and its rotations."""
    text = probe.prompt(run.engine.encode, length)
    first = list(islice(cycle(text), length))
    shift = max(1, length // batch)
    return [first[i * shift % length :] + first[: i * shift % length] for i in range(batch)]


def _measurements(
    run: SuiteRun, search: Search, name: str, unit: Unit, labels: dict[str, JsonValue]
) -> list[Measurement]:
    """The answer, and every trial behind it."""
    best, counter = search.best, run.instruments.memory.name
    answer = {
        **labels, "bound": search.bound(), "peak_bytes": best.peak_bytes if best else None, "predicted": search.hint,
    }  # fmt: skip
    found = [measured(name, unit, best.size if best else 0, counter=counter, labels=answer)]
    if search.trials:
        of: dict[str, JsonValue] = {
            "of": name, "sizes": _column(search.trials, "size"),
            "expected_bytes": _column(search.trials, "expected_bytes"), "failures": _column(search.trials, "failure"),
            "killed": sum(trial.killed for trial in search.trials),
        }  # fmt: skip
        of |= {"prompt_tokens": labels["prompt_tokens"]} if "prompt_tokens" in labels else {}
        peaks, seconds = [trial.peak_bytes for trial in search.trials], [trial.seconds for trial in search.trials]
        found.append(measured("trial_bytes", Unit.BYTE, peaks, counter=counter, labels=of))
        found.append(measured("trial_s", Unit.SECOND, seconds, digits=4, counter=run.instruments.clock.name, labels=of))
    return found


def _column(trials: Sequence[Trial], name: str) -> list[JsonValue]:
    """One field of every trial."""
    return [getattr(trial, name) for trial in trials]
