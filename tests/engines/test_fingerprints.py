# SPDX-License-Identifier: Apache-2.0
"""Fingerprints see every byte of every file that decides an answer, and read a large file once."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from bench.engines.llamacpp import locate
from bench.engines.weights import fingerprints
from bench.engines.weights.fingerprints import SAMPLE, fingerprint

LARGE = 3 * SAMPLE


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty cache, in which a file may be remembered as soon as it is written."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprints, "RACE_S", -1.0)


def written(path: Path, at: int, size: int = LARGE) -> Path:
    """A file of zeros but for one byte."""
    content = bytearray(size)
    content[at] = 1
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("at", [0, LARGE // 2, LARGE - 1])
def test_a_byte_anywhere_in_a_large_file_is_seen(tmp_path: Path, at: int) -> None:
    """At the head, in the middle that older records never read, at the tail: each mark is its own."""
    marks = {fingerprint(written(tmp_path / "w.bin", place)) for place in {0, LARGE // 2, LARGE - 1, at}}
    assert len(marks) == 3


def test_the_mark_begins_with_what_older_records_hold(tmp_path: Path) -> None:
    """Size and the hash of both ends, so that a record of last year is still paired; a small file has nothing more."""
    path = written(tmp_path / "w.bin", LARGE // 2)
    ends = hashlib.sha256(bytes(2 * SAMPLE)).hexdigest()[:12]
    whole = hashlib.sha256(path.read_bytes()).hexdigest()[:12]
    assert fingerprint(path) == f"{LARGE}:{ends}:{whole}"
    assert fingerprint(written(path, 0, 2)) == f"2:{hashlib.sha256(bytes([1, 0, 1, 0])).hexdigest()[:12]}"


def test_a_large_file_is_read_whole_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is remembered, and not believed once the file was written again, its time stamp set back or not."""
    path = written(tmp_path / "w.bin", 0)
    read: list[int] = []
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda file, name: read.append(1) or digest(file, name))  # type: ignore[func-returns-value]
    first = fingerprint(path)
    assert (fingerprint(path), len(read)) == (first, 1)
    times = path.stat()
    with path.open("r+b") as file:
        file.seek(LARGE // 2)
        file.write(b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert fingerprint(path) != first and len(read) == 2


def test_a_file_that_was_just_written_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second write within the same tick of the clock would not show in its time stamps."""
    monkeypatch.setattr(fingerprints, "RACE_S", 60.0)
    fingerprint(written(tmp_path / "w.bin", 0))
    assert not (tmp_path / "cache").exists()


def test_a_cache_that_cannot_be_written_costs_time_and_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file stands in the place of the cache's folder."""
    path = written(tmp_path / "w.bin", 0)
    wanted = fingerprint(path)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "file"))
    assert fingerprint(path) == wanted


@pytest.mark.parametrize(
    ("name", "decides"),
    [
        ("config.json", True), ("generation_config.json", True), ("adapter_config.json", True),
        ("tokenizer.json", True), ("tokenizer.model", True), ("merges.txt", True), ("chat_template.jinja", True),
        ("own_code.py", True), ("README.md", False), ("trainer_state.json", False), ("loss.txt", False),
    ],
)  # fmt: skip
def test_every_file_that_decides_an_answer_is_told(tmp_path: Path, name: str, decides: bool) -> None:
    """Configurations, tokenizers, templates and code; a model card and a trainer's log change nothing."""
    (tmp_path / "model.safetensors").write_bytes(b"w")
    (tmp_path / name).write_text("{}")
    assert set(fingerprints.fingerprints(tmp_path)) == {"model.safetensors"} | ({name} if decides else set())


def test_a_converted_gguf_is_named_by_every_byte_of_its_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another file of the same size and ends, or another llama.cpp, gives another name in the cache."""
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.3.36")
    marks = [fingerprint(written(tmp_path / "w.gguf", at)) for at in (LARGE // 2, LARGE // 2 + 1)]
    names = {locate.made_name("w.gguf", mark, "Q8_0") for mark in marks}
    monkeypatch.setattr("importlib.metadata.version", lambda _: "0.3.37")
    assert len(names | {locate.made_name("w.gguf", marks[0], "Q8_0")}) == 3
    assert all("/" not in name and ":" not in name for name in names)
