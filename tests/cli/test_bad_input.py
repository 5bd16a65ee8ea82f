# SPDX-License-Identifier: Apache-2.0
"""What people ask of the scoring that cannot be had: through the command and the real runner, one clear line each."""

import json
import re
from pathlib import Path

import pytest

pytest.importorskip("lm_eval")

from builders import called, make_cell, make_record, quality_samples, sample

from bench.records.record import Ending, Unit
from bench.records.store import Store

OWN = """\
task: own_choice
dataset_path: json
dataset_kwargs: {data_files: {test: items.jsonl}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{q}}"
doc_to_choice: choices
doc_to_target: gold
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
metadata: {version: 1}
"""
ITEMS = [{"q": text, "choices": [" a", " b"], "gold": 0} for text in ("short", "x " * 60, "also short")]


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of the test's own, no network, no fault but what the test asks for."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE"):
        monkeypatch.setenv(variable, "1")
    monkeypatch.delenv("BENCH_FAKE_FAULT", raising=False)


@pytest.fixture
def bench(tmp_path, capsys):
    """A command in this process: exit code, stdout, the lines of stderr; records lie in `tmp_path`/results."""

    def call(*arguments):
        code, out, err = called(capsys, *arguments, "--results", tmp_path / "results")
        return code, out, err.splitlines()

    return call


def score(bench, *options, suite="quality"):
    """`bench run` of the fake at int8."""
    chosen = ("--backend", "fake", "--device", "cpu", "--profile", "smoke", "--precision", "int8", "--suite", suite)
    return bench("run", *chosen, "--quiet", *options)


def outcome(tmp_path, suite="quality"):
    """The outcome of the one int8 record of a suite, and the record."""
    (record,) = (
        r for r in Store(tmp_path / "results").records() if (r.cell.precision, r.cell.suite) == ("int8", suite)
    )
    return record.outcome, record


def test_a_text_that_cannot_be_fetched_is_one_line_before_anything_is_planned(bench, tmp_path):
    """WikiText-2 without a network: what failed and what to do instead, and nothing half-written stays behind."""
    code, out, err = score(bench, "--text", "wikitext2", suite="divergence")
    assert (code, out, len(err)) == (2, "", 1)
    assert err[0].startswith("bench: WikiText-2 cannot be had from the Hub: ")
    assert err[0].endswith("; connect to the network, or give a file: --text FILE")
    assert not (tmp_path / "results").exists()
    assert not list((tmp_path / "cache").rglob("*wikitext*"))


def test_a_task_of_the_hub_without_a_network_fails_with_its_name_and_the_way_out(bench, tmp_path):
    """The task that can be had is not scored either: no record answers a part of what was asked."""
    code, out, err = score(bench, "--task", "bench_facts_en,arc_easy")
    found, record = outcome(tmp_path)
    assert (code, found.ending, found.detail, record.measurements) == (1, Ending.FAILED, "", ())
    assert re.fullmatch(
        r"task arc_easy needs the Hugging Face Hub: .+; connect to the network, or leave it out: --task bench_facts_en",
        found.reason,
    )
    (line,) = (line for line in err if "arc_easy" in line)
    assert line.endswith(f"failed: {found.reason}")
    assert found.reason in out


def test_an_unknown_task_is_unsupported_with_the_nearest_name(bench, tmp_path):
    """A finding, not a failure: asked again it is not measured again."""
    code, out, _ = score(bench, "--task", "bench_fact_en")
    found, _ = outcome(tmp_path)
    assert (code, found.ending) == (0, Ending.UNSUPPORTED)
    assert found.reason.startswith("lm-eval has no task 'bench_fact_en' (did you mean bench_facts_en?)")
    assert found.reason in out


