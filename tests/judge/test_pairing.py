# SPDX-License-Identifier: Apache-2.0
"""Which records of two rows are compared: pairs are looked for, refused with a reason, and made item by item."""

from __future__ import annotations

import random
from typing import Any

import pytest
from builders import make_cell, make_record, make_versions, memory_samples, quality_samples, sample

from bench.judge import pairing
from bench.judge.compare import compare
from bench.judge.pairing import PairedItems, pair_task
from bench.judge.rows import Row, newest
from bench.judge.score_per_byte import score_per_byte
from bench.judge.stats import Verdict
from bench.records.cell import Weights
from bench.records.record import Caveat, Record, Unit
from bench.views import score_per_byte as view
from bench.views.comparison import task_table, version_notes


def hashed(items: range) -> str:
    return "".join(f"{item:010x}" for item in items)


def quality(precision: str, items: range, right: int, profile: str, **labels: Any) -> Record:
    """The first `right` of these items right; hashes by item."""
    values = [1.0 if item < right else 0.0 for item in items]
    told = {"task": "t", "digest": f"{items}", "chance": 0.25, "item_hashes": hashed(items), **labels}
    cell = make_cell("quality", precision, profile=profile)
    settings = {**cell.settings, "items": len(items)}
    return make_record(
        cell.model_copy(update={"settings": settings}), measurements=(sample("acc", values, Unit.FRACTION, **told),)
    )


def only(records: list[Record]) -> Any:
    found, alone = compare(newest(records))
    assert alone == []
    (one,) = found
    return one


def test_records_of_different_sizes_are_paired_by_the_items_they_share() -> None:
    """300 items of one and 100 of the other are 100 pairs, in the right order."""
    found = only([quality("fp16", range(300), 200, "full"), quality("int8", range(0, 300, 3), 150, "standard")])
    (task,) = found.tasks
    assert task.reason == ""
    assert (task.result.items, task.result.lost, task.result.gained) == (100, 17, 0)  # items 150, 153 … 198


def test_an_older_record_is_taken_where_it_has_more_pairs() -> None:
    """The largest profile of one row answers few of the other's items; an older record of it answers all."""
    records = [
        quality("fp16", range(1000, 1300), 0, "full"),
        quality("fp16", range(100), 80, "smoke"),
        quality("int8", range(100), 60, "smoke"),
    ]
    (task,) = only(records).tasks
    assert (task.result.items, task.result.lost) == (100, 20)


def test_a_reference_of_the_same_environment_is_preferred_and_another_is_named() -> None:
    """GPTQ's own environment brings another torch: its 16-bit row is the one its int4 row is compared with."""

    def memory(precision: str, peak: int, torch: str, started: str) -> Record:
        versions = make_versions().model_copy(update={"packages": {"torch": torch, "pydantic": torch}})
        measured = memory_samples(workspace=peak)
        return make_record(make_cell("memory", precision), measurements=measured, versions=versions, started=started)

    old, new = "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"
    other, own = memory("fp16", 5000, "2.13.0", new), memory("fp16", 70, "2.14.1", old)
    this = memory("int4", 70, "2.14.1", new)
    assert only([other, own, this]).ratios["peak_bytes"].value == 1
    assert only([other, own, this]).apart == {}
    (alone,) = [only([other, this])]
    assert alone.apart == {"torch": ("2.14.1", "2.13.0")}
    (line,) = version_notes([alone])
    assert "torch 2.14.1 against 2.13.0: measure" in line


def test_no_item_in_common_is_a_reason() -> None:
    """Neither a verdict nor an error: which question each answered is said."""
    (task,) = only([quality("fp16", range(100), 80, "full"), quality("int8", range(200, 300), 60, "full")]).tasks
    assert task.result is None
    assert task.reason.startswith("different items or prompts, none in common")


