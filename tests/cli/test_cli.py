# SPDX-License-Identifier: Apache-2.0
"""What people type and what they get: exit codes, one line and its remedy for a mistake, views that say what is."""

import csv
import io
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from builders import (
    CLOSED_ENTRY,
    STAMP,
    TINY_FAMILY,
    called,
    divergence_samples,
    failed,
    make_cell,
    make_machine,
    make_record,
    memory_samples,
    quality_samples,
    speed_samples,
    unlogged,
)

from bench.catalog import entries
from bench.engines import fake
from bench.engines.registry import backend_names
from bench.instruments import machine
from bench.records.record import Ending
from bench.records.store import Store
from bench.views.columns import COLUMNS, VIEWS
from bench.views.publish import marker
from bench.views.table import FIGURES, IDENTITY

ROOT = Path(__file__).resolve().parents[2]
FAMILY = f"{TINY_FAMILY}    parameters: 2000000\n{CLOSED_ENTRY}"
README = "\n".join(
    [
        "# Catalogue",
        *(marker(name, end) for name in ("bases", "projects", "measured", "claims") for end in ("begin", "end")),
        "the end\n",
    ]
)


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """A cache of the test's own, and no fault."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("BENCH_FAKE_FAULT", raising=False)


@pytest.fixture
def bench(capsys):
    """Run a command in this process; returns exit code, stdout and stderr."""
    return lambda *arguments: called(capsys, *arguments)


def piped(*arguments, **environment):
    """Run a command as a process of its own, its output in pipes."""
    return subprocess.run(
        [sys.executable, "-m", "bench", *map(str, arguments)],
        cwd=ROOT, env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture
def own_catalog(tmp_path):
    """A catalogue of two entries with a README to annotate."""
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "test.yaml").write_text(FAMILY)
    (folder / "README.md").write_text(README)
    return folder


@pytest.fixture
def results(tmp_path):
    """Records of `tiny` at fp16 and int4, all suites; int8 did not fit."""
    store = Store(tmp_path / "results")
    for precision, weights, rate in (("fp16", 500, 1), ("int4", 200, 2)):
        samples = {
            "memory": memory_samples(weights=weights),
            "throughput": speed_samples(itl_s=[0.1 / rate] * 4),
            "divergence": divergence_samples(),
            "quality": quality_samples({"task": [1.0, 0.0, 1.0, 1.0]}),
        }
        if precision == "fp16":
            samples["divergence"] = tuple(m for m in samples["divergence"] if m.name == "nll_nat")
        for suite, measurements in samples.items():
            store.write(make_record(make_cell(suite, precision), measurements=measurements))
    store.write(failed(make_cell("memory", "int8"), Ending.DOES_NOT_FIT, "out of memory in load"))
    return store.root


RUN = ("run", "--backend", "fake", "--profile", "smoke", "--device", "cpu")


# The call was wrong: 2, one line, the remedy.


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--precision", "int3"], "bench: no precision 'int3'; one of: fp32, fp16, int8, int4, served"),
        (
            ["--scheme", "q4"],
            "bench: no scheme 'q4'; one of: fake-fp16, fake-fp32, fake-int4, fake-int8, fake-int8-pass",
        ),
        (
            ["--suite", "speed"],
            "bench: no suite 'speed'; one of: memory, throughput, divergence, quality, kv, capacity",
        ),
        (["--profile", "huge"], "bench: no profile 'huge'; one of: smoke, standard, full"),
        (["--weights", "disk"], "bench: no weights 'disk'; hub, package, random or local=PATH"),
        (["--weights", "local"], "bench: no weights 'local'; hub, package, random or local=PATH"),
        (
            ["--weights", "local=/no/such"],
            "bench: no folder or file /no/such; give an existing folder in Hub layout, or a GGUF file",
        ),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_an_unknown_name_is_one_line_with_the_known_ones(bench, tmp_path, command, options, line):
    """A mistyped option value ends with 2, says what there is, and measures nothing."""
    code, out, err = bench(command, "--backend", "fake", *options, "--results", tmp_path / "r")
    assert (code, out, err) == (2, "", line + "\n")
    assert not (tmp_path / "r").exists()


def test_an_unknown_backend_is_one_line_with_the_known_ones(bench, tmp_path):
    """Backends are named after their modules."""
    code, out, err = bench("plan", "--backend", "fakes", "--results", tmp_path / "r")
    assert (code, out, err) == (2, "", f"bench: no backend 'fakes'; one of: {', '.join(backend_names())}\n")


def test_an_unknown_model_is_told_the_nearest_names(bench, tmp_path):
    """A typo is answered with what may have been meant."""
    code, out, err = bench("run", "--model", "smollm2-135m-instrukt", "--results", tmp_path / "r")
    assert (code, out) == (2, "")
    assert err.startswith("bench: no model 'smollm2-135m-instrukt' in the catalogue; nearest: smollm2-135m-instruct")
    assert err.count("\n") == 1


@pytest.mark.parametrize("options", [["--suite", "speed"], ["--scheme", "q4"], ["--profile", "huge"]])
def test_a_wrong_name_is_refused_even_if_nothing_can_be_measured(bench, own_catalog, tmp_path, options):
    """A mistake in one option is not hidden by a model that can never run."""
    folders = ["--catalog", own_catalog, "--results", tmp_path / "r"]
    assert bench("plan", "--backend", "fake", "--model", "closed", *options, *folders)[0] == 2


def test_a_folder_that_is_no_model_is_one_line(bench, tmp_path):
    """Local weights need a config.json."""
    code, _, err = bench("plan", "--weights", f"local={tmp_path}", "--results", tmp_path / "r")
    assert code == 2
    assert err.startswith(f"bench: {tmp_path} is no model folder")
    assert err.count("\n") == 1


def test_a_place_given_as_a_name_is_one_line_with_the_command_that_works(bench, tmp_path):
    """`--model ./folder` is what a newcomer types first."""
    (tmp_path / "config.json").write_text("{}")
    code, _, err = bench("run", "--model", tmp_path, "--results", tmp_path / "r")
    said = f"bench: --model takes names, and {tmp_path} is a place on this machine; "
    assert (code, err) == (2, f"{said}bench run --weights local={tmp_path}\n")
    assert not (tmp_path / "r").exists()


def test_a_device_that_is_not_there_is_refused(bench, tmp_path, monkeypatch):
    """Without an NVIDIA GPU nothing can be measured on one, and no record may say so."""
    monkeypatch.setattr(machine, "gpu", lambda: None)
    chosen = ["--backend", "fake", "--suite", "memory", "--precision", "fp16", "--device", "cuda"]
    assert bench("run", *chosen, "--results", tmp_path / "r")[0] == 2


def test_a_missing_engine_is_told_with_its_install_command(bench, tmp_path, monkeypatch):
    """A backend whose packages are lacking is refused before anything is written."""
    lacking = replace(fake.BACKEND, requires=("numpy", "no-such-engine"), install="pip install no-such-engine")
    monkeypatch.setattr(fake, "BACKEND", lacking)
    code, out, err = bench(*RUN, "--results", tmp_path / "r")
    assert (code, out) == (2, "")
    assert err == "bench: backend fake lacks no-such-engine; pip install no-such-engine\n"
    assert not (tmp_path / "r").exists()


def test_a_scheme_of_another_environment_is_told_with_that_environment(bench, tmp_path, monkeypatch):
    """Packages that a scheme needs beyond its backend are missed before anything is written; others run on."""
    apart = {"fake-fp16": ("numpy", "no-such-kernel"), "fake-int4": ("numpy",)}
    lacking = replace(fake.BACKEND, scheme_requires=apart, scheme_install=dict.fromkeys(apart, "`nox -s bench-apart`"))
    monkeypatch.setattr(fake, "BACKEND", lacking)
    code, out, err = bench(*RUN, "--precision", "fp16,int4", "--results", tmp_path / "r")
    assert (code, out, err) == (2, "", "bench: scheme fake-fp16 lacks no-such-kernel; `nox -s bench-apart`\n")
    assert not (tmp_path / "r").exists()
    assert bench(*RUN, "--precision", "int4", "--suite", "memory", "--results", tmp_path / "r")[0] == 0


@pytest.mark.parametrize("line", [7, 100, 1234])
def test_a_malformed_catalogue_names_file_line_and_field(bench, own_catalog, line):
    """The complaint stands at the line of the wrong field, whatever its number."""
    text = "family: test\norganisation: Tests\nmodels:\n  - name: bad\n    display: Bad\n" + "#\n" * (line - 6)
    (own_catalog / "bad.yaml").write_text(text + "    kind: secret\n")
    code, out, err = bench("catalog", "--catalog", own_catalog)
    assert (code, out) == (2, "")
    assert err.startswith(f"bench: {own_catalog}/bad.yaml:{line}: entry 'bad' field 'kind': Input should be")
    assert err.count("\n") == 1


def test_no_catalogue_is_one_line(bench, tmp_path):
    """An empty folder is no catalogue."""
    code, _, err = bench("catalog", "--catalog", tmp_path)
    assert (code, err) == (2, f"bench: no catalogue in {tmp_path}; pass --catalog FOLDER, or run from a checkout\n")


def test_a_file_where_results_should_be_is_one_line(bench, tmp_path):
    """A results folder that cannot be made is refused before anything is measured."""
    path = tmp_path / "results"
    path.write_text("a file")
    code, _, err = bench(*RUN, "--suite", "memory", "--results", path)
    assert code == 2
    assert err == (f"bench: cannot write results to {path}: File exists; make it writable, or pass --results FOLDER\n")
    assert path.read_text() == "a file"


@pytest.fixture
def small_disk(tmp_path, request):
    """A file system of 72 KiB, or as asked: room for the check that 64 can be written, but not for a whole run."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount, unmount = shutil.which("mount"), shutil.which("umount")
    if not mount or not unmount:
        pytest.skip("needs mount")
    made = subprocess.run(
        [mount, "-t", "tmpfs", "-o", f"size={getattr(request, 'param', 72)}k", "tmpfs", folder],
        check=False,
        capture_output=True,
    )
    if made.returncode:
        pytest.skip("needs the right to mount a file system")
    yield folder
    subprocess.run([unmount, folder], check=True)


