# SPDX-License-Identifier: Apache-2.0
"""Streams, folders and numbers as they may be: what was measured is kept, and one line says what could not be done."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from builders import called, make_record

from bench.cli import guarded
from bench.cli.streams import Mended, check_names, of_the_disk
from bench.errors import UserError
from bench.paths import ROOT, cache_folder
from bench.records.record import Ending, Outcome
from bench.records.store import Store
from bench.run.memory_limit import parse_bytes
from bench.units import parse_seconds, slug

RUN = ("run", "--backend", "fake", "--device", "cpu", "--profile", "smoke", "--suite", "memory", "--precision", "fp16")


def bench(shell: str, *arguments: object, cwd: Path = ROOT, **environment: str) -> subprocess.CompletedProcess[str]:
    """`bench` with its streams as a shell gives them."""
    command = " ".join([sys.executable, "-m", "bench", *(f"'{argument}'" for argument in arguments), shell])
    return subprocess.run(
        ["/bin/sh", "-c", command], cwd=cwd, env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, check=False,
        capture_output=True, text=True,
    )  # fmt: skip


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize(
    ("shell", "said"),
    [
        (">&-", "bench: stdout: Bad file descriptor; every finished record is kept: `bench show`\n"),
        (">/dev/full", "bench: stdout: No space left on device; every finished record is kept: `bench show`\n"),
        ("| head -c 1 >/dev/null; sleep 1", ""),
    ],
    ids=["closed", "full", "gone"],
)
def test_what_stdout_does_not_take_ends_nothing_else(shell: str, said: str, tmp_path: Path) -> None:
    """The record is there, the catalogue is annotated, and neither holds what should have been printed."""
    catalog = tmp_path / "catalog"
    catalog.mkdir()
    for path in (ROOT / "catalog").iterdir():
        (catalog / path.name).write_bytes(path.read_bytes())
    before = re.sub(r"(:begin -->\n).*?(<!-- bench:)", r"\1\2", (catalog / "README.md").read_text(), flags=re.DOTALL)
    (catalog / "README.md").write_text(before)  # the markers, and no figures of others between them
    folders = ("--results", tmp_path / "results", "--catalog", catalog, "--quiet", "--publish")
    done = bench(shell, *RUN, *folders, BENCH_CACHE=str(tmp_path / "cache"))
    assert done.stderr == said
    assert done.returncode == (1 if said else 0)  # of a pipe the shell tells the last command's
    (record,) = Store(tmp_path / "results").records()
    assert record.outcome.ending == "ok"
    assert (catalog / "README.md").read_text() != before


def test_a_stdout_of_ascii_takes_everything(tmp_path: Path) -> None:
    """What it has no letter for is an escape, and the command ends well."""
    store = Store(tmp_path)
    store.write(make_record(outcome=Outcome(ending=Ending.FAILED, reason="naïve ± 中文")))
    done = bench("", "show", "--results", tmp_path, PYTHONIOENCODING="ascii", BENCH_CACHE=str(tmp_path / "cache"))
    assert (done.returncode, done.stderr) == (0, "")
    assert r"na\xefve \xb1 \u4e2d\u6587" in done.stdout


def test_what_follows_a_failure_to_write_goes_nowhere() -> None:
    """It is remembered, and told once at the end."""

    class Full:
        encoding, calls = "utf-8", 0

        def write(self, text: str) -> int:
            self.calls += 1
            raise OSError(errno.ENOSPC, "full")

    stream = Full()
    made = Mended(stream)  # type: ignore[arg-type] # as much of a stream as is used
    assert [made.write("one"), made.write("three")] == [3, 5]
    assert stream.calls == 1 and made.failure is not None and made.failure.errno == errno.ENOSPC


def test_a_name_that_is_no_utf8_is_one_line(tmp_path: Path) -> None:
    """In an argument or as the folder that one stands in, before anything is read."""
    odd = os.fsdecode(b"r\xe9sultats")
    with pytest.raises(UserError, match=r"an argument is not UTF-8: \./r\\udce9sultats; rename the file or folder"):
        check_names(["show", "--results", f"./{odd}"], Path("/tmp"))  # noqa: S108 - a name alone
    folder = tmp_path / odd
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such name")
    done = bench("", "show", cwd=folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("bench: the working folder's name is not UTF-8: ")


@pytest.mark.parametrize(
    "number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENAMETOOLONG, errno.ENOTDIR]
)
def test_what_a_disk_says_is_one_line(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Anywhere in a command; an error of ours keeps its traceback."""

    def fail() -> None:
        raise OSError(number, os.strerror(number), "/some/where")

    assert guarded(fail) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"bench: {os.strerror(number)}: /some/where; ") and said.count("\n") == 1
    assert of_the_disk(OSError(errno.EBADF, "ours")) is None


