# SPDX-License-Identifier: Apache-2.0
"""The answer in words: what each precision saves and costs, why it is as fast as it is, and which one to take. Pure.

A sentence is a list of clauses. They are joined by semicolons, and lines are broken between clauses, so that nothing
wraps in the middle of a figure; only a terminal that is narrower than a clause breaks it between words.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from bench import escape
from bench.judge.answer import Answer, Choice, Finding, by_model, choose
from bench.judge.bottleneck import BOUND, Bottleneck, Lever
from bench.judge.decisions import Instrument
from bench.judge.rows import Row
from bench.judge.stats import Estimate, Verdict
from bench.units import human_bytes, signed, significant
from bench.views.cells import named, of_random

RATIOS = {
    "weights_bytes": "weights",
    "peak_bytes": "peak",
    "decode_tokens_per_s": "decode",
    "prefill_tokens_per_s": "prefill",
}
"""The ratios that a line begins with, in words."""
KERNELS = ("bnb-", "gguf-")
"""Beginnings of scheme names that say which library made them, not what they are."""
LIMIT = "its kernels are the limit"
Command = Callable[[Row], str | None]
"""What runs a row, for people; None where there is nothing."""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What is said of one model in one engine on one device."""

    title: str
    lines: tuple[tuple[tuple[str, ...], ...], ...]
    """For each precision its sentences, each as clauses: costs, quality, and why it is as fast as it is."""
    choice: tuple[str, ...] = ()
    """The last sentence, of all engines of the model together; empty where nothing can be chosen."""
    command: str | None = None
    """What runs the choice."""


def label(row: Row) -> str:
    """`int4 (nf4)`, `bnb-int8`, `fp32`: precision and scheme, once where one says both."""
    if row.precision in row.scheme:
        return row.scheme
    scheme = row.scheme
    for library in KERNELS:
        scheme = scheme.removeprefix(library)
    return f"{row.precision} ({scheme})"


def full_label(row: Row) -> str:
    """`int8 (gguf-q8_0)`: the same with the library, which tells engines apart."""
    return row.scheme if row.precision in row.scheme else f"{row.precision} ({row.scheme})"


def parts(found: Sequence[Answer], command: Command = lambda row: None) -> list[Part]:
    """One for each engine of a model on a device; the last one of a model ends with the choice.

    Only a model that is alone gets reasons: a list of twenty models is read for its verdicts.
    """
    models = by_model(found)
    reasons = len({answer.row.model for answer in found}) == 1
    places = len({answer.row.device for answer in found}) > 1
    return [part for group in models.values() for part in _of_model(group, command, reasons=reasons, places=places)]


def _of_model(group: Sequence[Answer], command: Command, *, reasons: bool, places: bool) -> list[Part]:
    engines = list(dict.fromkeys(answer.row.backend for answer in group))
    each = [[answer for answer in group if answer.row.backend == engine] for engine in engines]
    made = [_of_engine(answers, reasons=reasons, name_device=places) for answers in each]
    choice = choose(group)
    if choice:
        said = tuple(chosen(choice, name_engine=len(engines) > 1))
        made[-1] = replace(made[-1], choice=said, command=command(choice.take))
    return made


def _of_engine(group: Sequence[Answer], *, reasons: bool, name_device: bool) -> Part:
    row, reference = group[0].row, group[0].comparison.reference
    whole = f"{named(row)}{of_random(row)} in {row.backend}, against {label(reference)}"
    short = f"{named(row)}{of_random(row)}, {row.backend}, {row.device}, against {reference.scheme}"
    return Part(
        title=short if name_device else whole,
        lines=tuple(sentences(answer, reasons=reasons) for answer in group),
    )


def sentences(answer: Answer, *, reasons: bool = True) -> tuple[tuple[str, ...], ...]:
    """Costs, then quality, then why it is as fast as it is where anything tells."""
    ratios = answer.comparison.ratios
    saved = ", ".join(f"{ratios[name].value:.2f}x {word}" for name, word in RATIOS.items() if name in ratios)
    costs = f"{label(answer.row)}: {saved or _no_ratio(answer)}"
    quality = (*(_finding(one) for one in answer.findings), *_unpaired(answer))
    if not quality and (reasons or not answer.row.means_nothing):
        quality = (_no_quality(answer.row),)
    why = tuple(_why(answer.why)) if reasons and answer.why else ()
    return tuple(filter(None, ((costs,), quality, why)))


