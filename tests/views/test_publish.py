# SPDX-License-Identifier: Apache-2.0
"""The annotated catalogue: a function of catalogue and results alone, between its markers and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from builders import (
    failed,
    make_cell,
    make_machine,
    make_model,
    make_record,
    memory_samples,
    quality_samples,
)

from bench.catalog.entries import read_catalog
from bench.catalog.model import Claim, Kind, Model, Quantity
from bench.errors import UserError
from bench.judge.claims import Judged, judge
from bench.judge.rows import Row, newest
from bench.paths import CATALOG
from bench.plan.claims import predicted_for
from bench.records.cell import Precision
from bench.records.record import Caveat, Ending, MemoryLimit, Record
from bench.views.publish import (
    annotated,
    base_models,
    blocks,
    claims,
    marker,
    measured,
    model_spec,
    projects,
    publish,
    published,
    weights,
)

CLAIM = Claim(
    id="tiny-1gb", text="runs in 1 GB | or so", source="its README", quantity=Quantity.PEAK, precision=Precision.FP16,
    at_most=10**9, tokens=100, contradiction="another page says 2 GB",
)  # fmt: skip
TRAINING = Claim(
    id="tiny-train",
    text="trains in an hour",
    source="its README",
    quantity=Quantity.TRAINING,
    untestable="not measured",
)
MODELS = (
    make_model(parameters=49_344),
    make_model(name="closed", kind=Kind.API, repo=None, organisation="Others", notes=("a trap", "another")),
    make_model(
        name="tuned", display="Tuned", base="Tiny", data="a | b\nc", finetune="LoRA", claim="an hour on one card",
        sources=("seed table",), family="project", claims=(CLAIM, TRAINING),
    ),
    make_model(name="frame", display="Frame", kind=Kind.NOT_A_MODEL, repo=None, reason="a framework"),
)  # fmt: skip
EMPTY = """\
# Catalogue

<!-- bench:bases:begin --><!-- bench:bases:end -->
<!-- bench:projects:begin --><!-- bench:projects:end -->
<!-- bench:measured:begin --><!-- bench:measured:end -->

Words of ours.

<!-- bench:claims:begin -->
old
<!-- bench:claims:end -->
The end.
"""
RECORDS = [
    make_record(
        make_cell("memory", precision),
        measurements=memory_samples(weights=weights),
        warnings=(Caveat(kind="busy_machine", text="load was 3"),),
    )
    for precision, weights in (("fp16", 800), ("int4", 200))
]
ROWS = newest(RECORDS)


def given(models: Sequence[Model], records: Sequence[Record]) -> tuple[Sequence[Model], list[Row], list[Judged]]:
    """What a page is made of: the entries, the rows that are shown, and the claims as the records judge them."""
    return models, newest(records), judge(models, records, predicted_for)


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A README with both blocks."""
    path = tmp_path / "README.md"
    path.write_text(EMPTY, encoding="utf-8")
    return path


def test_publishing_twice_changes_nothing_the_second_time(readme: Path) -> None:
    """The first call says that the file was stale, the second that it is not."""
    assert publish(readme, *given(MODELS, RECORDS), check=False) is True
    once = readme.read_text(encoding="utf-8")
    assert publish(readme, *given(MODELS, RECORDS), check=False) is False
    assert readme.read_text(encoding="utf-8") == once


def test_words_outside_the_markers_stay(readme: Path) -> None:
    """Only what lies between the markers is generated."""
    publish(readme, *given(MODELS, RECORDS), check=False)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("# Catalogue\n\n<!-- bench:bases:begin -->\n")
    assert "<!-- bench:measured:end -->\n\nWords of ours.\n\n<!-- bench:claims:begin -->\n" in text
    assert text.endswith("<!-- bench:claims:end -->\nThe end.\n")
    assert "\nold\n" not in text


def test_checking_writes_nothing(readme: Path) -> None:
    """It only says whether the file is stale."""
    assert publish(readme, *given(MODELS, RECORDS), check=True) is True
    assert readme.read_text(encoding="utf-8") == EMPTY
    publish(readme, *given(MODELS, RECORDS), check=False)
    assert publish(readme, *given(MODELS, RECORDS), check=True) is False
    assert publish(readme, *given(MODELS, []), check=True) is True


@pytest.mark.parametrize("end", ["begin", "end"])
@pytest.mark.parametrize("name", ["bases", "projects", "measured", "claims"])
def test_a_missing_marker_is_the_user_s_mistake(readme: Path, name: str, end: str) -> None:
    """The file is named, and nothing of it is changed."""
    broken = EMPTY.replace(marker(name, end), "")
    readme.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        publish(readme, *given(MODELS, RECORDS), check=False)
    assert str(readme) in caught.value.message
    assert marker(name, "begin") in caught.value.message
    assert readme.read_text(encoding="utf-8") == broken


