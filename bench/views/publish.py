# SPDX-License-Identifier: Apache-2.0
"""Figures written back into `catalog/README.md`, between markers: a function of catalogue and results alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import suites
from bench.catalog.config import UnknownArchitecture
from bench.catalog.entries import unmeasurable
from bench.catalog.model import Kind, Model
from bench.engines.registry import backend
from bench.errors import UserError
from bench.judge.claims import Judged, Verdict, judge
from bench.judge.compare import compare
from bench.judge.rows import Row, newest, with_any
from bench.judge.stand_ins import StandIn, stand_ins
from bench.plan import predict
from bench.plan.claims import COMPUTED_ON, COMPUTED_WITH, predicted_for
from bench.records.cell import Precision
from bench.records.record import Record
from bench.views.claims import counts, evidence, named, terms
from bench.views.columns import VIEWS
from bench.views.comparison import ratio_table, task_table
from bench.views.footnotes import footnotes
from bench.views.formats import markdown
from bench.views.overview import measured as with_figures
from bench.views.overview import size, standing_in
from bench.views.table import people

SEED = "seed table"
"""The source that marks an entry of a family in the seed's table of projects."""
COMPUTED_AT = (Precision.FP16, Precision.INT8, Precision.INT4)


def marker(name: str, end: str) -> str:
    """The comment that begins or ends a generated block."""
    return f"<!-- bench:{name}:{end} -->"


def blocks(models: Sequence[Model], records: Iterable[Record]) -> dict[str, str]:
    """The generated blocks by name."""
    known = list(records)
    rows = with_any(newest(known), suites.DEFAULT)
    tuned = projects(models)
    plain = [model for model in models if model not in tuned]
    return {
        "bases": base_models(plain, rows, models),
        "projects": model_spec(tuned, rows, models),
        "measured": measured(rows),
        "claims": claims(judge(models, known, predicted_for)),
    }


def projects(models: Sequence[Model]) -> list[Model]:
    """The rows of the model spec: whatever a family of the seed's table made from another model.

    Frameworks and applications stand there too, as they do in the seed; instruction-tuned siblings that the makers
    of a base model published beside it stand with that base.
    """
    told = {model.family for model in models if SEED in model.sources}
    return [m for m in models if m.kind is Kind.NOT_A_MODEL or (m.family in told and (m.base or SEED in m.sources))]


def base_models(models: Sequence[Model], rows: Sequence[Row], known: Sequence[Model]) -> str:
    """By organisation, each model with its size, the bytes of its weights by precision, licence and what is known."""
    done, others = with_figures(rows), stand_ins(known, rows)
    parts = []
    for organisation in sorted({model.organisation for model in models}, key=str.lower):
        here = [model for model in models if model.organisation == organisation]
        parts.append(f"### {organisation}\n")
        lines = [
            "| model | parameters | weights at fp16 / int8 / int4, computed | licence | here |",
            "| --- | ---: | ---: | --- | --- |",
        ]
        lines += [_line(_named(m), size(m), weights(m), m.licence, _here(m, done, others)) for m in here]
        parts.append("\n".join(lines) + "\n")
        parts.append(_notes(here, claims=True))
    return "\n".join(filter(None, parts))


