# SPDX-License-Identifier: Apache-2.0
"""The catalogue as people meet it, and claims and limits from the command line to the record."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from builders import (
    CLOSED_ENTRY,
    TINY_FAMILY,
    called,
    failed,
    make_cell,
    make_machine,
    make_model,
    make_record,
    memory_samples,
)

from bench.catalog.entries import read_catalog
from bench.catalog.model import Kind
from bench.engines import fake, transformers
from bench.judge.rows import newest
from bench.plan.baseline import BASELINE_BYTES
from bench.plan.needs import HEADROOM, needs
from bench.records.cell import Precision
from bench.records.record import Ending
from bench.records.store import Store
from bench.run import memory_limit
from bench.views import overview

FAMILY = f"""\
{TINY_FAMILY}    data: a few words
    licence: ours
    architecture: {{model_type: llama, vocab_size: 100, hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 2,
      intermediate_size: 128}}
    parameters: 49_344
    sources: [computed]
    notes: [a trap]
    claims:
      - id: tiny-memory
        text: runs in 300 MB
        source: its README
        quantity: peak memory
        precision: fp16
        at_most: 300_000_000
        tokens: 64
      - id: tiny-huge
        text: runs in a million GB
        source: its README
        quantity: peak memory
        precision: fp16
        at_most: 1_000_000_000_000_000
{CLOSED_ENTRY}"""


@pytest.fixture
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Options that name a catalogue of two entries and an empty results folder."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "test.yaml").write_text(FAMILY)
    return ["--catalog", str(folder), "--results", str(tmp_path / "results"), "--device", "cpu"]


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run a command in this process; returns exit code, stdout and stderr."""
    return lambda *arguments: called(capsys, *arguments)


def test_a_need_is_predicted_and_held_against_what_is_free() -> None:
    """Too large by one byte more than the headroom leaves; unknown memory decides nothing."""
    entry = make_model()
    found = needs(entry, transformers.BACKEND, make_machine(), 0)
    peak = found[Precision.FP16].peak_bytes
    assert peak is not None
    peak += BASELINE_BYTES["cpu"]["transformers"]
    assert found[Precision.FP16].fits is None
    room = round(peak / HEADROOM)
    assert needs(entry, transformers.BACKEND, make_machine(), room + 1)[Precision.FP16].fits is True
    tight = needs(entry, transformers.BACKEND, make_machine(), room - 2)[Precision.FP16]
    assert tight.fits is False
    assert overview.peak(tight).endswith(" too large")


def test_what_nobody_can_predict_is_unknown() -> None:
    """An entry without an architecture, and a device without kernels."""
    unknown = needs(make_model(architecture=None), fake.BACKEND, make_machine(), 1)[Precision.INT4]
    assert (overview.peak(unknown), unknown.fits) == ("unknown", None)
    nowhere = needs(make_model(), fake.BACKEND, make_machine(kind="abacus"), 1)[Precision.INT4]
    assert overview.peak(nowhere) == "no kernel"


def test_what_was_measured_is_named_with_its_limit_and_weights() -> None:
    """Only what gave figures; the device where there are several."""
    records = [
        make_record(make_cell(precision="fp16"), measurements=memory_samples()),
        make_record(make_cell(precision="int4", weights="package"), measurements=memory_samples()),
        failed(make_cell(precision="int8"), Ending.DOES_NOT_FIT),
    ]
    assert overview.measured(newest(records)) == {"tiny": "int4, fp16 (random weights)"}
    settings = make_cell().settings | {"memory_limit_bytes": 2**30}
    other = make_record(make_cell(device="other", settings=settings), measurements=memory_samples())
    words = overview.measured(newest([*records[:1], other]))["tiny"]
    assert words == "fp16 (random weights) on cpu-test, fp16 (limit 1 GiB) (random weights) on other"


def test_an_entry_that_is_never_measured_needs_nothing() -> None:
    """Its reason stands where the figures would be."""
    closed = make_model(kind=Kind.API, repo=None)
    needed = needs(closed, fake.BACKEND, make_machine(), 10**12)
    assert overview.listing([closed], {"tiny": needed}, {}).rows == [
        ["tiny", "api only", "", "-", "-", "-", "api only"]
    ]
    assert not any(label.startswith("needs in") for label, _ in overview.entry(closed, needed))