@pytest.mark.parametrize("small_disk", [64 * 1024 + 72], indirect=True)  # KiB: a run leaves 64 MiB alone
def test_a_disk_that_fills_up_is_one_line_and_leaves_whole_records(bench, small_disk):
    """Records that were finished stay whole, none is cut short, and the rest is measured when there is room."""
    chosen = ["--suite", "memory,divergence", "--profile", "standard"]  # about 40 KiB for each divergence
    code, _, err = bench(*RUN, *chosen, "--results", small_disk)
    assert code == 2
    assert re.fullmatch(
        rf"bench: the disk of results \({small_disk}\) has 6[34][.]\d MiB left, and 64.0 MiB must be; "
        "free space; every finished record is kept, and the same command goes on from here\n",
        unlogged(err),
    )
    store = Store(small_disk)
    assert 0 < len(list(store.records())) < 8
    assert store.unreadable == []
    assert [path for path in small_disk.glob("*/**/.*") if ".runs" not in path.parts] == []


def test_a_full_disk_is_found_before_anything_is_measured(bench, small_disk):
    """With less than 64 KiB of room nothing is begun."""
    (small_disk / "ballast").write_bytes(b"0" * 16_384)
    code, _, err = bench(*RUN, "--results", small_disk)
    assert code == 2
    assert unlogged(err) == f"bench: cannot write results to {small_disk}: No space left on device; free space on it\n"
    assert sorted(path.name for path in small_disk.iterdir()) == ["ballast"]


