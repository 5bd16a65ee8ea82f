# SPDX-License-Identifier: Apache-2.0
"""Tables with several lines for one row: the points of throughput, and what fits a budget. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.judge.figures import answers, figures
from bench.judge.speeds import point_figures
from bench.judge.stats import Estimate
from bench.records.record import Measurement, Record
from bench.units import human_bytes
from bench.views.table import Row, Table, identity, mixed, written


@dataclass(frozen=True, kw_only=True)
class Listing:
    """One such table: what `bench show --columns` calls it."""

    suite: str
    """Rows without a record of it have no line."""
    table: Callable[[Sequence[Row]], Table]
    notes: tuple[str, ...]
    """What stands beneath it."""


def listed(rows: Sequence[Row], listing: Listing) -> list[Row]:
    """The rows that a listing has something to say of."""
    return [row for row in rows if listing.suite in row.records]


def _reason(table: Table, row: Row, suite: str) -> str:
    """Why a record has no figures, as a mark; empty if it has."""
    ending, _, why = row.reason(suite).partition(": ")
    return f"{ending} {table.note(f'{ending}: {why}')}" if ending else ""


RATES = (
    ("prefill_tokens_per_s", "prefill tok/s", "rate"),
    ("decode_tokens_per_s", "decode tok/s", "rate"),
    ("decode_each", "each sequence", "rate"),
    ("ttft_s", "TTFT", "seconds"),
    ("itl_s", "gap p50", "seconds"),
    ("itl_p95_s", "gap p95", "seconds"),
)


def points(rows: Sequence[Row]) -> Table:
    """Speed at every batch and prompt that was asked for, one line each; the main point first."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several
    table = Table([*titles, "batch", "prompt", *(title for _, title, _ in RATES)])
    for row in rows:
        record = row.records["throughput"]
        head = identity(row, several=several)
        if reason := _reason(table, row, "throughput"):
            table.rows.append([*head, "", "", *[reason] * len(RATES)])
            continue
        found = point_figures(record)
        for batch, prompt in dict.fromkeys([*found, *_asked(record)]):
            figure = found.get((batch, prompt))
            if figure:
                cells = [_rate(table, record, figure, name, kind) for name, _, kind in RATES]
            else:
                cells = [f"not measured {table.note(_lacking(record, batch, prompt))}"] * len(RATES)
            table.rows.append([*head, str(batch), f"{prompt:,}", *cells])
    return table


def _asked(record: Record) -> Iterator[tuple[int, int]]:
    """The further points of the profile, in the order of their size."""
    settings = record.cell.settings
    decode = settings.get("point_decode_tokens")
    asked = [(int(str(pair[0])), int(str(pair[1]))) for pair in _list(settings.get("points")) if isinstance(pair, list)]
    yield from sorted(asked, key=lambda at: (at[0] * (at[1] + int(str(decode))), at[0]))


def _list(value: object) -> list[object]:
    return value if isinstance(value, list) else []


def _rate(table: Table, record: Record, figure: Mapping[str, Estimate], name: str, kind: str) -> str:
    if name in figure:
        return written(figure[name], kind)
    if record.cell.settings.get("objective") == "masked":
        return f"n/a {table.note('masked models fill blanks, they do not generate')}"
    return "n/a"


def _lacking(record: Record, batch: int, prompt: int) -> str:
    """Why a point has no figures, in the suite's own words."""
    if record.cell.settings.get("objective") == "masked":
        return "masked models are timed at the main point alone"
    begins = f"throughput at batch {batch}, prompt {prompt}: "
    told = [caveat.text for caveat in record.warnings if caveat.text.startswith(begins)]
    return told[0].removeprefix("throughput at ") if told else f"batch {batch}, prompt {prompt}: no reason was recorded"


AT_LEAST = {"tokens", "seconds", "trials", "spent"}
"""Bounds of the search, not of the model: the answer may be larger."""
BOUNDS = {
    "memory": "memory",
    "context": "the model's own context",
    "sequences": "the engine: sequences at once",
    "tokens": "profile: tokens of one trial",
    "seconds": "profile: seconds of one trial",
    "trials": "profile: number of trials",
    "spent": "the call's time budget",
}


def capacity(rows: Sequence[Row]) -> Table:
    """The longest context and the largest batches that ran in each row's budget, one line each."""
    several = mixed(rows)
    titles = ["model", "precision", "scheme"] + ["engine"] * several
    table = Table([*titles, "budget", "question", "largest", "predicted", "peak at it", "trials", "bounded by"])
    for row in rows:
        record = row.records["capacity"]
        head = [
            row.label.replace(row.name, row.model),
            *identity(row, several=several)[1:],
        ]  # the budget says its limit
        if reason := _reason(table, row, "capacity"):
            budget = figures(record).get("budget_bytes") or (Estimate(row.limit) if row.limit else None)
            table.rows.append([*head, human_bytes(budget.value) if budget else "", "all", reason, *[""] * 4])
            continue
        for answer in answers(record).values():
            table.rows.append([*head, *_answer(table, record, answer)])
        for caveat in record.warnings:
            if caveat.kind == "not_measured":
                table.rows.append([*head, "", caveat.text.split(":")[0], f"n/a {table.note(caveat.text)}", *[""] * 4])
    return table


def _answer(table: Table, record: Record, answer: Measurement) -> list[str]:
    """Budget, question, largest, predicted, peak, trials and bound."""
    labels, value = answer.labels, int(answer.values[0])
    context = answer.name == "max_context_tokens"
    question = "longest context" if context else f"batch of prompt {labels['prompt_tokens']}"
    bound = str(labels["bound"])
    counted = f"{value:,} {'tokens' if context else 'sequence' if value == 1 else 'sequences'}"
    tried = record.measurement("trial_bytes", of=answer.name, **_prompt(answer))
    predicted, peak, budget = labels.get("predicted"), labels.get("peak_bytes"), labels["budget_bytes"]
    assert isinstance(budget, int)
    return [
        human_bytes(budget),
        question,
        f"≥ {counted}" if bound in AT_LEAST else counted,
        f"{predicted:,}" if isinstance(predicted, int) else "unknown",
        human_bytes(peak) if isinstance(peak, int) else "",
        _count(tried),
        BOUNDS.get(bound) or f"engine {table.note(bound)}",
    ]


def _count(tried: Measurement | None) -> str:
    """How many trials, and how many of them the kernel ended."""
    killed = tried.labels.get("killed") if tried else 0
    return (str(len(tried.values)) if tried else "0") + (f" ({killed} killed)" if killed else "")


def _prompt(answer: Measurement) -> dict[str, int]:
    prompt = answer.labels.get("prompt_tokens")
    return {"prompt_tokens": prompt} if isinstance(prompt, int) else {}


LISTINGS = {
    "points": Listing(
        suite="throughput",
        table=points,
        notes=(
            "± is half of the 95 % interval. prefill: prompt tokens x batch / s from the call to the first logits;",
            "decode: (tokens - 1) x batch / s from first to last token; each sequence: that / batch; gap: one step.",
        ),
    ),
    "capacity": Listing(
        suite="capacity",
        table=capacity,
        notes=(
            "largest: what really ran, the highest bytes of the whole process (libraries included) within the budget.",
            "No trial is run whose peak is expected within 2 % of a hard limit, or 5 % of the memory without one.",
            "≥: the search ended before the memory did. predicted: before anything was loaded.",
        ),
    ),
}
"""By the name that `--columns` knows them."""