@pytest.mark.parametrize("twice", ["begin", "end"])
def test_a_marker_that_stands_there_twice_is_the_user_s_mistake(readme: Path, twice: str) -> None:
    """Nobody could say which of the two is meant."""
    broken = EMPTY + marker("measured", twice)
    readme.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError, match="does not have exactly one"):
        publish(readme, *given(MODELS, RECORDS), check=False)
    assert readme.read_text(encoding="utf-8") == broken


def test_blocks_that_lie_within_each_other_are_refused() -> None:
    """Writing the outer one would throw the inner one away."""
    text = "".join(marker(*pair) for pair in (("a", "begin"), ("b", "begin"), ("b", "end"), ("a", "end")))
    with pytest.raises(UserError, match="within each other"):
        annotated(text, {"a": "x", "b": "y"}, Path("README.md"))


def test_models_lose_their_figures_only_where_that_is_asked(readme: Path) -> None:
    """Another results folder knows nothing of them: the page stays, and the models are named."""
    publish(readme, *given(MODELS, RECORDS), check=False)
    before = readme.read_text(encoding="utf-8")
    other = [make_record(make_cell("memory", model="frame"), measurements=memory_samples())]
    with pytest.raises(UserError, match="has figures of tiny, and these records have none") as caught:
        publish(readme, *given(MODELS, other), check=False)
    assert "--drop" in caught.value.remedy
    assert readme.read_text(encoding="utf-8") == before
    assert publish(readme, *given(MODELS, other), check=True) is True
    assert publish(readme, *given(MODELS, [*RECORDS, *other]), check=False) is True
    assert publish(readme, *given(MODELS, other), check=False, drop=True) is True
    assert published(readme.read_text(encoding="utf-8"), readme) == {"frame"}
    assert not list(readme.parent.glob(".*"))


def test_markers_in_the_wrong_order_are_missing_markers() -> None:
    """An end before its begin closes nothing."""
    text = f"{marker('measured', 'end')} {marker('measured', 'begin')}"
    with pytest.raises(UserError):
        annotated(text, {"measured": "x"}, Path("README.md"))


def test_a_file_that_is_not_there_is_the_user_s_mistake(tmp_path: Path) -> None:
    """With its path and a remedy."""
    with pytest.raises(UserError, match="cannot publish to"):
        publish(tmp_path / "none.md", *given(MODELS, RECORDS), check=False)


def test_the_measured_block_has_a_part_for_each_device() -> None:
    """What ran it, the figures, the ratios and the footnotes with their warnings."""
    gpu = make_machine(device="cuda-x", kind="cuda", name="X100", gpu_memory_bytes=80 * 2**30)
    rows = newest(
        [
            *(row.records["memory"] for row in ROWS),
            make_record(make_cell("memory", device="cuda-x"), machine=gpu, measurements=memory_samples()),
        ]
    )
    text = measured(rows)
    assert [line for line in text.splitlines() if line.startswith("###")] == [
        "### Test CPU, cpu, 2 CPUs, 8 GiB",
        "### X100, cuda, 2 CPUs, 80 GiB",
    ]
    assert text.count("Against each model's own 16-bit row:") == 1
    assert "| tiny (random weights) | int4 | fake-int4 | 200 B |" in text
    assert "| tiny | int4 | fake-int4 | 0.25x |" in text
    assert "busy" not in text  # other programs say nothing of memory


def test_what_only_capacity_measured_is_no_row_of_the_other_tables() -> None:
    """It has neither memory nor speed to show, and would stand there as not measured."""
    found = make_record(make_cell("capacity", "int8", settings={"memory_limit_bytes": 10**9}))
    assert blocks(*given(MODELS, [*RECORDS, found])) == blocks(*given(MODELS, RECORDS))


def test_verdicts_are_published_where_there_are_items() -> None:
    """The table of tasks follows the ratios."""
    answers = {"task": [1.0] * 8 + [0.0] * 2}
    rows = newest(make_record(make_cell("quality", p), measurements=quality_samples(answers)) for p in ("fp16", "int8"))
    assert "| tiny | int8 | fake-int8 | task | undecided (+1,267 items) |" in measured(rows)
    assert "| model | precision | scheme | task |" not in measured(ROWS)


def test_without_results_the_block_says_how_to_get_some() -> None:
    """An empty catalogue is not an empty page."""
    assert measured([]) == "Nothing has been measured yet: run `nox -s bench`.\n"
    assert "not measured yet" in base_models(MODELS, [])