def test_other_prompts_over_the_same_documents_are_told_from_other_items() -> None:
    """What differs is named."""
    base = quality("fp16", range(100), 80, "full", documents="d", digest="a")
    this = quality("int8", range(100), 80, "full", documents="d", digest="b", item_hashes=hashed(range(100, 200)))
    assert only([base, this]).tasks[0].reason.startswith("different prompts over the same items")


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ({"max_length": 512}, "different max_length: 512 against 2048"),
        ({"chat_template": True}, "different chat_template"),
    ],
)
def test_settings_that_change_the_question_forbid_pairs(setting: dict[str, Any], words: str) -> None:
    """How much is asked may differ, how it is asked may not."""
    this = quality("int8", range(100), 80, "full")
    cell = this.cell.model_copy(update={"settings": {**this.cell.settings, **setting}})
    found = only([quality("fp16", range(100), 80, "full"), this.model_copy(update={"cell": cell})])
    assert found.tasks[0].reason.startswith(words)


def changed(record: Record, settings: dict[str, Any] | None = None, **cell: Any) -> Record:
    """The same record of another cell."""
    told = {**record.cell.settings, **(settings or {})}
    return record.model_copy(update={"cell": record.cell.model_copy(update={"settings": told, **cell})})


def test_a_memory_limit_changes_no_answer() -> None:
    """Rows measured under another limit are paired all the same."""
    base, this = quality("fp16", range(100), 80, "full"), quality("int8", range(100), 60, "full")
    pairs = pair_task(*newest([base]), newest([changed(this, {"memory_limit_bytes": 10**9})])[0], "t")
    assert isinstance(pairs, PairedItems)


@pytest.mark.parametrize(
    ("this", "words"),
    [
        (
            changed(quality("int8", range(100), 60, "full"), suite_version=0),
            f"different suite versions: 0 against {make_cell('quality').suite_version}",
        ),
        (quality("int8", range(100), 60, "full", version=2), "different task versions: 2 against None"),
        (
            make_record(
                make_cell("quality", "int8", profile="full"),
                measurements=(sample("exact_match", [1.0] * 100, Unit.FRACTION, task="t", digest="range(0, 100)"),),
            ),
            "different metrics: exact_match against acc",
        ),
    ],
    ids=["suite", "task", "metric"],
)
def test_other_versions_and_metrics_are_never_paired(this: Record, words: str) -> None:
    """Whatever the items: the same name may hide another question."""
    (task,) = only([quality("fp16", range(100), 80, "full"), this]).tasks
    assert (task.result, task.reason) == (None, words)


def test_of_several_pairs_of_records_the_one_with_the_most_items_is_taken() -> None:
    """A newer record that shares thirty items does not hide an older one that shares a hundred."""
    records = [
        quality("fp16", range(100), 80, "full"),
        quality("int8", range(100), 60, "full"),
        quality("int8", range(70, 130), 100, "standard"),
    ]
    assert only(records).tasks[0].result.items == 100