def _unpaired(answer: Answer) -> list[str]:
    """Why tasks have no verdict where they were answered: the first reason stands for all."""
    tasks = answer.comparison.tasks
    reasons = [task.reason for task in tasks if task.reason]
    if not reasons or answer.row.means_nothing:
        return []
    which = "tasks" if len(reasons) == len(tasks) else f"{len(reasons)} of {len(tasks)} tasks"
    return [f"{which} not compared: {reasons[0].partition(':')[0]}"]


def _no_ratio(answer: Answer) -> str:
    """Why nothing can be said of what it saves."""
    if own := answer.row.missing("memory"):
        return own.short
    base = answer.comparison.reference
    lacking = base.missing("memory")
    return f"{label(base)} {lacking.short}" if lacking else "settings differ"


def _no_quality(row: Row) -> str:
    if row.means_nothing:
        return "quality: random weights say nothing"
    missing = row.missing("divergence") or row.missing("quality")
    return f"quality: {missing.short}" if missing and missing.short else "quality: not measured"


SHORT = {Instrument.PERPLEXITY: "perplexity"}
"""Instruments in fewer words than their own names."""


def _instrument(found: Finding) -> str:
    of_tasks = " of tasks" if found.instrument is Instrument.PERPLEXITY and found.tasks else ""
    return SHORT.get(found.instrument, str(found.instrument)) + of_tasks


def _finding(found: Finding) -> str:
    name = _instrument(found)
    if found.verdict is Verdict.NOT_MEASURABLE:
        return f"{name}: the reference itself is at chance"
    worse, asked = found.tasks.get(Verdict.WORSE, 0), sum(found.tasks.values())
    on = f" on {worse} of {asked} tasks" if worse and asked > 1 else ""
    if found.instrument is Instrument.PERPLEXITY:
        return f"{name} {change(found.estimate)}: {found.verdict}{on}"
    if found.of_score:
        keeps = "keep" if found.instrument is Instrument.GENERATED else "keeps"
        return f"{name} {keeps} {share(found.estimate)} of the score: {found.verdict}{on}"
    return f"{name} {points(found.estimate)}: {found.verdict}{on}"


def points(estimate: Estimate) -> str:
    """`-3.1 points [-4.0, -2.2]`: a change of a share in hundredths."""
    hundredths = estimate.scaled(100)
    ends = ""
    if hundredths.low is not None and hundredths.high is not None:
        ends = f" [{_plain(hundredths.low, 1)}, {_plain(hundredths.high, 1)}]"
    return f"{signed(hundredths.value)} points{ends}"


def change(estimate: Estimate) -> str:
    """`+26 % [23, 30]`: a change in percent with its interval, one decimal where it is below ten."""
    if not math.isfinite(estimate.value):
        return "beyond all numbers"
    percent = estimate.scaled(100)
    digits = 0 if abs(percent.value) >= 9.95 else 1
    ends = ""
    if percent.low is not None and percent.high is not None:
        ends = f" [{_plain(percent.low, digits)}, {_plain(percent.high, digits)}]"
    return f"{signed(percent.value, digits)} %{ends}"


def share(estimate: Estimate) -> str:
    """`92 % [80, 104]`: a share in percent with its interval."""
    percent = estimate.scaled(100)
    if percent.low is None or percent.high is None:
        return f"{percent.value:.0f} %"
    return f"{percent.value:.0f} % [{percent.low:.0f}, {percent.high:.0f}]"


def _plain(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}"
    return f"{0.0:.{digits}f}" if float(text) == 0 else text


def _why(found: Bottleneck) -> Iterator[str]:
    if found.decode_share is not None:
        held = _percent(f"decode at {found.decode_share.value:.0%} of what this memory sustains")
        levers = {
            Lever.FEWER_BYTES: "fewer bytes is the lever",
            Lever.ANOTHER_TYPE: f"{found.compute} is slow to read here",
            Lever.NOTHING: LIMIT,
        }
        yield held + (f": {levers[found.decode_lever]}" if found.decode_lever else "")
    if found.prefill_share is not None:
        yield _prefill(found, found.prefill_share)