def test_a_long_argument_is_not_repeated_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Its beginning says which it is, and the remedy is there."""
    code, _, err = called(capsys, "cache", "--clear", "x" * 5000, "--results", tmp_path)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("bench: nothing in the cache is called 'xxx") and err.endswith(", stale, all\n")
    assert len(err) < 1100


def test_no_room_for_temporary_files_is_one_line() -> None:
    """Python's own search for a folder fails with another error."""
    said = of_the_disk(FileNotFoundError(errno.ENOENT, "No usable temporary directory found in ['/tmp']"))
    assert said is not None and said.message == "no folder for temporary files can be written to"
    assert of_the_disk(FileNotFoundError(errno.ENOENT, "No such file")) is None


@pytest.mark.parametrize("variable", ["BENCH_CACHE", "XDG_CACHE_HOME"])
def test_a_relative_cache_is_one_folder(variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker stands in another folder, and must find what the command finds."""
    monkeypatch.delenv("BENCH_CACHE", raising=False)
    monkeypatch.setenv(variable, "mine")
    monkeypatch.chdir(tmp_path)
    found = cache_folder()
    assert found == tmp_path / "mine" / ("affordable-bench" if variable == "XDG_CACHE_HOME" else "")
    monkeypatch.setenv(variable, "~/mine")
    assert cache_folder().is_relative_to(Path.home())


def test_a_worker_uses_the_relative_cache_of_its_command(tmp_path: Path) -> None:
    """The reference that one cell leaves is found by the next, and nothing lies in the checkout."""
    call = ("run", "--backend", "fake", "--device", "cpu", "--profile", "smoke", "--suite", "divergence")
    done = bench("", *call, "--quiet", "--results", "results", cwd=tmp_path, BENCH_CACHE="relative-cache")
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "relative-cache" / "reference").iterdir())
    assert not (ROOT / "relative-cache").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--timeout", "inf"), "no timeout 'inf'"),
        (("--timeout", "nan"), "no timeout 'nan'"),
        (("--timeout", "0"), "no timeout '0'"),
        (("--timeout", "-5"), "no timeout '-5'"),
        (("--timeout", "1e300"), "no timeout '1e300'"),
        (("--max-cost", "nan"), "no spending limit of nan USD"),
        (("--max-cost", "inf"), "no spending limit of inf USD"),
        (("--max-cost", "-1"), "no spending limit of -1 USD"),
        (("--threads", "²"), "no threads '²'"),
        (("--threads", "٤"), "no threads '٤'"),
        (("--threads", "99999"), "no threads '99999'"),
        (("--threads", "9" * 5000), "no threads '999"),
        (("--budget", "٢min"), "no budget"),
        (("--budget", "9" * 400), "no budget"),
        (("--budget", "400000h"), "no budget"),
        (("--memory-limit", "9" * 400), "no amount of memory"),
        (("--memory-limit", "٤GB"), "no amount of memory"),
    ],
)
def test_a_limit_that_cannot_be_is_one_line(
    options: tuple[str, ...], words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything is planned."""
    code, out, err = called(capsys, *RUN, *options, "--results", tmp_path / "results")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"bench: {words}")
    assert not (tmp_path / "results").exists()


def test_numbers_are_ascii_and_names_are_short() -> None:
    """What a clock counts and a file system takes."""
    assert (parse_seconds("366d".replace("d", "s")), parse_bytes("12GB"), slug("x" * 500)) == (
        366.0,
        12 * 10**9,
        "x" * 100,
    )
    for text in ("٣", "1e5", "0", "-1", "9" * 30):
        with pytest.raises(ValueError, match=r"^"):
            parse_seconds(text)
