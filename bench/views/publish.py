# SPDX-License-Identifier: Apache-2.0
"""Figures written back into `catalog/README.md`, between markers: a function of catalogue and results alone."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import suites
from bench import escape
from bench.catalog.config import UnknownArchitecture
from bench.catalog.entries import unmeasurable
from bench.catalog.model import Kind, Model
from bench.engines.registry import backend
from bench.errors import UserError
from bench.judge.claims import Judged, Verdict
from bench.judge.compare import compare
from bench.judge.rows import Row, with_any
from bench.judge.stand_ins import StandIn, stand_ins
from bench.plan import predict
from bench.plan.claims import COMPUTED_ON, COMPUTED_WITH
from bench.processes import write_whole
from bench.records.cell import Precision
from bench.views import engine_table, first_screen
from bench.views.claims import counts, evidence, named, terms
from bench.views.columns import VIEWS
from bench.views.comparison import ratio_table, task_table
from bench.views.footnotes import footnotes
from bench.views.formats import markdown, markdown_row
from bench.views.overview import measured as with_figures
from bench.views.overview import size, standing_in
from bench.views.table import people

SEED = "seed table"
"""The source that marks an entry of a family in the seed's table of projects."""
COMPUTED_AT = (Precision.FP16, Precision.INT8, Precision.INT4)


def marker(name: str, end: str) -> str:
    """The comment that begins or ends a generated block."""
    return f"<!-- bench:{name}:{end} -->"


def blocks(models: Sequence[Model], every: Sequence[Row], judged: Sequence[Judged]) -> dict[str, str]:
    """The generated blocks by name."""
    rows = with_any(every, suites.DEFAULT)
    tuned = projects(models)
    plain = [model for model in models if model not in tuned]
    return {
        "bases": base_models(plain, rows, models),
        "projects": model_spec(tuned, rows, models),
        "measured": measured(rows),
        "claims": claims(judged),
    }


def projects(models: Sequence[Model]) -> list[Model]:
    """The rows of the model spec: whatever a family of the seed's table made from another model.

    Frameworks and applications stand there too, as they do in the seed; instruction-tuned siblings that the makers
    of a base model published beside it stand with that base.
    """
    told = {model.family for model in models if SEED in model.sources}
    return [m for m in models if m.kind is Kind.NOT_A_MODEL or (m.family in told and (m.base or SEED in m.sources))]


def base_models(models: Sequence[Model], rows: Sequence[Row], known: Sequence[Model] = ()) -> str:
    """By organisation, each model with its size, the bytes of its weights by precision, licence and what is known."""
    done, others = with_figures(rows), stand_ins(known or models, rows)
    parts = []
    for organisation in sorted({model.organisation for model in models}, key=str.lower):
        here = [model for model in models if model.organisation == organisation]
        parts.append(f"### {escape.markdown(organisation)}\n")
        lines = [
            "| model | parameters | weights at fp16 / int8 / int4, computed | licence | here |",
            "| --- | ---: | ---: | --- | --- |",
        ]
        lines += [_line(_named(m), size(m), weights(m), m.licence, _here(m, done, others)) for m in here]
        parts.append("\n".join(lines) + "\n")
        parts.append(_notes(here, claims=True))
    return "\n".join(filter(None, parts))


def model_spec(models: Sequence[Model], rows: Sequence[Row], known: Sequence[Model] = ()) -> str:
    """The seed's five columns in our own words, and what is known here."""
    done, others = with_figures(rows), stand_ins(known or models, rows)
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
        stated = escape.markdown(f"{claim.text}{terms(claim)} — {claim.source}")
        if claim.contradiction:
            stated = escape.Markup(f"{stated}<br>**But:** {escape.markdown(claim.contradiction)}")
        lines.append(_line(item.model.name, stated, str(item.verdict), evidence(item) + named(item)))
    return "\n".join(lines) + "\n"


def _named(model: Model) -> str:
    return escape.Markup(f"{escape.markdown(model.display)} (`{model.name}`)")


def _here(model: Model, done: Mapping[str, str], others: Mapping[str, StandIn]) -> str:
    """What was measured here, else why it never can be, else what was of its architecture, else that nothing was."""
    if model.name in done:
        return escape.Markup(f"[measured](#measured): {escape.markdown(done[model.name])}")
    if why := unmeasurable(model):
        return why
    if model.name in others:
        other = others[model.name]
        its = escape.markdown(re.sub(r"[\[\]]", "", other.model.display))
        told = escape.markdown(standing_in(other))
        return escape.Markup(f"as [{its}](#measured), the same architecture: {told}")
    return "not measured yet"


def _notes(models: Sequence[Model], *, claims: bool = False) -> str:
    """Contradictions and traps, folded away beneath their table."""
    noted = [
        (model, [*([f"claimed: {model.claim}"] if claims and model.claim else []), *model.notes]) for model in models
    ]
    said = [(escape.markdown(model.display), escape.markdown("; ".join(texts))) for model, texts in noted if texts]
    lines = [f"- **{name}**: {text}" for name, text in said]
    if not lines:
        return ""
    return "<details>\n<summary>Notes and contradictions</summary>\n\n" + "\n".join(lines) + "\n\n</details>\n"