@pytest.mark.parametrize("seed", range(20))
def test_the_pair_is_the_first_that_no_other_is_more_comparable_than(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of all records of both rows; those whose items could not make a better one are not compared."""
    rng, looked = random.Random(seed), []

    def history(precision: str) -> Row:
        found = []
        for day in range(1, 6):
            first, count = rng.choice([0, 0, 50, 500]), rng.choice([50, 100, 100])
            told = quality(precision, range(first, first + count), 80, "full", version=rng.choice([1, 1, 2]))
            changes = {"started": f"2026-01-0{day}T00:00:00Z", "versions": make_versions(torch=rng.choice("ab"))}
            cell = told.cell.model_copy(update={"suite_version": rng.choice([1, 2])})
            found.append(told.model_copy(update=changes | {"cell": cell}))
        return newest(found)[0]

    these, bases = history("int8"), history("fp16")
    pair_items = pairing._pair_items
    every = [
        pair_items(this, base, "t", same_files=True)
        for this in these.history["quality"]
        for base in bases.history["quality"]
    ]
    paired = [one for one in every if isinstance(one, PairedItems)]
    expected = max(paired, key=comparable) if paired else every[0]
    monkeypatch.setattr(pairing, "_pair_items", lambda *two, **how: looked.append(1) or pair_items(*two, **how))
    assert pair_task(these, bases, "t") == expected
    assert len(looked) <= 25 and (seed or len(looked) < 10)


def comparable(found: PairedItems) -> tuple[int, bool, int]:
    """Newest suite version, same packages, most items."""
    packages = [record.versions.packages for record in (found.this, found.base)]
    return found.this.cell.suite_version, packages[0] == packages[1], len(found.these)


def test_subjects_go_with_their_items() -> None:
    """Every third item is shared: its subject is the one it has, not the one at its place."""
    subjects = [item // 30 for item in range(300)]
    base = quality("fp16", range(0, 300, 3), 200, "standard")
    this = quality("int8", range(300), 150, "full", clusters=subjects)
    found = pair_task(newest([this])[0], newest([base])[0], "t")
    assert isinstance(found, PairedItems)
    assert found.clusters == tuple(subjects[::3])
    (task,) = only([base, this]).tasks
    assert task.result.design > 1


def test_all_tasks_together_are_one_line_and_the_margin_can_be_set() -> None:
    """Recovery over both tasks; at a margin of half the score nothing is worse, at 1 % it is."""
    answers = {"a": [1.0] * 160 + [0.0] * 40, "b": [1.0] * 180 + [0.0] * 20}
    lost = {"a": [0.0] * 20 + [1.0] * 140 + [0.0] * 40, "b": [0.0] * 18 + [1.0] * 162 + [0.0] * 20}
    records = [
        make_record(make_cell("quality", p), measurements=quality_samples(a))
        for p, a in (("fp16", answers), ("int8", lost))
    ]
    strict, _ = compare(newest(records))
    loose, _ = compare(newest(records), margin=0.5)
    assert strict[0].recovery is not None and loose[0].recovery is not None
    assert strict[0].recovery.share.value == pytest.approx(1 - (0.1 + 0.09) / (0.3 + 0.4))
    assert (strict[0].recovery.verdict, loose[0].recovery.verdict) == (Verdict.WORSE, Verdict.EQUIVALENT)
    assert {task.result.verdict for task in loose[0].tasks if task.result} == {Verdict.EQUIVALENT}
    last = task_table(strict).rows[-1]
    assert last[3:5] == ["all tasks", "worse"]
    assert last[6].startswith("72.9% ±")
    assert last[8:11] == ["38", "0", "400"]


def test_a_larger_model_at_four_bits_stands_beside_a_smaller_one_at_sixteen() -> None:
    """By bytes, each row against the best that needs no more, over the same items."""

    def row(model: str, precision: str, weights: int, right: int) -> list[Record]:
        cell = {"model": model}
        return [
            make_record(make_cell("memory", precision, **cell), measurements=memory_samples(weights=weights)),
            make_record(
                make_cell("quality", precision, **cell),
                measurements=quality_samples({"t": [1.0] * right + [0.0] * (400 - right)}, chance=0.25),
            ),
        ]

    records = [
        *row("small", "fp16", 2**30, 200),
        *row("large", "int4", 2**30 + 1, 300),
        *row("large", "fp16", 2**32, 301),
    ]
    lonely = make_record(make_cell("memory", "fp16", model="lonely"), measurements=memory_samples())
    (ranking,), unranked = score_per_byte(newest([*records, lonely]), margin=0.05)
    ranked = ranking.rows
    assert ranking.device == "cpu-test"
    assert [(item.row.model, item.row.precision) for item in ranked] == [
        ("small", "fp16"), ("large", "int4"), ("large", "fp16"),
    ]  # fmt: skip
    assert ranked[0].score == pytest.approx((0.5 - 0.25) / 0.75)
    assert ranked[0].per_gib == pytest.approx(ranked[0].score)
    second, third = ranked[1].share, ranked[2].share
    assert second is not None and second.share.value == pytest.approx(2.0) and second.verdict is Verdict.BETTER
    assert third is not None and third.verdict is Verdict.EQUIVALENT
    assert ranked[2].against is ranked[1].row
    assert view.lines(unranked) == ["left out: no quality record (lonely fp16)"]
    shown = view.table(ranking).rows
    assert shown[0][:2] == ["small", "fake-fp16"] and shown[0][5:] == ["1", "-", "-", "smallest"]
    assert shown[1][6].startswith("200.0% ±") and shown[1][7:] == ["1", "better"]
    assert shown[2][7:] == ["2", "equivalent"]
    assert [flat["verdict"] for flat in view.flats([ranking])] == [None, "better", "equivalent"]


def test_random_weights_have_no_score() -> None:
    """Whatever their records say."""
    where = {"backend": "transformers", "weights": Weights.RANDOM}
    records = [
        make_record(make_cell(suite, precision, model=model, **where))
        for suite in ("memory", "quality")
        for model, precision in (("tiny", "fp16"), ("tiny", "int8"), ("other", "fp16"))
    ]
    rankings, (unranked,) = score_per_byte(newest(records))
    assert (rankings, unranked.reason) == ([], "random weights have no score")
    assert view.lines([unranked]) == ["left out: random weights have no score (other fp16; tiny fp16, int8)"]


def rolled(precision: str, *caveats: str, aggregation: str | None = "weighted_perplexity") -> Record:
    """A row's scores of two texts; a record from before metrics said how they are read has no aggregation."""
    told = {"task": "t", "digest": "d", "item_hashes": hashed(range(2)), "item_weights": [10, 20]}
    labels = told | ({"aggregation": aggregation} if aggregation else {})
    scores = sample("word_perplexity", [-30.0, -60.0], Unit.NAT, **labels)
    warnings = tuple(Caveat(kind=kind, text="said") for kind in caveats)
    return make_record(make_cell("quality", precision), measurements=(scores,), warnings=warnings)


BEGIN = "one was scored when its beginning token was scored too: measure both now"
END = "one was scored when its contexts ended with the tokenizer's end: measure both now"


@pytest.mark.parametrize(
    ("base", "this", "reason"),
    [
        (rolled("fp16", aggregation=None), rolled("int8", "begin_not_scored"), BEGIN),
        (rolled("fp16", "begin_not_scored"), rolled("int8", aggregation=None), BEGIN),
        (rolled("fp16", "begin_not_scored"), rolled("int8", "begin_not_scored"), ""),
        (rolled("fp16", aggregation=None), rolled("int8", aggregation=None), ""),
        (rolled("fp16", aggregation=None), rolled("int8"), ""),
        (rolled("fp16"), rolled("int8", "end_left_out"), END),
        (rolled("fp16", "end_left_out"), rolled("int8", "end_left_out"), ""),
    ],
    ids=["old base", "old row", "new", "old", "no beginning", "old ends", "new ends"],
)
def test_what_a_tokenizer_puts_around_a_text_is_scored_in_both_or_in_neither(
    base: Record, this: Record, reason: str
) -> None:
    """Only where the newer record says that its tokenizer is concerned: else both asked the same."""
    found = pair_task(newest([this])[0], newest([base])[0], "t")
    assert (found if isinstance(found, str) else "") == reason


def test_a_task_without_texts_is_paired_across_the_change_of_beginnings() -> None:
    """Its items were asked with the same tokens before and after."""
    base, this = quality("fp16", range(100), 80, "full"), quality("int8", range(100), 60, "full")
    said = this.model_copy(update={"warnings": (Caveat(kind="begin_not_scored", text="said"),)})
    assert isinstance(pair_task(newest([said])[0], newest([base])[0], "t"), PairedItems)