@pytest.mark.parametrize("by", ["file", "folder"])
def test_a_task_file_that_does_not_parse_is_one_line_with_file_and_line(bench, tmp_path, by):
    """Nothing is started for it."""
    path = tmp_path / "own" / "broken.yaml"
    path.parent.mkdir()
    path.write_text("task: broken\nmetric_list: [{metric: acc\nversion: 1\n")
    code, out, err = score(bench, *(("--task", path) if by == "file" else ("--task-folder", path.parent)))
    assert (code, out, len(err)) == (2, "", 1)
    assert re.fullmatch(rf"bench: {re.escape(str(path))}, line 3: .*; mend the task file", err[0])


def own_tasks(tmp_path: Path) -> Path:
    """A folder with a task, a group that it is in, and its items: one of them is long."""
    folder = tmp_path / "own"
    folder.mkdir()
    (folder / "one.yaml").write_text(OWN)
    (folder / "all.yaml").write_text("group: all_of_mine\ntask: [own_choice]\n")
    (folder / "items.jsonl").write_text("".join(json.dumps(item) + "\n" for item in ITEMS))
    return folder


def test_items_longer_than_the_context_are_cut_counted_and_told(bench, tmp_path):
    """A group's members through the real runner; the line under the table says how many of how many and what to do."""
    folder = own_tasks(tmp_path)
    code, out, _ = score(bench, "--task", "all_of_mine", "--task-folder", folder, "--max-length", 64)
    found, record = outcome(tmp_path)
    assert (code, found.ending, record.cell.settings["tasks"]) == (0, Ending.OK, ["own_choice"])
    measured = record.measurement("acc")
    assert (measured.labels["truncated"], len(measured.values)) == (1, 3)
    (line,) = (line for line in out.splitlines() if "were cut" in line)
    assert "1 of 3 items of own_choice are longer than the context and were cut" in line
    assert not list((tmp_path / "cache" / "journal").glob("*"))  # the cell is settled


def test_code_of_task_files_from_elsewhere_runs_with_consent_by_name_alone(bench, tmp_path):
    """Refused before anything is planned; `plan` lists it and runs nothing; with its name it runs, and is told."""
    folder, marker = own_tasks(tmp_path), tmp_path / "ran"
    (tmp_path / "others").mkdir()
    (tmp_path / "others" / "part.yaml").write_text("process_docs: !function hidden.f\n")
    (tmp_path / "others" / "hidden.py").write_text(f"open({str(marker)!r}, 'w').close()\nf = lambda docs: docs\n")
    (folder / "one.yaml").write_text(f"include: ../others/part.yaml\n{OWN}")
    listed = f"the task files run code: hidden.py ({tmp_path / 'others' / 'hidden.py'}: f)"
    code, out, err = score(bench, "--task", folder / "one.yaml")
    assert (code, out) == (2, "")
    assert err == [f"bench: {listed}; read it, then allow it: --trust-task-code hidden.py"]
    assert not (tmp_path / "results").exists() and not marker.exists()
    planned = ("--backend", "fake", "--device", "cpu", "--suite", "quality", "--task", folder / "one.yaml")
    code, _, err = bench("plan", *planned)
    assert (code, err, marker.exists()) == (0, [listed], False)
    code, _, err = score(bench, "--task", folder / "one.yaml", "--trust-task-code", "hidden.py")
    assert code == 0 and listed in err and marker.exists()
    assert outcome(tmp_path)[0].ending == Ending.OK


def test_code_beside_a_named_task_file_runs_and_is_told(bench, tmp_path):
    """Even where nothing else is said (`--quiet`)."""
    folder = own_tasks(tmp_path)
    (folder / "code.py").write_text("f = lambda docs: docs\n")
    (folder / "one.yaml").write_text(f"process_docs: !function code.f\n{OWN}")
    code, _, err = score(bench, "--task", folder / "one.yaml")
    assert (code, err[0]) == (0, f"the task files run code: code.py ({folder / 'code.py'}: f)")
    assert score(bench, "--task-folder", folder)[0] == 2


