# SPDX-License-Identifier: Apache-2.0
"""Texts that leave this machine say what went wrong, not where things lie on it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.paths import ROOT, cache_folder, without_paths


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ("no folder /home/me/models/tiny", "no folder tiny"),
        ("[Errno 2] No such file: '/home/John Smith/a b/config.json'", "[Errno 2] No such file: 'config.json'"),
        ("in /srv/John Smith/my models/x.bin: bad", "in x.bin: bad"),
        ("cannot load from /srv/data/x: not a file", "cannot load from x: not a file"),
        (r"C:\Users\me\models\x.bin is missing", "x.bin is missing"),
        (r"\\server\share\me\x.bin is missing", "x.bin is missing"),
        ("file:///home/me/x/y.bin", "file://y.bin"),
        ("path:/home/me/x, cache=/home/me/y", "path:x, cache=y"),
        ("/home/someone is full", "~ is full"),
        ('File "/opt/py/lib/python3.11/site-packages/torch/nn.py", line 3', 'File "torch/nn.py", line 3'),
        ('File "/usr/lib/python3.11/json/decoder.py", line 3', 'File "json/decoder.py", line 3'),
    ],
)
def test_of_an_absolute_path_its_last_part_stays(told: str, kept: str) -> None:
    """Quoted and bare, of every system; of a library's file its path within the library."""
    assert without_paths(told) == kept


def test_what_lies_in_the_checkout_keeps_its_path_from_there() -> None:
    """As it is named in this repository."""
    assert without_paths(f'File "{ROOT}/bench/run/worker.py", line 3') == 'File "bench/run/worker.py", line 3'


@pytest.mark.parametrize(
    "text",
    [
        "wanted 3 tokens/s and 1/2, and/or a/b/c",
        "https://huggingface.co/a/b answers 404; http://127.0.0.1:8000/v1/chat",
        "/dev/null is full; see /proc/self/status and '/sys/fs/cgroup'",
        "~/models/x, models/x, ./x and a /word",
    ],
)
def test_what_is_no_path_of_this_machine_stays(text: str) -> None:
    """Rates, addresses, relative paths, and what is alike everywhere."""
    assert without_paths(text) == text


def test_a_folder_with_a_blank_in_its_name_is_known_by_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in an unquoted path tells where it ends, but this machine's own folders are known."""
    home = tmp_path / "John Smith"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("BENCH_CACHE", str(home / "my cache"))
    assert without_paths(f"cannot read {home}/models/x today") == "cannot read x today"
    assert without_paths(f"cannot read {cache_folder()}/weights/x today") == "cannot read x today"
