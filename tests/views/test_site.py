# SPDX-License-Identifier: Apache-2.0
"""The site's files: the same for the same records, whole or not at all; and what its plot calls a front."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from builders import make_cell, make_record, make_versions, memory_samples
from judged import FP16, INT4, INT8

from bench.errors import UserError
from bench.judge.rows import newest
from bench.records.cell import Weights
from bench.records.record import Provenance
from bench.views.site import model_page, plot, publish
from bench.views.site.data import entries

pytest.importorskip("jinja2")
HERE = Path(publish.__file__).parent


def files() -> dict[str, bytes]:
    return dict(publish.files(newest([*FP16, *INT8, *INT4]), [], []))


def test_publishing_twice_changes_no_byte(tmp_path: Path) -> None:
    """And what was edited or is left over makes it stale."""
    folder = tmp_path / "site"
    assert publish.stale(folder, files())
    publish.write(folder, files())
    assert not publish.stale(folder, files())
    (folder / "index.html").write_text("edited")
    assert publish.stale(folder, files())
    publish.write(folder, files())
    (folder / "left-over.html").write_text("x")
    assert publish.stale(folder, files())
    publish.write(folder, files())
    assert not publish.stale(folder, files())


def test_a_half_published_site_heals(tmp_path: Path) -> None:
    """An interrupted call left its half, and the old site aside."""
    folder = tmp_path / "site"
    (tmp_path / ".site.part" / "assets").mkdir(parents=True)
    (tmp_path / ".site.old").mkdir()
    publish.write(folder, files())
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_two_checkpoints_of_one_name_are_two_rows_of_the_page() -> None:
    """Each is found by an id of its own; a row that is alone with its name has none of the weights' mark in it."""
    found = [
        make_record(provenance=Provenance(source="own", files={"model": mark}), measurements=memory_samples())
        for mark in ("1:aa", "2:bb")
    ]
    both = [one.id for one in entries(newest(found))]
    (alone,) = [one.id for one in entries(newest(found[:1]))]
    assert len(set(both)) == 2
    assert all(one.startswith(f"{alone}-") for one in both)


def test_rows_of_random_weights_stand_last() -> None:
    """What a reader meets first has a quality; otherwise the order of rows is kept."""
    (row,) = newest(FP16)
    drawn = {"bare": True, "alive": False, "blank": True, "able": False}
    rows = [
        replace(row, model=name, backend="transformers", weights=Weights.RANDOM if random else Weights.HUB)
        for name, random in drawn.items()
    ]
    found = [one.row.model for one in entries(rows)]
    assert found == ["alive", "able", "bare", "blank"]


def test_a_record_of_a_clock_that_was_ahead_is_not_the_newest_version() -> None:
    """What others dated is newer, so it says which version is now."""
    then, now = make_versions(torch="1"), make_versions(torch="2")
    odd = make_record(started="2099-01-01T00:00:00Z", ahead=True, versions=then)
    later = make_record(make_cell("throughput"), versions=now)
    rows = newest([odd, later])
    assert model_page.newest_versions(rows) == {later.cell.device: {"torch": "2"}}


def test_no_record_gives_an_empty_but_valid_site(tmp_path: Path) -> None:
    """A front page without rows, and the page of claims."""
    found = dict(publish.files([], [], []))
    assert b"0 rows on 0 devices" in found["index.html"]
    assert "claims.html" in found


def test_a_folder_that_refuses_is_one_line(tmp_path: Path) -> None:
    """A file stands where the folder should be made."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match="cannot write the site to"):
        publish.write(tmp_path / "file" / "site", files())


def test_what_is_vendored_is_what_its_page_says() -> None:
    """Version, licence and hash of every file."""
    said = (HERE / "vendor" / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\S+) \|.*`([0-9a-f]{64})` \|$", said, re.MULTILINE))
    found = {name: hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() for name in publish.VENDORED}
    assert rows == found


def test_a_page_loads_nothing_from_elsewhere() -> None:
    """Every address in every page is a file of the site."""
    for name, content in files().items():
        if name.endswith(".html"):
            links = re.findall(rb'(?:src|href)="([^"#]+)"', content)
            assert not [link for link in links if b":" in link]
            assert all((Path("/") / name).parent.joinpath(link.decode()).resolve().is_absolute() for link in links)
            assert b"Content-Security-Policy" in content


def point(memory: float, decode: float, verdict: str) -> dict[str, object]:
    return {"memory": memory, "decode": decode, "verdict": verdict}


def test_undecided_points_stay_on_the_front_and_proved_ones_dominate() -> None:
    """The second is larger and slower than a proved one; the third is smaller and undecided, so it stays."""
    found = [point(2, 10, "reference"), point(3, 8, "equivalent"), point(1, 5, "undecided"), point(1.5, 20, "worse")]
    marked, line = plot.with_front(json.loads(json.dumps(found)))
    assert [one["dominated"] for one in marked if isinstance(one, dict)] == [False, True, False, False]
    assert line == [{"memory": 1, "decode": 5.0}, {"memory": 2, "decode": 10.0}]


def test_an_undecided_point_dominates_only_what_is_worse() -> None:
    """It is smaller and faster than both."""
    found = [point(1, 20, "undecided"), point(2, 10, "reference"), point(2, 10, "worse")]
    marked, _ = plot.with_front(json.loads(json.dumps(found)))
    assert [one["dominated"] for one in marked if isinstance(one, dict)] == [False, False, True]


@pytest.mark.parametrize(
    ("changes", "asked"),
    [
        ({"weights": Weights.HUB, "source": "tests/tiny"}, "--model tiny"),
        ({"weights": Weights.RANDOM, "source": "random"}, "--model tiny --weights random"),
        ({"weights": Weights.LOCAL, "source": "tiny"}, "--weights local=tiny"),
        ({"weights": Weights.LOCAL, "source": "Tiny.gguf"}, "--weights local=Tiny.gguf"),
        ({"weights": Weights.LOCAL, "source": "my run"}, "--model tiny --weights 'local=my run'"),
        ({"weights": Weights.LOCAL, "source": "a+b on base"}, "--model tiny --weights local=a,b --base base"),
    ],
)
def test_what_measures_a_row_again_asks_for_its_own_weights(changes: dict[str, str], asked: str) -> None:
    """Not for the entry's where a folder of that name was measured."""
    rows = newest([make_record(make_cell(**changes), measurements=memory_samples())])
    assert list(model_page.commands(rows)) == [f"bench run --backend fake {asked} --scheme fake-fp16"]
