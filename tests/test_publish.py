# SPDX-License-Identifier: Apache-2.0
"""The annotated catalogue: a function of catalogue and results alone, between its markers and nowhere else."""

from __future__ import annotations

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

from bench.cell import Kind
from bench.errors import UserError
from bench.places import CATALOG
from bench.publish import annotated, blocks, catalogue, marker, measured, publish
from bench.record import Caveat, Ending
from bench.table import newest

MODELS = (make_model(), make_model(name="closed", kind=Kind.API, repo=None, claim="a | b\nc"))
EMPTY = """\
# Catalogue

<!-- bench:measured:begin --><!-- bench:measured:end -->

Words of ours.

<!-- bench:catalogue:begin -->
old
<!-- bench:catalogue:end -->
The end.
"""
ROWS = newest(
    [
        make_record(
            make_cell("memory", precision),
            measurements=memory_samples(weights=weights),
            warnings=(Caveat(kind="busy_machine", text="load was 3"),),
        )
        for precision, weights in (("fp16", 800), ("int4", 200))
    ]
)


@pytest.fixture
def readme(tmp_path: Path) -> Path:
    """A README with both blocks."""
    path = tmp_path / "README.md"
    path.write_text(EMPTY, encoding="utf-8")
    return path


def test_publishing_twice_changes_nothing_the_second_time(readme: Path) -> None:
    """The first call says that the file was stale, the second that it is not."""
    assert publish(readme, MODELS, ROWS, check=False) is True
    once = readme.read_text(encoding="utf-8")
    assert publish(readme, MODELS, ROWS, check=False) is False
    assert readme.read_text(encoding="utf-8") == once


def test_words_outside_the_markers_stay(readme: Path) -> None:
    """Only what lies between the markers is generated."""
    publish(readme, MODELS, ROWS, check=False)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("# Catalogue\n\n<!-- bench:measured:begin -->\n")
    assert "<!-- bench:measured:end -->\n\nWords of ours.\n\n<!-- bench:catalogue:begin -->\n" in text
    assert text.endswith("<!-- bench:catalogue:end -->\nThe end.\n")
    assert "\nold\n" not in text


def test_checking_writes_nothing(readme: Path) -> None:
    """It only says whether the file is stale."""
    assert publish(readme, MODELS, ROWS, check=True) is True
    assert readme.read_text(encoding="utf-8") == EMPTY
    publish(readme, MODELS, ROWS, check=False)
    assert publish(readme, MODELS, ROWS, check=True) is False
    assert publish(readme, MODELS, [], check=True) is True


@pytest.mark.parametrize("end", ["begin", "end"])
@pytest.mark.parametrize("name", ["measured", "catalogue"])
def test_a_missing_marker_is_the_user_s_mistake(readme: Path, name: str, end: str) -> None:
    """The file is named, and nothing of it is changed."""
    broken = EMPTY.replace(marker(name, end), "")
    readme.write_text(broken, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        publish(readme, MODELS, ROWS, check=False)
    assert str(readme) in caught.value.message
    assert marker(name, "begin") in caught.value.message
    assert readme.read_text(encoding="utf-8") == broken


def test_markers_in_the_wrong_order_are_missing_markers() -> None:
    """An end before its begin closes nothing."""
    text = f"{marker('measured', 'end')} {marker('measured', 'begin')}"
    with pytest.raises(UserError):
        annotated(text, {"measured": "x"}, Path("README.md"))


def test_a_file_that_is_not_there_is_the_user_s_mistake(tmp_path: Path) -> None:
    """With its path and a remedy."""
    with pytest.raises(UserError, match="cannot publish to"):
        publish(tmp_path / "none.md", MODELS, ROWS, check=False)


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
    assert "- warning, tiny fp16, tiny int4: busy machine: load was 3\n" in text


def test_verdicts_are_published_where_there_are_items() -> None:
    """The table of tasks follows the ratios."""
    answers = {"task": [1.0] * 8 + [0.0] * 2}
    rows = newest(make_record(make_cell("quality", p), measurements=quality_samples(answers)) for p in ("fp16", "int8"))
    assert "| tiny | int8 | task | undecided (about " in measured(rows)
    assert "| model | precision | task |" not in measured(ROWS)


def test_without_results_the_block_says_how_to_get_some() -> None:
    """An empty catalogue is not an empty page."""
    assert measured([]) == "Nothing has been measured yet: run `nox -s bench`.\n"
    assert "not measured yet" in catalogue(MODELS, [])


def test_every_entry_is_listed_with_what_is_known_here() -> None:
    """Measured, or why not; a claim cannot break the table."""
    lines = catalogue(MODELS, ROWS).splitlines()
    assert len(lines) == 2 + len(MODELS)
    assert lines[2].startswith("| tiny | Tests |")
    assert lines[2].endswith("| measured |")
    assert lines[3].endswith("| a \\| b c | api only |")
    assert len({line.replace("\\|", "").count("|") for line in lines}) == 1


def test_a_model_whose_every_cell_failed_has_not_been_measured() -> None:
    """Having been tried is not having been measured."""
    rows = newest([failed(make_cell("memory"), Ending.FAILED), failed(make_cell("quality"), Ending.KILLED)])
    assert not catalogue(MODELS, rows).splitlines()[2].endswith("| measured |")


def test_the_real_readme_has_its_markers() -> None:
    """`bench publish` works in a fresh checkout."""
    path = CATALOG / "README.md"
    found = blocks(MODELS, [])
    assert annotated(path.read_text(encoding="utf-8"), found, path).count("<!-- bench:") == 2 * len(found)