def test_typers_own_complaints_have_no_traceback():
    """An option that does not exist is the user's mistake too."""
    done = piped("run", "--no-such-option")
    assert done.returncode == 2
    assert "No such option" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_error_of_ours_keeps_its_traceback(bench, monkeypatch):
    """What is not the user's mistake is not made to look like one."""

    def broken(folder):
        raise RuntimeError("a bug")

    monkeypatch.setattr(entries, "read_catalog", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        bench("catalog")


@pytest.mark.parametrize("arguments", [["catalog", "--format", "json"], ["catalog"]])
def test_a_reader_that_goes_away_causes_no_traceback(arguments):
    """`bench catalog | head -1` ends quietly."""
    process = subprocess.Popen(
        [sys.executable, "-m", "bench", *arguments],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    process.wait()


# plan and catalog: what could be.


def test_plan_says_what_would_run_in_flat_rows(bench, tmp_path):
    """JSON rows have the documented keys, in order of running: the reference first."""
    chosen = ["--backend", "fake", "--precision", "int4,fp16", "--suite", "memory,divergence", "--profile", "smoke"]
    code, out, err = bench("plan", *chosen, "--device", "cpu", "--format", "json", "--results", tmp_path / "r")
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert list(rows[0]) == [
        "model", "precision", "scheme", "suite", "weights", "way", "predicted_weights_bytes", "predicted_peak_bytes",
        "predicted_baseline_bytes", "predicted_s", "budget_s", "why", "left_out",
    ]  # fmt: skip
    assert [(row["precision"], row["suite"], row["why"]) for row in rows] == [
        ("fp16", "memory", None), ("fp16", "divergence", None), ("int4", "memory", None), ("int4", "divergence", None),
    ]  # fmt: skip
    assert rows[0]["predicted_weights_bytes"] == 2 * 134_515_008
    assert not (tmp_path / "r").exists()


def test_plan_adds_the_reference_and_says_why(bench, tmp_path):
    """Int4's divergence needs fp16's: the plan shows the added cell as such."""
    chosen = ["--backend", "fake", "--precision", "int4", "--suite", "divergence", "--device", "cpu"]
    rows = json.loads(bench("plan", *chosen, "--format", "json", "--results", tmp_path / "r")[1])
    assert [(row["precision"], row["why"]) for row in rows] == [("fp16", "reference"), ("int4", None)]
    assert "divergence (reference)" in bench("plan", *chosen, "--results", tmp_path / "r")[1]


def test_plan_says_what_is_left_out_and_why(bench, own_catalog, tmp_path):
    """A model that can never be measured is named with its reason, in text and in JSON."""
    chosen = ["--backend", "fake", "--model", "tiny,closed", "--suite", "memory", "--precision", "fp16,int4"]
    folders = ["--catalog", own_catalog, "--results", tmp_path / "r"]
    _, out, _ = bench("plan", *chosen, "--device", "cpu", *folders)
    assert "left out: closed *: api only\n2 cells, about" in out
    rows = json.loads(bench("plan", *chosen, "--device", "cpu", *folders, "--format", "json")[1])
    assert [(row["model"], row["left_out"]) for row in rows] == [
        ("tiny", None), ("tiny", None), ("closed", "api only"),
    ]  # fmt: skip


def test_plan_writes_csv(bench, tmp_path):
    """The same rows as JSON, empty where null."""
    chosen = ["plan", "--backend", "fake", "--precision", "fp16", "--suite", "memory", "--device", "cpu"]
    (row,) = csv.DictReader(io.StringIO(bench(*chosen, "--format", "csv", "--results", tmp_path / "r")[1]))
    assert (row["scheme"], row["suite"], row["why"], row["left_out"]) == ("fake-fp16", "memory", "", "")


def test_a_plan_for_nothing_says_so(bench, own_catalog, tmp_path):
    """Nothing that can run is no error."""
    folders = ["--catalog", own_catalog, "--results", tmp_path / "r"]
    code, out, _ = bench("plan", "--backend", "fake", "--model", "closed", *folders)
    assert (code, out) == (0, "left out: closed *: api only\nnothing to run\n")


def test_the_catalogue_lists_every_entry_with_its_repository_or_reason(bench, own_catalog):
    """JSON has one row for each entry."""
    code, out, _ = bench("catalog", "--catalog", own_catalog, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    expected = [
        {
            "name": "tiny", "organisation": "Tests", "kind": "open weights", "parameters": 2_000_000, "base": None,
            "repo": "tests/tiny", "not_measurable": None,
        },
        {
            "name": "closed", "organisation": "Tests", "kind": "api only", "parameters": None, "base": None,
            "repo": None, "not_measurable": "api only",
        },
    ]  # fmt: skip
    assert [{name: row[name] for name in expected[0]} for row in rows] == expected


def test_the_catalogue_reads_as_a_table(bench, own_catalog):
    """Text and Markdown show parameters in millions, needs by precision, and a reason instead of figures."""
    _, text, _ = bench("catalog", "--catalog", own_catalog)
    assert [line.split() for line in text.splitlines() if "tiny" in line] == [
        ["tiny", "open", "weights", "2", "M", "unknown", "unknown", "unknown"]
    ]
    _, markdown, _ = bench("catalog", "--catalog", own_catalog, "--format", "md")
    assert "| tiny | open weights | 2 M | unknown | unknown | unknown |  |" in markdown
    assert "| closed | api only |  | - | - | - | api only |" in markdown


def test_the_catalogue_is_chosen_by_glob(bench, own_catalog):
    """--model takes globs, as everywhere."""
    out = bench("catalog", "--catalog", own_catalog, "--model", "t*", "--format", "csv")[1]
    assert [row["name"] for row in csv.DictReader(io.StringIO(out))] == ["tiny"]


@pytest.mark.parametrize("kind", ["json", "csv", "md"])
def test_data_is_written_as_it_is(bench, own_catalog, kind):
    """No text between colons becomes a picture, no bracket a colour."""
    told = FAMILY.replace("kind: api only", 'kind: api only\n    reason: "[red] :rocket: [/] 100"')
    (own_catalog / "test.yaml").write_text(told)
    assert "[red] :rocket: [/] 100" in bench("catalog", "--catalog", own_catalog, "--format", kind)[1]


# show and compare: what is.


@pytest.mark.parametrize("view", [*VIEWS, "all"])
def test_show_has_every_view(bench, results, view):
    """Each view of --columns has its titles and one row for each precision."""
    code, out, err = bench("show", "--columns", view, "--format", "md", "--results", results)
    assert (code, err) == (0, "")
    header = out.splitlines()[2]
    names = COLUMNS if view == "all" else VIEWS[view]
    assert header.count("|") == len(names) + 4
    rows = [line for line in out.splitlines() if line.startswith("| tiny")]
    assert [row.split(" | ")[1] for row in rows] == ["fp16", "int8", "int4"]


def test_show_prints_figures_and_reasons(bench, results):
    """A cell without a figure says why, with a footnote where the reason is long."""
    out = bench("show", "--columns", "memory", "--format", "md", "--results", results)[1]
    rows = [line.split(" | ") for line in out.splitlines() if line.startswith("| tiny")]
    assert rows[0][3] == "500 B"
    shown, mark = rows[1][3].rsplit(" ", 1)
    assert shown == "does not fit"
    assert f"{mark} does not fit: out of memory in load" in out
    assert rows[2][3] == "200 B"


def test_show_as_a_table_is_for_people(bench, results):
    """The default format names the device, the figures and the definitions."""
    code, out, _ = bench("show", "--results", results)
    assert code == 0
    assert out.startswith("\ncpu-test\n")
    assert "prefill: prompt tokens / s to the first logits" in out
    assert "does not fit" in out


def test_show_writes_flat_json(bench, results):
    """Every row has the identity and all figures, null where there is none, in base units."""
    code, out, err = bench("show", "--format", "json", "--results", results)
    rows = json.loads(out)
    assert (code, err, len(rows)) == (0, "", 9)
    assert list(rows[0])[: len(IDENTITY) + len(FIGURES)] == [*IDENTITY, *FIGURES]
    assert all(set(row) == set(rows[0]) for row in rows)
    memory = {row["precision"]: row for row in rows if row["suite"] == "memory"}
    assert memory["int4"]["weights_bytes"] == 200
    assert memory["int4"]["peak_bytes"] == 200 + 30 + 40 + 70
    assert memory["int4"]["acc"] is None
    assert (memory["int8"]["outcome"], memory["int8"]["reason"]) == ("does_not_fit", "out of memory in load")


def test_show_writes_flat_csv(bench, results):
    """CSV has the same rows and columns as JSON."""
    flat = json.loads(bench("show", "--format", "json", "--results", results)[1])
    rows = list(csv.DictReader(io.StringIO(bench("show", "--format", "csv", "--results", results)[1])))
    assert list(rows[0]) == list(flat[0])
    assert [row["weights_bytes"] for row in rows] == [
        "" if row["weights_bytes"] is None else str(row["weights_bytes"]) for row in flat
    ]


def test_show_is_narrowed_by_the_selection(bench, results):
    """--precision, --suite, --model, --scheme, --backend and --device narrow what is shown."""

    def shown(*options):
        rows = json.loads(bench("show", "--format", "json", "--results", results, *options)[1])
        return {(row["precision"], row["suite"]) for row in rows}

    assert shown("--precision", "int4", "--suite", "memory,quality") == {("int4", "memory"), ("int4", "quality")}
    assert shown("--scheme", "fake-int8") == {("int8", "memory")}
    assert shown("--model", "t*", "--backend", "fake", "--device", "cpu-*", "--precision", "int8") == {
        ("int8", "memory")
    }
    assert shown("--model", "other") == shown("--backend", "other") == shown("--device", "cuda-*") == set()


def test_unknown_columns_are_refused(bench, results):
    """The views there are stand in the complaint."""
    code, _, err = bench("show", "--columns", "size", "--results", results)
    known = "default, memory, counters, speed, energy, quality, served, predicted, tasks, points, capacity, roof, all"
    assert (code, err) == (2, f"bench: no columns 'size'; one of: {known}\n")


def test_nothing_to_show_says_how_to_get_some(bench, tmp_path):
    """An empty results folder is no error."""
    code, out, _ = bench("show", "--results", tmp_path / "none")
    assert (code, out) == (0, "no records match; `bench run` makes some\n")
    assert json.loads(bench("show", "--format", "json", "--results", tmp_path / "none")[1]) == []


def break_record(results, text=None):
    """Make one int8 record unreadable; returns its path."""
    (path,) = results.glob("*/*/fake-fake-int8/*/*.json")
    whole = path.read_text()
    path.write_text(whole.replace('"seconds": 1.5', '"seconds": "soon"') if text is None else text)
    return path


@pytest.mark.parametrize("command", ["show", "compare"])
def test_a_malformed_record_is_named_and_the_rest_is_shown(bench, results, command):
    """File, line and field on one line of stderr; the other rows as ever; exit code 1."""
    path = break_record(results)
    line = path.read_text().splitlines().index(' "seconds": "soon",') + 1
    code, out, err = bench(command, "--format", "md", "--results", results)
    assert code == 1
    assert "fake-int4" in out
    assert err.startswith(f"left unread: {path}:{line}: ")
    assert "field 'seconds'" in err
    assert err.count("\n") == 1


def test_a_record_that_is_no_json_is_named_with_its_line(bench, results):
    """A file cut short is found, named and survived."""
    path = break_record(results, '{\n "id": "00')
    code, out, err = bench("show", "--results", results)
    assert code == 1
    assert "tiny" in out
    assert err.startswith(f"left unread: {path}:2: not JSON")
    assert err.count("\n") == 1


def test_compare_sets_each_precision_against_its_own_16_bit_row(bench, results):
    """Ratios of this to the reference, and each task's flips and verdict, flat."""
    code, out, err = bench("compare", "--format", "json", "--results", results)
    assert (code, err) == (0, "")
    rows = [row for row in json.loads(out) if row["precision"] == "int4"]
    assert [row["task"] for row in rows] == [None, "task"]
    assert rows[0]["reference"] == "fake-fp16"
    assert rows[0]["weights_bytes_ratio"] == 0.4
    assert rows[0]["decode_tokens_per_s_ratio"] == pytest.approx(2)
    assert rows[0]["kld_mean"] == pytest.approx(0.3)
    assert (rows[1]["lost"], rows[1]["gained"], rows[1]["mcnemar_p"]) == (0, 0, 1)


def test_compare_reads_as_tables(bench, results):
    """Text and Markdown hold both tables: what it costs and what it answers differently."""
    for kind in ("table", "md"):
        out = bench("compare", "--format", kind, "--results", results)[1]
        assert "0.40x" in out
        assert "Holm p" not in out
        assert "Holm p" in bench("compare", "--details", "--format", kind, "--results", results)[1]


def test_compare_keeps_the_reference_whatever_is_chosen(bench, results):
    """Choosing one precision or one scheme chooses what is compared, never what it is compared with."""
    by_precision = bench("compare", "--precision", "int4", "--format", "json", "--results", results)[1]
    by_scheme = bench("compare", "--scheme", "fake-int4", "--format", "json", "--results", results)[1]
    assert {row["precision"] for row in json.loads(by_precision)} == {"int4"}
    assert json.loads(by_scheme) == json.loads(by_precision)


def test_a_row_without_a_reference_is_named(bench, tmp_path):
    """What cannot be compared is said, not dropped."""
    store = Store(tmp_path / "results")
    store.write(make_record(make_cell("memory", "int4"), measurements=memory_samples()))
    out = bench("compare", "--results", store.root)[1]
    assert out == "tiny int4 (fake, cpu-test): no fp16 row to compare with\n"


# publish


def test_publish_is_idempotent_and_check_agrees(bench, own_catalog, results):
    """The first call updates, the second changes nothing, --check is 0; a new record makes it stale."""
    folders = ["--catalog", own_catalog, "--results", results]
    path = own_catalog / "README.md"
    assert bench("publish", "--check", *folders)[0] == 1
    assert path.read_text() == README
    code, said, _ = bench("publish", *folders)
    assert (code, said.splitlines()[0]) == (0, f"{path} updated")
    text = path.read_text()
    current = f"{path} is up to date\n{results} is up to date\n"
    assert bench("publish", *folders)[:2] == (0, current)
    assert path.read_text() == text
    assert bench("publish", "--check", *folders)[:2] == (0, current)
    store = Store(results)
    store.write(make_record(make_cell("memory", "fp32"), measurements=memory_samples(weights=999)))
    assert bench("publish", "--check", *folders) == (1, "", f"{path} is stale: run `bench publish`\n")
    assert path.read_text() == text


def test_published_text_stands_between_the_markers(bench, own_catalog, results):
    """What people wrote stays; figures, ratios and the annotated entries stand in their blocks."""
    bench("publish", "--catalog", own_catalog, "--results", results)
    text = (own_catalog / "README.md").read_text()
    head, rest = text.split(marker("bases", "begin"))
    entries, rest = rest.split(marker("bases", "end"))
    measured = rest.split(marker("measured", "end"))[0]
    tail = rest.split(marker("claims", "end"))[1]
    assert (head, tail) == ("# Catalogue\n", "\nthe end\n")
    assert "| tiny (random weights) | fp16 | fake-fp16 | 500 B |" in measured
    assert "### Test CPU, cpu, 2 CPUs, 8 GiB" in measured
    assert "| Tiny (`tiny`) | 2 M |" in entries
    assert "| Closed (`closed`) |" in entries


def test_publish_without_markers_is_one_line(bench, own_catalog, results):
    """A README that lost its markers is not guessed at."""
    path = own_catalog / "README.md"
    path.write_text("# Catalogue\n")
    code, _, err = bench("publish", "--catalog", own_catalog, "--results", results)
    assert code == 2
    assert err.startswith(f"bench: {path} has no <!-- bench:bases:begin -->")
    assert path.read_text() == "# Catalogue\n"


def test_publish_names_a_record_that_it_leaves_out(bench, own_catalog, results):
    """The others are published, and the code says that not all are."""
    path = break_record(results)
    code, out, err = bench("publish", "--catalog", own_catalog, "--results", results)
    assert (code, out.splitlines()[0]) == (1, f"{own_catalog / 'README.md'} updated")
    assert err.startswith(f"left unread: {path}:")
    assert err.count("left unread") == 1
    assert "tiny" in (own_catalog / "README.md").read_text()


# cache.


def test_the_cache_tells_journals_of_cells_that_records_have_settled(bench, tmp_path):
    """The commands list and clear them by the records' own times: one last written before its cell was settled."""
    now = datetime.now(UTC)
    started = (now - timedelta(seconds=100)).strftime("%Y-%m-%dT%H:%M:%SZ")
    record = make_record(make_cell("quality", "fp16"), started=started, seconds=10)
    Store(tmp_path / "results").write(record)
    key, other = record.cell.key, "0123456789ab"
    for name, age_s in ((f"{key}-before", 200), (f"{key}-after", 50), (f"{other}-before", 200)):
        folder = tmp_path / "cache" / "journal" / name
        folder.mkdir(parents=True)
        os.utime(folder, (now.timestamp() - age_s,) * 2)
    code, out, err = bench("cache", "--results", tmp_path / "results")
    assert (code, err) == (0, "")
    assert "1 stale: --clear stale" in " ".join(out.split())
    assert bench("cache", "--clear", "stale", "--results", tmp_path / "results")[0] == 0
    left = {path.name for path in (tmp_path / "cache" / "journal").iterdir()}
    assert left == {f"{key}-after", f"{other}-before"}


# doctor, and the look of a run.


def test_doctor_says_what_this_machine_can_do(bench, tmp_path):
    """Every backend is mentioned as installed or with its install command, beside device, memory and cache."""
    code, out, err = bench("doctor")
    assert (code, err) == (0, "")
    for name in backend_names():
        (line,) = (line for line in out.splitlines() if line.startswith(f"backend {name} "))
        assert "installed (" in line or ": pip install" in line
    assert str(tmp_path / "cache") in out
    assert machine.describe(machine.device_kind()).device in out


@pytest.mark.parametrize(("others", "load", "told"), [(0.0, 99.0, False), (99.0, 0.0, True), (None, 99.0, True)])
def test_doctor_calls_a_machine_busy_by_the_rule_of_runs(bench, monkeypatch, others, load, told):
    """What others use decides; the load, which the last run left, only where they are hidden."""
    state = machine.condition().model_copy(update={"others_cpu": others, "load_1min": load})
    monkeypatch.setattr(machine, "condition", lambda: state)
    (line,) = (line for line in bench("doctor")[1].splitlines() if line.startswith("load "))
    assert ("(busy: close other programs before measuring)" in line) is told


def test_doctor_names_what_is_missing(bench, monkeypatch):
    """A backend without its packages is told with the command that installs them."""
    lacking = replace(fake.BACKEND, requires=("no-such-engine",), install='pip install -e ".[none]"')
    monkeypatch.setattr(fake, "BACKEND", lacking)
    assert 'missing no-such-engine: pip install -e ".[none]"' in bench("doctor")[1]


def test_a_piped_run_prints_a_dated_line_for_each_record_and_no_progress(tmp_path):
    """In a pipe stdout holds the tables and where the records are, stderr the log; with --quiet nothing at all."""
    chosen = ["--suite", "memory,divergence", "--precision", "fp16,int4", "--results", tmp_path / "r"]
    done = piped(*RUN, *chosen)
    assert done.returncode == 0
    cells = [(precision, suite) for precision in ("fp16", "int4") for suite in ("memory", "divergence")]
    lines = [
        rf"{STAMP} {count}/4 smollm2-135m-instruct {precision} \(fake fake-{precision}\) {suite}: ok \d\.\d s"
        for count, (precision, suite) in enumerate(cells, 1)
    ]
    assert re.fullmatch("\n".join(lines) + "\n", done.stderr)
    assert piped(*RUN, *chosen[:-1], tmp_path / "quiet", "--quiet").stderr == ""
    assert "17.2 MiB" in done.stdout
    assert "0.33x" in done.stdout
    assert done.stdout.endswith(f"records: {tmp_path / 'r'}\n")
    assert "\x1b" not in done.stdout


def test_a_failed_cell_is_one_line_and_exit_code_1(tmp_path):
    """Every unsettled cell is named once on stderr with its reason, unbroken however long."""
    chosen = ["--suite", "memory,throughput", "--precision", "fp16", "--results", tmp_path / "r"]
    done = piped(*RUN, *chosen, BENCH_FAKE_FAULT="error@prefill")
    assert done.returncode == 1
    head = "smollm2-135m-instruct fp16 (fake fake-fp16)"
    tail = "failed: RuntimeError: a fault that was asked for"
    assert unlogged(done.stderr).splitlines() == [f"{head} {suite}: {tail}" for suite in ("memory", "throughput")]


def test_a_failing_load_is_one_line_however_many_cells_it_settles(tmp_path):
    """In a pipe as with --quiet: the reason once, with the count."""
    chosen = ["--suite", "memory,throughput,divergence", "--precision", "fp16", "--results", tmp_path / "r", "--quiet"]
    done = piped(*RUN, *chosen, BENCH_FAKE_FAULT="error@load")
    assert done.returncode == 1
    head = "smollm2-135m-instruct fp16 (fake fake-fp16) 3 cells (memory, throughput, divergence)"
    assert done.stderr == f"{head}: failed: RuntimeError: a fault that was asked for\n"


def test_a_run_of_one_precision_does_not_deny_its_records(bench, tmp_path):
    """With nothing to compare, a run that just wrote a record does not say that none match."""
    chosen = ["--suite", "memory", "--precision", "fp16", "--results", tmp_path / "r"]
    code, out, _ = bench(*RUN, *chosen)
    assert code == 0
    assert "17.2 MiB" in out
    assert "no records match" not in out


def test_run_shows_its_own_device_only(bench, tmp_path):
    """Records merged from another box stay out of what a run prints."""
    store = Store(tmp_path / "r")
    cell = make_cell(model="smollm2-135m-instruct")
    store.write(make_record(cell, measurements=memory_samples(), machine=make_machine()))
    out = bench(*RUN, "--suite", "memory", "--precision", "fp16", "--results", store.root)[1]
    assert "17.2 MiB" in out
    assert "cpu-test" not in out


def test_run_can_publish_afterwards(bench, own_catalog, tmp_path):
    """--publish annotates the catalogue with what was just measured."""
    chosen = ["--model", "tiny", "--suite", "memory", "--precision", "fp16", "--publish"]
    code, out, _ = bench(*RUN, *chosen, "--catalog", own_catalog, "--results", tmp_path / "r")
    assert code == 0
    assert f"{own_catalog / 'README.md'} updated\n" in out
    assert "17.2 MiB" in (own_catalog / "README.md").read_text()


def test_a_run_that_could_not_publish_says_so_before_it_measures(bench, own_catalog, tmp_path):
    """Figures of a model that this results folder lacks would leave the page: one line, and no record is written."""
    larger = f"{TINY_FAMILY}    parameters: 3000000\n".replace("tiny", "larger").replace("family: test", "family: x")
    (own_catalog / "other.yaml").write_text(larger)
    chosen = ["--suite", "memory", "--precision", "fp16", "--publish", "--catalog", own_catalog]
    assert bench(*RUN, "--model", "tiny", *chosen, "--results", tmp_path / "r")[0] == 0
    page = (own_catalog / "README.md").read_text()
    code, out, err = bench(*RUN, "--model", "larger", *chosen, "--results", tmp_path / "other")
    assert (code, out) == (2, "")
    assert "publishing to" in err and "would drop the figures of tiny" in err and "leave --publish out" in err
    assert not list((tmp_path / "other").rglob("*.json"))
    assert (own_catalog / "README.md").read_text() == page
    assert bench(*RUN, "--model", "larger", *chosen, "--results", tmp_path / "r")[0] == 0


def test_what_was_left_out_is_said_before_a_run(bench, own_catalog, tmp_path):
    """A run over a selection that holds an unmeasurable model says so on one line and measures the rest."""
    chosen = ["--model", "tiny,closed", "--suite", "memory", "--precision", "fp16"]
    code, _, err = bench(*RUN, *chosen, "--catalog", own_catalog, "--results", tmp_path / "r")
    assert (code, unlogged(err)) == (0, "left out: closed *: api only\n")


def test_help_names_every_command(bench):
    """`bench --help` is the table of contents."""
    code, out, _ = bench("--help")
    assert code == 0
    for command in ("catalog", "claims", "plan", "run", "show", "compare", "publish", "doctor"):
        assert f"\n  {command} " in out