def test_every_entry_stands_in_one_of_the_two_parts() -> None:
    """What a project of the seed made, frameworks too, in the model spec; everything else by organisation."""
    assert [model.name for model in projects(MODELS)] == ["tuned", "frame"]
    found = blocks(*given(MODELS, RECORDS))
    for model in MODELS:
        assert sum(f"(`{model.name}`)" in found[part] for part in ("bases", "projects")) == 1


def test_base_models_stand_by_organisation_with_their_bytes() -> None:
    """Parameters, computed weights at three precisions, licence, and what is known here."""
    text = base_models(MODELS[:2], ROWS)
    assert [line for line in text.splitlines() if line.startswith("#")] == ["### Others", "### Tests"]
    here = "[measured](#measured): fp16 (random weights), int4 (random weights)"
    assert f"| Tiny (`tiny`) | 0 M | 0 / 0 / 0 MiB |  | {here} |" in text
    assert "| Tiny (`closed`) |" in text
    assert "| api only |" in text
    assert "- **Tiny**: a trap; another\n" in text


def test_weights_are_written_in_one_unit() -> None:
    """Three precisions of one model side by side; nothing where the architecture is unknown."""
    real = {model.name: model for model in read_catalog()}
    assert weights(real["llama-7b"]) == "12.6 / 6.5 / 3.9 GiB"
    assert weights(real["gpt2"]) == "237 / 157 / 121 MiB"
    assert weights(real["bloom-176b"]) == "328 / 168 / 97 GiB"
    assert weights(make_model(architecture=None)) == ""
    assert weights(make_model(architecture={"model_type": "unheard-of"})) == ""


def test_the_model_spec_has_the_seed_s_columns() -> None:
    """Project, base model, data, fine-tune, hardware and cost; a cell cannot break the table."""
    lines = model_spec(projects(MODELS), ROWS).splitlines()
    assert lines[0] == "| project | base model | data | fine-tune | hardware and cost, as claimed | here |"
    assert lines[2] == "| Tuned (`tuned`) | Tiny | a \\| b c | LoRA | an hour on one card | not measured yet |"
    assert lines[3] == "| Frame (`frame`) |  |  |  |  | not a model: a framework |"
    assert len({line.replace("\\|", "").count("|") for line in lines if line.startswith("|")}) == 1


def test_claims_stand_with_their_verdict_and_what_speaks_against_them() -> None:
    """What inference cannot test is folded away, with its reason."""
    text = claims(judge(MODELS, [], predicted_for))
    assert text.startswith("2 claims: holds 0, fails 0, computed only 1, untested 0, not testable 1.\n")
    stated = "| tuned | runs in 1 GB \\| or so (fp16) — its README<br>**But:** another page says 2 GB |"
    assert f"{stated} computed only | predicted " in text
    folded = text.partition("<details>")[2]
    assert "| tuned | trains in an hour — its README | not testable | not measured |" in folded


def test_a_claim_decided_by_a_record_names_it() -> None:
    """The reader can look it up under results/."""
    cell = make_cell(
        "memory",
        model="tuned",
        backend="transformers",
        settings={"prompt_tokens": 100, "decode_tokens": 8, "memory_limit_bytes": 10**9},
    )
    record = make_record(
        cell, measurements=memory_samples(), memory_limit=MemoryLimit(bytes=10**9, enforced_by="cgroup v1")
    )
    text = blocks(*given(MODELS, [record]))["claims"]
    evidence = "ran under a hard limit of 1 GB (cgroup v1); transformers fake-fp16 on cpu-test, random weights"
    assert f"| holds | {evidence} (record {record.id}) |" in text


def test_a_model_whose_every_cell_failed_has_not_been_measured() -> None:
    """Having been tried is not having been measured."""
    rows = newest([failed(make_cell("memory"), Ending.FAILED), failed(make_cell("quality"), Ending.KILLED)])
    assert "[measured]" not in base_models(MODELS, rows)


def test_the_real_readme_has_its_markers() -> None:
    """`bench publish` works in a fresh checkout."""
    path = CATALOG / "README.md"
    found = blocks(*given(MODELS, []))
    assert annotated(path.read_text(encoding="utf-8"), found, path).count("<!-- bench:") == 2 * len(found)


def test_the_real_readme_covers_the_whole_catalogue() -> None:
    """Every entry and every claim, in tables of at most nine columns that GitHub can show."""
    models = read_catalog()
    found = blocks(*given(models, []))
    text = "".join(found.values())
    assert [m.name for m in models if f"(`{m.name}`)" not in text] == []
    tables = [line for line in text.splitlines() if line.startswith("|")]
    assert max(line.replace("\\|", "").count("|") - 1 for line in tables) <= 9
    assert found["claims"].startswith(f"{sum(len(m.claims) for m in models)} claims: ")