def _prefill(found: Bottleneck, own: Estimate) -> str:
    """Its share of the fastest type's rate where another is faster, else of its own type's."""
    if found.prefill_lever is Lever.ANOTHER_TYPE and found.prefill_share_of_fastest is not None:
        faster = f"{found.fastest} is {_times(found.fastest_times)} faster"
        held = _percent(f"prefill at {found.prefill_share_of_fastest.value:.0%} of the {found.fastest} rate")
        return f"{held}: {found.compute} is emulated here, {faster}" if found.emulated else f"{held}: {faster} here"
    held = _percent(f"prefill at {own.value:.0%} of the {found.compute} rate")
    return f"{held}: {LIMIT}" if found.prefill_lever is Lever.NOTHING and own.value < BOUND else held


def _percent(text: str) -> str:
    """`4 %`, as everywhere in these sentences."""
    return text.replace("%", " %")


def _times(factor: float | None) -> str:
    return f"{significant(factor or 1.0, 2)}x"


def chosen(choice: Choice, *, name_engine: bool = False) -> Iterator[str]:
    """The sentence of the choice, clause by clause."""

    def who(*rows: Row) -> str:
        return ", ".join(f"{label(row)} in {row.backend}" if name_engine else label(row) for row in rows)

    size = f"{human_bytes(choice.bytes)} at its peak"
    if choice.finding is not None:
        saved = f" ({choice.ratio:.2f}x)" if choice.ratio is not None else ""
        proof = f"{choice.finding.verdict} by {_instrument(choice.finding)}"
        yield f"take {who(choice.take)}: {proof} and the least memory, {size}{saved}"
    elif choice.undecided and not choice.smaller:
        yield f"take {who(choice.take)} until more is measured, {size}: nothing smaller is decided"
    else:
        yield f"take {who(choice.take)}, {size}: nothing smaller is as good"
    if choice.ties:
        yield f"{who(*choice.ties)} needs as much and is slower"
    if choice.undecided and (choice.finding is not None or choice.smaller):
        yield f"undecided: {who(*choice.undecided)}"
    if choice.smaller is not None and (found := choice.smaller.decided_by) is not None:
        need = human_bytes(choice.smaller.row.figures()["peak_bytes"].value)
        yield f"if memory is short, {who(choice.smaller.row)} needs {need} and costs {_cost(found)}"
    if choice.faster is not None:
        yield f"for speed {who(choice.faster)}: this device multiplies it {_times(choice.faster_times)} faster"


def _cost(found: Finding) -> str:
    if found.instrument is Instrument.PERPLEXITY:
        return f"{change(Estimate(found.estimate.value))} perplexity"
    if found.of_score:
        return _percent(f"{1 - found.estimate.value:.0%} of the score")
    return f"{points(Estimate(found.estimate.value))} of {found.instrument}"


def text(part: Part, width: int) -> list[str]:
    """The lines of one part at that width, title apart."""
    lines = []
    for first, *more in part.lines:
        lines += flow(first, width)
        for sentence in more:
            lines += flow(sentence, width, indent=2)
    if part.choice:
        (begin, *rest) = part.choice
        lines += ["", *flow([begin[0].upper() + begin[1:], *rest], width)]
    return lines


def flow(clauses: Sequence[str], width: int, indent: int = 0) -> list[str]:
    """Clauses joined by semicolons, broken between clauses; within one only where it is longer than a line."""
    lines: list[str] = []
    for index, clause in enumerate(clauses):
        said = clause + (";" if index < len(clauses) - 1 else "")
        if index and len(lines[-1]) + 1 + len(said) <= width:
            lines[-1] += f" {said}"
            continue
        begin = " " * (indent if not index else indent + 2)
        lines += textwrap.wrap(
            said, width, initial_indent=begin, subsequent_indent=" " * (indent + 2), break_on_hyphens=False
        )
    return lines


def markdown(part: Part) -> str:
    """One item for each precision, the choice beneath."""
    lines = []
    for (first, *clauses), *more in part.lines:
        about, _, costs = first.partition(": ")
        said = "; ".join(escape.markdown(clause) for clause in (costs, *clauses, *(c for s in more for c in s)))
        lines.append(f"- **{escape.markdown(about)}:** {said}")
    if part.choice:
        begin, *rest = map(escape.markdown, part.choice)
        lines += ["", f"{begin[0].upper()}{'; '.join([begin[1:], *rest])}."]
    if part.command:
        lines += ["", "```", escape.printed(part.command), "```"]
    return "\n".join(lines) + "\n"
