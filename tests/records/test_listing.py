# SPDX-License-Identifier: Apache-2.0
"""What lies in a folder of results, listed here or by a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from builders import make_cell, make_record

from bench.paths import RESULTS, ROOT
from bench.records import listing
from bench.records.listing import UNSURE, Digests, folders, listed
from bench.records.store import RUNS, Store


def test_the_folders_of_the_committed_records_are_those_of_their_paths() -> None:
    """And those of the ends of runs."""
    expected = {path.parent for path in Store(RESULTS).paths()} | {path.parent for path in RESULTS.glob(f"*/{RUNS}/*")}
    assert {RESULTS / folder for folder in folders(RESULTS, RUNS)} == expected
    assert sum(len(listed(RESULTS, folder).stamps) for folder in folders(RESULTS, RUNS)) == len(
        [*Store(RESULTS).paths(), *RESULTS.glob(f"*/{RUNS}/*.json")]
    )


@pytest.mark.parametrize("ended", [False, True])
def test_processes_of_their_own_list_the_same(monkeypatch: pytest.MonkeyPatch, ended: bool) -> None:
    """Whether this one may be forked or not; where one of them is ended before it has told all, it is listed here."""
    monkeypatch.setattr(listing, "YOUNG_NS", 0)
    monkeypatch.setattr(listing, "has_one_thread", lambda: False)
    here = Digests(RESULTS, RUNS).get()
    assert len(here) > 20 and UNSURE not in here.values()
    code = (
        "import json, os, sys\nfrom pathlib import Path\nfrom bench.records import listing\nlisting.YOUNG_NS = 0\n"
        "found = listing.Digests(Path(sys.argv[1]), 'runs')\nhelpers = found._helpers\n"
        f"if {ended}:\n found._helpers = [(process, os.open(os.devnull, os.O_RDONLY)) for process, _ in helpers]\n"
        "print(json.dumps([len(helpers), found.get()]))"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code, RESULTS], capture_output=True, env=environment, check=True)
    import json

    helpers, there = json.loads(done.stdout)
    assert there == here
    assert helpers == listing.PARTS or sys.platform != "linux"


def test_a_link_to_nowhere_and_a_folder_that_is_not_ours_are_no_mistake(tmp_path: Path) -> None:
    """The link is read, and complained about, each time."""
    store = Store(tmp_path)
    path = store.write(make_record(make_cell()))
    (path.parent / "gone.json").symlink_to(tmp_path / "nothing")
    found = listed(tmp_path, str(path.parent.relative_to(tmp_path)))
    assert found.stamps["gone.json"] == UNSURE
    assert found.digest == UNSURE
    assert listed(tmp_path, "none").stamps == {}
    assert folders(tmp_path / "none", RUNS) == []