def model_spec(models: Sequence[Model], rows: Sequence[Row], known: Sequence[Model]) -> str:
    """The seed's five columns in our own words, and what is known here."""
    done, others = with_figures(rows), stand_ins(known, rows)
    lines = [
        "| project | base model | data | fine-tune | hardware and cost, as claimed | here |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    lines += [_line(_named(m), m.base, m.data, m.finetune, m.claim, _here(m, done, others)) for m in models]
    return "\n".join(lines) + "\n\n" + _notes(models)


def weights(model: Model) -> str:
    """`12.6 / 6.5 / 3.9 GiB`: computed from the architecture; empty where it is unknown."""
    if model.architecture is None:
        return ""
    engine = backend(COMPUTED_WITH)
    sizes = []
    for precision in COMPUTED_AT:
        scheme = engine.default_scheme(precision, COMPUTED_ON)
        try:
            sizes.append(predict.weights_bytes(model.architecture, scheme) if scheme else 0)
        except UnknownArchitecture:
            return ""
    unit, divisor = ("GiB", 2**30) if sizes[0] >= 2**30 else ("MiB", 2**20)
    digits = 0 if unit == "MiB" or sizes[-1] / divisor >= 10 else 1
    return " / ".join(f"{count / divisor:.{digits}f}" for count in sizes) + f" {unit}"


def claims(judged: Sequence[Judged]) -> str:
    """Every claim with its verdict, evidence, and what speaks against it; what cannot be tested folded away."""
    open_to_test = [item for item in judged if item.verdict is not Verdict.NOT_TESTABLE]
    closed = [item for item in judged if item.verdict is Verdict.NOT_TESTABLE]
    parts = [counts(judged).capitalize() + ".\n"]
    if open_to_test:
        parts.append(_claim_table(open_to_test, "evidence"))
    if closed:
        summary = f"<summary>{len(closed)} claims that inference cannot test</summary>"
        parts.append(f"<details>\n{summary}\n\n{_claim_table(closed, 'why not')}\n</details>\n")
    return "\n".join(parts)


def _claim_table(judged: Sequence[Judged], last: str) -> str:
    lines = [f"| model | stated | verdict | {last} |", "| --- | --- | --- | --- |"]
    for item in judged:
        claim = item.claim
        against = f"<br>**But:** {_plain(claim.contradiction)}" if claim.contradiction else ""
        stated = f"{_plain(claim.text)}{terms(claim)} — {_plain(claim.source)}{against}"
        lines.append(f"| {item.model.name} | {stated} | {item.verdict} | {_plain(evidence(item))}{named(item)} |")
    return "\n".join(lines) + "\n"


def _named(model: Model) -> str:
    return f"{model.display} (`{model.name}`)"


def _here(model: Model, done: Mapping[str, str], others: Mapping[str, StandIn]) -> str:
    """What was measured here, else why it never can be, else what was of its architecture, else that nothing was."""
    if model.name in done:
        return f"[measured](#measured): {done[model.name]}"
    if why := unmeasurable(model):
        return why
    if model.name in others:
        other = others[model.name]
        return f"as [{other.model.display}](#measured), the same architecture: {standing_in(other)}"
    return "not measured yet"


def _notes(models: Sequence[Model], *, claims: bool = False) -> str:
    """Contradictions and traps, folded away beneath their table."""
    noted = [
        (model, [*([f"claimed: {model.claim}"] if claims and model.claim else []), *model.notes]) for model in models
    ]
    lines = [f"- **{model.display}**: {_plain('; '.join(texts))}" for model, texts in noted if texts]
    if not lines:
        return ""
    return "<details>\n<summary>Notes and contradictions</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def _line(*cells: str | None) -> str:
    return "| " + " | ".join(_plain(cell) for cell in cells) + " |"


def _plain(text: str | None) -> str:
    return " ".join((text or "").replace("|", "\\|").split())


def measured(rows: Sequence[Row]) -> str:
    """For each device: figures, what each precision costs, and the footnotes."""
    if not rows:
        return "Nothing has been measured yet: run `nox -s bench`.\n"
    parts = []
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        facts = next(record.machine for row in here for record in row.records.values())
        ram = f"{(facts.gpu_memory_bytes or facts.memory_bytes) / 2**30:.0f} GiB"
        parts.append(f"### {facts.name}, {facts.kind}, {facts.logical_cpus} CPUs, {ram}\n")
        parts.append(markdown(people(here, VIEWS["default"])))
        comparisons, _ = compare(here)
        if comparisons:
            parts.append("Against each model's own 16-bit row:\n")
            parts.append(markdown(ratio_table(comparisons)))
            if any(item.tasks for item in comparisons):
                parts.append(markdown(task_table(comparisons)))
        parts.append("\n".join(f"- {line}" for line in footnotes(here)) + "\n")
    return "\n".join(parts)


def annotated(text: str, found: dict[str, str], path: Path) -> str:
    """`text` with each block's content replaced. Raises UserError where a marker is missing."""
    for name, content in found.items():
        begin, end = marker(name, "begin"), marker(name, "end")
        head, opened, rest = text.partition(begin)
        _, closed, tail = rest.partition(end)
        if not opened or not closed:
            raise UserError(f"{path} has no {begin} … {end}", "restore the two comments where the block belongs")
        text = f"{head}{begin}\n\n{content}\n{end}{tail}"
    return text


def publish(path: Path, models: Sequence[Model], records: Iterable[Record], *, check: bool) -> bool:
    """Bring the file up to date; returns whether it was stale. With `check` nothing is written."""
    try:
        before = path.read_text(encoding="utf-8")
        after = annotated(before, blocks(models, records), path)
        if after != before and not check:
            path.write_text(after, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot publish to {path}: {error.strerror}", "check the path and its permissions") from None
    return after != before