def test_the_whole_catalogue_is_listed_in_good_time(bench: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    """Every entry once, with its needs at each precision, in seconds on any machine: nothing is loaded."""
    start = time.monotonic()
    code, out, err = bench("catalog", "--device", "cpu", "--results", str(tmp_path), "--format", "json")
    assert time.monotonic() - start < 10
    rows = json.loads(out)
    assert (code, err) == (0, "")
    assert [row["name"] for row in rows] == [model.name for model in read_catalog()]
    llama = next(row for row in rows if row["name"] == "llama-7b")
    assert llama["predicted_peak_fp16_bytes"] > 2 * llama["parameters"]
    assert llama["fits_fp32"] in {True, False}


def test_one_entry_is_shown_in_full(bench: Callable[..., tuple[int, str, str]], folders: list[str]) -> None:
    """By position or by --model: facts, needs, notes, sources, claims and measured figures."""
    store = Store(Path(folders[3]))
    store.write(make_record(make_cell("memory"), measurements=memory_samples()))
    code, out, _ = bench("catalog", "tiny", *folders)
    assert code == 0
    for words in ("Tiny (tiny)", "a few words", "needs in int4", "a trap", "computed", "tiny-memory", "fake-fp16"):
        assert words in out
    assert bench("catalog", "--model", "tiny", *folders)[1] == out
    both = bench("catalog", *folders)[1]
    assert "api only" in both
    assert "a trap" not in both
    assert bench("catalog", "tinny", *folders)[2].endswith("nearest: tiny\n")


def test_claims_are_printed_in_every_format(bench: Callable[..., tuple[int, str, str]], folders: list[str]) -> None:
    """The table counts the verdicts; flat rows have base units."""
    code, out, _ = bench("claims", *folders)
    assert code == 0
    assert out.endswith("2 claims: holds 0, fails 0, computed only 2, untested 0, not testable 0\n")
    rows = json.loads(bench("claims", *folders, "--format", "json")[1])
    assert [(row["id"], row["verdict"], row["at_most"]) for row in rows] == [
        ("tiny-memory", "computed only", 300_000_000),
        ("tiny-huge", "computed only", 10**15),
    ]
    assert bench("claims", *folders, "--format", "csv")[1].startswith("id,model,claim,source,")
    assert "| tiny-memory | tiny |" in bench("claims", *folders, "--format", "md")[1]
    assert "make none" in bench("claims", "--model", "closed", *folders)[1]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory")
def test_open_claims_are_run_under_their_own_budgets(
    bench: Callable[..., tuple[int, str, str]], folders: list[str]
) -> None:
    """The cell carries the claim's context and budget, the record the mechanism; what is too large here is said."""
    code, _, err = bench("claims", "--run", "--backend", "fake", "--quiet", *folders)
    assert code == 0
    assert "left out: tiny-huge: " in err
    (record,) = Store(Path(folders[3])).records()
    assert record.outcome.ending is Ending.OK
    assert (record.cell.profile, record.cell.suite) == ("tokens-64", "memory")
    assert record.cell.settings == {"prompt_tokens": 32, "decode_tokens": 32, "memory_limit_bytes": 300_000_000}
    assert record.memory_limit is not None
    assert record.memory_limit.bytes == 300_000_000
    assert record.memory_limit.enforced_by in {"cgroup v1", "cgroup v2", "systemd scope", "RLIMIT_DATA"}


RUN = ["run", "--backend", "fake", "--model", "tiny", "--profile", "smoke", "--quiet", "--fresh"]


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory")
def test_a_worker_that_outgrows_its_limit_does_not_fit(
    bench: Callable[..., tuple[int, str, str]], folders: list[str]
) -> None:
    """Whatever mechanism stops a worker, every cell of that load is answered, and the limit is named."""
    with memory_limit.confined(2**20, "cpu") as confinement:
        assert confinement is not None
        if not confinement.enforced_by.startswith("cgroup"):
            pytest.skip("only a cgroup is sure to stop a Python that small")
    options = ["--suite", "memory,throughput", "--precision", "fp16", "--force", *folders]
    code, _, err = bench(*RUN, *options, "--memory-limit", "4MiB")
    assert (code, err) == (0, "")
    records = list(Store(Path(folders[3])).records())
    assert {record.cell.suite for record in records} == {"memory", "throughput"}
    for record in records:
        assert record.outcome.ending is Ending.DOES_NOT_FIT
        assert record.outcome.reason.startswith("needs more than its limit of 4 MiB (cgroup v")
        assert record.memory_limit is not None
        assert record.memory_limit.bytes == 4 * 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory")
def test_a_limited_row_stands_beside_the_ordinary_one(
    bench: Callable[..., tuple[int, str, str]], folders: list[str]
) -> None:
    """It answers another question, so it neither replaces the ordinary row nor is compared with it."""
    options = ["--suite", "memory", "--precision", "fp16", *folders]
    assert bench(*RUN, *options)[0] == 0
    code, out, _ = bench(*RUN, *options, "--memory-limit", "500MB")
    assert code == 0
    assert "tiny (limit 500 MB) (random weights)" in out
    records = list(Store(Path(folders[3])).records())
    assert sorted(record.cell.memory_limit_bytes or 0 for record in records) == [0, 500_000_000]
    assert len({record.cell.key for record in records}) == 2
    assert records[0].cell.unlimited.key == records[1].cell.unlimited.key


def test_the_divergence_of_a_limited_cell_is_that_of_the_same_reference(
    bench: Callable[..., tuple[int, str, str]], folders: list[str]
) -> None:
    """A limit changes no distribution: the limited reference serves the others, and is not measured twice."""
    rows = json.loads(
        bench(
            "plan", "--backend", "fake", "--model", "tiny", "--suite", "divergence", "--precision", "fp16,int4",
            "--memory-limit", "500MB", "--format", "json", *folders,
        )[1]
    )  # fmt: skip
    assert [(row["precision"], row["why"]) for row in rows] == [("fp16", None), ("int4", None)]


@pytest.mark.parametrize(
    ("limit", "words"),
    [
        ("banana", "bench: no amount of memory: 'banana'; write 12GB, 12GiB, 512M or a number of bytes\n"),
        ("1000TB", "bench: a memory limit of 1000 TB is more than the "),
    ],
)
def test_a_limit_that_is_none_is_one_line(
    bench: Callable[..., tuple[int, str, str]], folders: list[str], limit: str, words: str
) -> None:
    """Before anything is planned or run."""
    code, out, err = bench(*RUN, *folders, "--memory-limit", limit)
    assert (code, out) == (2, "")
    assert err.startswith(words)
    assert err.count("\n") == 1


def test_a_limit_around_a_client_says_nothing_of_its_server(
    bench: Callable[..., tuple[int, str, str]], folders: list[str]
) -> None:
    """Refused in one line."""
    api = ["run", "--backend", "api", "--api-url", "http://localhost:1/v1", "--model", "x", *folders]
    code, out, err = bench(*api, "--memory-limit", "1GB")
    assert (code, out) == (2, "")
    assert err == "bench: a memory limit cannot hold a server; leave --memory-limit out for backend api\n"


def test_a_revision_is_shown_or_plainly_not_pinned() -> None:
    """Beside every repository; an entry without one has none to pin."""
    unpinned, pinned = dict(overview.entry(make_model(), {})), dict(overview.entry(make_model(revision="v1"), {}))
    assert (unpinned["repository"], pinned["repository"]) == ("tests/tiny", "tests/tiny")
    assert (
        unpinned["revision"] == "not pinned: the default branch as it stands; records keep the commit that was loaded"
    )
    assert pinned["revision"] == "v1"
    assert "revision" not in dict(overview.entry(make_model(repo=None), {}))
    assert overview.flat(make_model(revision="v1"), {}, None)["revision"] == "v1"
