# SPDX-License-Identifier: Apache-2.0
"""Every key that a command writes is declared with its unit and its meaning, and the page of them is up to date."""

from __future__ import annotations

import pytest
from builders import make_cell, make_machine, make_record, sample

from bench.catalog.contents import Contents, Stored
from bench.catalog.entries import read_catalog
from bench.catalog.model import Kind
from bench.engines.registry import backend
from bench.judge.against import Change, Course, Courses
from bench.judge.answer import answers
from bench.judge.caches import caches_side_by_side
from bench.judge.claims import judge
from bench.judge.compare import compare
from bench.judge.costs import Prices
from bench.judge.cross_engine import engines_side_by_side
from bench.judge.recommend import Limits
from bench.judge.recommendation import recommended
from bench.judge.rows import newest
from bench.judge.score_per_byte import score_per_byte
from bench.judge.stats import Estimate
from bench.paths import RESULTS, ROOT
from bench.plan.claims import predicted_for
from bench.plan.needs import needs
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from bench.plan.takers import Taker
from bench.records.record import Unit as Base
from bench.records.store import Store
from bench.views import against, caches, claims, comparison, cross_engine, inspection, overview, plan, recommend, table
from bench.views import score_per_byte as per_byte
from bench.views.columns import COLUMNS
from bench.views.columns_page import page
from bench.views.fields import BY_FIGURE, FIGURES, Unit
from bench.views.formats import Flat
from bench.views.outputs import (
    ACROSS,
    AGAINST,
    CACHES,
    CATALOG,
    CLAIMS,
    COMPARE,
    INSPECT,
    OUTPUTS,
    PER_BYTE,
    PLAN,
    RECOMMEND,
    SHOW,
    Output,
)

GREW = Change(figure="peak_bytes", before=1.0, now=2.0, change=Estimate(1.0, 0.9, 1.1), course=Course.REGRESSED)


HELD = Contents(tensors=(Stored("wte.weight", "F32", 10, 40), Stored("lm_head.weight", "F16", 5, 10)), label="float32")
LOOKED = inspection.Inspected(
    model=read_catalog()[0], contents=HELD, where="here", parameters=15, cache={512: 100}, memory_bytes_per_s=1e9,
    takers=(Taker(engine="transformers", precision="fp32", scheme="fp32", weights_bytes=50, needs={512: 1000}),),
)  # fmt: skip


AT_512 = {"depth": 512, "window_tokens": 2}
READ = make_record(
    make_cell("kv", settings={"kv": "int8"}),
    measurements=(
        sample("kv_kld_nat", [0.1, 0.2], Base.NAT, **AT_512), sample("kv_floor_nat", [0.0, 0.1], Base.NAT, **AT_512),
    ),
)  # fmt: skip


@pytest.fixture(scope="module")
def flats() -> dict[str, list[Flat]]:
    """What every command writes of this project's own records and catalogue, by command."""
    records, models = list(Store(RESULTS).records()), read_catalog()
    rows = newest(records)
    machine, engine = make_machine(), backend("transformers")
    api = next(model.name for model in models if model.kind is Kind.API)
    asked = Selection(models=("smollm2-135m-instruct", api), suites=("memory", "capacity"))
    return {
        SHOW.command: table.flats(rows),
        COMPARE.command: comparison.flats(answers(compare(rows)[0])),
        RECOMMEND.command: [f for one in recommended(rows, Limits(), Prices()) for f in recommend.flats(one)],
        AGAINST.command: against.flats([Courses(row=rows[0], before=rows[0], changes=(GREW,), versions={})]),
        ACROSS.command: cross_engine.flats(engines_side_by_side(rows)[0]),
        CACHES.command: caches.flats(caches_side_by_side(newest([READ]))),
        PER_BYTE.command: per_byte.flats(score_per_byte(rows)[0]),
        CLAIMS.command: claims.flats(judge(models, records, predicted_for)),
        CATALOG.command: [overview.flat(m, needs(m, engine, machine, 10**10), None) for m in models[:3]],
        INSPECT.command: inspection.flats(LOOKED),
        PLAN.command: plan.flats(make_plan(asked, models, machine, (), 10**10)),
    }


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.command)
def test_every_key_is_declared_and_every_plain_declaration_is_written(
    output: Output, flats: dict[str, list[Flat]]
) -> None:
    """Nothing undeclared comes out; nothing is declared that no command gives, but for names that vary."""
    keys = {key for flat in flats[output.command] for key in flat}
    assert [key for key in keys if not output.declares(key)] == []
    plain = {field.name for field in output.fields if not any(letter.isupper() for letter in field.name)}
    rare = {"max_context_tokens_bound", "predicted_context_tokens"}  # only where the capacity suite was asked
    assert plain - rare <= keys
    assert {f"{name}_{end}" for name in output.intervals for end in ("low", "high")} <= keys


@pytest.mark.parametrize("output", OUTPUTS, ids=lambda output: output.command)
def test_a_key_is_declared_once(output: Output) -> None:
    """With a meaning, and a suite that exists."""
    names = [field.name for field in output.fields]
    assert len(set(names)) == len(names)
    assert all(field.meaning for field in output.fields)
    assert set(output.intervals) <= set(names)
    assert {field.suite for field in output.fields} <= {
        "",
        "memory",
        "throughput",
        "divergence",
        "quality",
        "kv",
        "capacity",
    }


@pytest.mark.parametrize(
    ("key", "declared"),
    [
        ("acc_bench_facts_en", True), ("decode_tokens_per_s_4x512", True), ("decode_tokens_per_s_4", False),

        ("tokens_per_s_pp512@d2048", True), ("tokens_per_s_pp512", False), ("kv_kld_512", True),
        ("max_batch_512", True), ("max_batch_512_bound", True), ("acc_low", True), ("weights_bytes_low", False),
        ("weights", True), ("weight", False),
    ],
)  # fmt: skip
def test_a_word_in_capitals_stands_for_what_varies(key: str, declared: bool) -> None:
    """And for nothing else."""
    assert SHOW.declares(key) is declared


def test_an_undeclared_key_is_refused_where_it_is_made() -> None:
    """So that no file can hold a key without a meaning."""
    with pytest.raises(KeyError, match="bench claims declares no colour"):
        CLAIMS.flat({"id": "x", "colour": "red"})


def test_figures_and_columns_are_declared_ones() -> None:
    """A column takes its suite and its unit from the declaration."""
    assert {field.name for field in FIGURES} == set(BY_FIGURE)
    assert all(column.figure in BY_FIGURE for column in COLUMNS.values())
    assert (COLUMNS["acc"].unit, COLUMNS["acc"].suite) == (Unit.SHARE, "quality")


def test_the_page_of_columns_is_what_the_declaration_says() -> None:
    """`python -m bench.views.columns_page > docs/columns.md` makes it."""
    assert (ROOT / "docs" / "columns.md").read_text(encoding="utf-8") == page()