def test_a_task_without_right_answers_has_its_score_in_the_table_in_json_and_in_its_listing(bench, tmp_path):
    """f1 is a figure of the whole task: measured, stored and shown by its name, with lm-eval's error."""
    folder = own_tasks(tmp_path)
    metrics = "metric_list: [{metric: f1, aggregation: f1, higher_is_better: true}]"
    (folder / "one.yaml").write_text(
        OWN.replace("metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]", metrics)
    )
    code, _, _ = score(bench, "--precision", "fp16", "--task", folder / "one.yaml")
    _, record = outcome(tmp_path)
    measured = record.measurement("f1")
    assert (code, measured.labels["of_items"], len(measured.values)) == (0, 3, 1)
    _, shown, _ = bench("show", "--precision", "int8", "--columns", "quality")
    assert "f1 0" in shown
    _, listed, _ = bench("show", "--precision", "int8", "--columns", "tasks")
    assert re.search(r"own_choice +f1 +0.* 3", listed)
    _, text, _ = bench("show", "--precision", "int8", "--format", "json")
    (flat,) = json.loads(text)
    assert flat["score_own_choice_f1"] == measured.values[0] and flat["acc"] is None
    _, compared, _ = bench("compare", "--format", "json")
    reason = next(row["reason"] for row in json.loads(compared) if row["task"] == "own_choice")
    assert reason.startswith("f1 is a figure of the whole task")


def test_logits_that_are_not_finite_fail_scoring_and_divergence_naming_item_and_precision(bench, tmp_path, monkeypatch):
    """The 16-bit reference is sound and stays; each int8 cell fails with its own line."""
    monkeypatch.setenv("BENCH_FAKE_FAULT", "nan@load:fake-int8")
    code, _, err = score(bench, "--task", "bench_facts_en", suite="divergence,quality")
    assert code == 1
    scoring, distance = outcome(tmp_path)[0], outcome(tmp_path, "divergence")[0]
    assert (scoring.ending, distance.ending) == (Ending.FAILED, Ending.FAILED)
    assert re.fullmatch(
        r"NaN or infinite logits: task bench_facts_en, item \d+, and \d+ of \d+ requests, at int8 \(fake-int8\)",
        scoring.reason,
    )
    assert distance.reason.startswith("NaN or infinite logits at int8 (fake-int8): window 1, token 1, and ")
    assert [sum(line.endswith(found.reason) for line in err) for found in (scoring, distance)] == [1, 1]


def test_a_reference_at_chance_and_an_empty_pairing_are_said_in_the_table(bench, tmp_path):
    """Neither gets a verdict; of all tasks together nothing is measurable either, and the command has done its work."""
    store = Store(tmp_path / "results")
    for precision, digest in (("fp16", "d1"), ("int8", "d2")):
        guess = quality_samples({"guess": [1.0] * 26 + [0.0] * 74}, chance=0.25)
        apart = sample("acc", [1.0] * 50, Unit.FRACTION, task="apart", digest=digest, chance=0.25)
        store.write(make_record(make_cell("quality", precision), measurements=(*guess, apart)))
    code, out, err = bench("compare", "--details")
    assert (code, err) == (0, [])
    said = "accuracy: the reference itself is at chance; 1 of 2 tasks not compared: different items or prompts"
    assert said in out
    rows = {line.split()[0]: line for line in reversed(out.splitlines()) if line.split()}  # above the footnotes
    assert "not measurable (at chance)" in rows["guess"]
    assert "different items or prompts: measure both with the same profile" in rows["apart"]
    assert "not measurable (at chance)" in rows["all"]
    assert any("at chance: the reference itself" in line for line in out.splitlines())
    flat = json.loads(bench("compare", "--format", "json")[1])
    by_task = {row["task"]: row for row in flat}
    assert by_task["guess"]["verdict"] == "not measurable" and by_task["apart"]["verdict"] is None
    assert by_task[None]["recovery"] is None