def _line(*cells: str | None) -> str:
    return markdown_row(cell or "" for cell in cells)


def measured(rows: Sequence[Row]) -> str:
    """For each device: figures, what each precision costs, and the footnotes."""
    if not rows:
        return "Nothing has been measured yet: run `nox -s bench`.\n"
    parts = []
    for device in sorted({row.device for row in rows}):
        here = [row for row in rows if row.device == device]
        facts = next(record.machine for row in here for record in row.records.values())
        ram = f"{(facts.gpu_memory_bytes or facts.memory_bytes) / 2**30:.0f} GiB"
        title = f"{facts.name}, {facts.kind}, {facts.logical_cpus} CPUs, {ram}"
        parts.append(f"### {escape.markdown(title)}\n")
        parts.append(markdown(people(here, VIEWS["default"])))
        comparisons, _ = compare(here)
        if comparisons:
            parts.append("Against each model's own 16-bit row:\n")
            parts.append(markdown(ratio_table(comparisons)))
            if any(item.tasks for item in comparisons):
                parts.append(markdown(task_table(comparisons)))
        parts.append("\n".join(f"- {escape.markdown(line)}" for line in footnotes(here)) + "\n")
    return "\n".join(parts)


def annotated(text: str, found: Mapping[str, str], path: Path) -> str:
    """`text` with each block's content replaced.

    Every block is found in the old text before anything is put in. Raises UserError where a marker is missing, stands
    there twice, or lies within another block.
    """
    places = sorted((*_place(text, name, path), name) for name in found)
    ends = [end for _, end, _ in places]
    if any(begin < end for (begin, _, _), end in zip(places[1:], ends, strict=False)):
        raise UserError(f"{path}: generated blocks lie within each other", "restore its markers")
    parts, done = [], 0
    for begin, end, name in places:
        parts += [text[done:begin], f"\n\n{_harmless(found[name])}\n"]
        done = end
    return "".join([*parts, text[done:]])


def _place(text: str, name: str, path: Path) -> tuple[int, int]:
    """Where the content of a block begins and ends."""
    begin, end = marker(name, "begin"), marker(name, "end")
    if text.count(begin) != 1 or text.count(end) != 1 or text.index(end) < text.index(begin):
        how = "has no" if begin not in text or end not in text else "does not have exactly one"
        raise UserError(f"{path} {how} {begin} … {end}", "restore the two comments where the block belongs")
    return text.index(begin) + len(begin), text.index(end)


def _harmless(content: str) -> str:
    """A block without a marker in it, which the next call would take for one of the page's own."""
    assert "<!-- bench:" not in content, "text that was not escaped reached a generated block"
    return content


def published(text: str, path: Path) -> set[str]:
    """The models that have figures in a page's measured block: the first cells of its tables."""
    begin, end = _place(text, "measured", path)
    cells = (line.split(" | ", 1)[0].removeprefix("| ") for line in text[begin:end].splitlines() if " | " in line)
    names = {cell.partition(" (")[0] for cell in cells}
    return {name for name in names if name != "model" and not name.startswith("---")}


def dropped(path: Path, held: Iterable[str]) -> list[str]:
    """The models that have figures in the file and are not among these, by name. Raises UserError."""
    try:
        return sorted(published(path.read_text(encoding="utf-8"), path) - {escape.markdown(name) for name in held})
    except OSError as error:
        raise UserError(f"cannot publish to {path}: {error.strerror}", "check the path and its permissions") from None


def publish_readme(path: Path, rows: Sequence[Row], plots: str, *, check: bool) -> bool:
    """Bring the blocks of the project's README up to date; returns whether one was stale. Blocks it lacks stay away."""
    found: dict[str, Callable[[], str]] = {
        first_screen.NAME: lambda: first_screen.block(rows, plots),
        engine_table.NAME: lambda: engine_table.block(rows),
    }
    try:
        before = path.read_text(encoding="utf-8")
        here = {name: made() for name, made in found.items() if marker(name, "begin") in before}
        after = annotated(before, here, path)
        if after != before and not check:
            write_whole(path.resolve(), after)  # words of ours stand in it that nothing makes again
    except OSError as error:
        raise UserError(f"cannot publish to {path}: {error.strerror}", "check the path and its permissions") from None
    return after != before


def publish(
    path: Path, models: Sequence[Model], rows: Sequence[Row], judged: Sequence[Judged], *, check: bool,
    drop: bool = False,
) -> bool:  # fmt: skip
    """Bring the file up to date; returns whether it was stale. With `check` nothing is written.

    Raises UserError where models would lose their figures, for these records may be another folder's, unless `drop`.
    """
    try:
        before = path.read_text(encoding="utf-8")
        after = annotated(before, blocks(models, rows, judged), path)
        gone = sorted(published(before, path) - published(after, path))
        if gone and not check and not drop:
            raise UserError(
                f"not published: {path} has figures of {', '.join(gone)}, and these records have none",
                "give the results folder that holds them too, or --drop",
            )
        if after != before and not check:
            write_whole(path.resolve(), after)
    except OSError as error:
        raise UserError(f"cannot publish to {path}: {error.strerror}", "check the path and its permissions") from None
    return after != before
