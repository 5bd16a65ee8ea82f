# SPDX-License-Identifier: Apache-2.0
"""Repositories of the Hub through the real runner and the Hub's own client: loaded at their commit, or one clear line.

This is how `bench.engines.weights.files` finds them. The Hub is a small server on loopback, the workers real processes.
"""

import re

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")
pytest.importorskip("bitsandbytes")
pytest.importorskip("lm_eval")

import hub
import tiny

from bench.cli import app, guarded
from bench.records.store import Store

ENTRY = """\
  - name: {name}
    display: {name}
    kind: {kind}
    repo: tests/{name}
"""
PINNED = "    revision: {}\n"
NAMES = ("plain", "pinned", "gone", "gated", "disabled", "token", "unpinnable")


@pytest.fixture
def bench(tmp_path, monkeypatch, capsys, without_roofs):
    """`bench run` on the entries named, one record each; returns exit code and what stderr said."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_DATASETS_OFFLINE", "HF_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    revisions = {"pinned": "v1", "unpinnable": "v9"}
    entries = "".join(
        ENTRY.format(name=name, kind="gated" if name == "gated" else "open weights")
        + (PINNED.format(revisions[name]) if name in revisions else "")
        for name in NAMES
    )
    (folder / "tests.yaml").write_text(f"family: tests\norganisation: Tests\nmodels:\n{entries}")

    def call(url, *names, suite="memory,throughput"):
        monkeypatch.setenv("HF_ENDPOINT", url)
        options = ["--model", ",".join(names), "--suite", suite, "--scheme", "fp32", "--profile", "smoke", "--quiet"]
        folders = ["--catalog", str(folder), "--results", str(tmp_path / "results"), "--device", "cpu"]
        capsys.readouterr()
        try:
            code = guarded(lambda: app(["run", *options, *folders]))
        except SystemExit as done:
            code = done.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    call.records = lambda: list(Store(tmp_path / "results").records())
    return call


def test_a_record_keeps_the_commit_that_was_loaded_and_an_entry_s_revision_is_what_is_asked_for(bench, tmp_path):
    """Without a revision the newest commit of the default branch; with one, its own."""
    source = tiny.checkpoint(tmp_path, "llama")
    shelf = hub.Hub(folders={f"tests/{name}": source for name in ("plain", "pinned")}, revisions=("main", "v1"))
    with hub.serving(shelf):
        assert bench(shelf.url, "plain", "pinned", suite="memory")[0] == 0
    found = {record.cell.model: record for record in bench.records()}
    assert found["plain"].provenance.revision == hub.commit("tests/plain", "main")
    assert found["pinned"].provenance.revision == hub.commit("tests/pinned", "v1")
    assert (found["plain"].cell.revision, found["pinned"].cell.revision) == (None, "v1")
    assert found["plain"].provenance.source == "tests/plain"
    assert any(path.startswith("/api/models/tests/pinned/revision/v1") for path in shelf.asked)
    assert not [path for path in shelf.asked if "tests/pinned" in path and "main" in path]


UNSETTLED = {
    "token": "the Hub refuses this machine's token for tests/token; run `hf auth login` again, or unset HF_TOKEN",
    "unpinnable": "tests/unpinnable has no revision v9; correct `revision` in its catalogue entry, or leave it out",
}
FINDINGS = {
    "gone": "the Hub has no tests/gone: gone, renamed, or private (`hf auth login`)",
    "gated": "gated: accept the licence of tests/gated on the Hub and run `hf auth login`",
    "disabled": "the Hub has disabled tests/disabled",
}


def test_each_way_in_which_the_hub_refuses_is_one_line_with_its_remedy(bench, tmp_path):
    """Findings under the table, failures on stderr too, once for all cells of a load; a finding fails nothing."""
    refusing = {f"tests/{name}": name for name in ("gated", "disabled", "token")}
    shelf = hub.Hub(folders={"tests/unpinnable": tmp_path}, refusing=refusing)
    with hub.serving(shelf):
        assert bench(shelf.url, *FINDINGS)[::2] == (0, "")
        code, out, err = bench(shelf.url, *FINDINGS, *UNSETTLED)
    assert code == 1
    assert err.splitlines() == [
        f"{name} fp32 (transformers fp32) 2 cells (memory, throughput): failed: {reason}"
        for name, reason in UNSETTLED.items()
    ]
    notes = [re.sub(r"^\[\d+\] ", "", line) for line in out.splitlines() if line.startswith("[")]
    said = {f"unsupported: {reason}" for reason in FINDINGS.values()}
    assert sorted(notes) == sorted(said | {f"failed: {reason}" for reason in UNSETTLED.values()})
    assert {record.outcome.detail for record in bench.records()} == {""}


def test_a_hub_that_is_not_there_is_one_line(bench):
    """Nothing listens: told with what to do, and to be tried again."""
    with hub.serving(hub.Hub()) as closed:
        url = closed.url
    code, _, err = bench(url, "plain")
    assert code == 1
    reason = "tests/plain is not in the local cache and the Hub cannot be reached (ConnectError)"
    remedy = "connect, or pass --weights local=FOLDER"
    assert err == f"plain fp32 (transformers fp32) 2 cells (memory, throughput): failed: {reason}; {remedy}\n"
