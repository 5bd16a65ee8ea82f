# SPDX-License-Identifier: Apache-2.0
"""Records under a URL: read through a mirror, sent whole or not at all, and every refusal is one line."""

from __future__ import annotations

import contextlib
import http.client
import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from builders import called, make_cell, make_record

from bench.cli.options import _results
from bench.errors import UserError
from bench.records.mirror import Mirror, mirror_of, shown
from bench.records.record import Record
from bench.records.store import Store, to_text

fsspec = pytest.importorskip("fsspec")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def moto() -> Iterator[str]:
    """The address of an object store on this machine."""
    pytest.importorskip("s3fs")
    server = pytest.importorskip("moto.server").ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(moto: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of an empty bucket there."""
    import s3fs

    own = {
        "AWS_ENDPOINT_URL": moto, "AWS_ACCESS_KEY_ID": "one", "AWS_SECRET_ACCESS_KEY": "two",
        "AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true",
    }  # fmt: skip
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    fsspec.config.conf.clear()
    s3fs.S3FileSystem.clear_instance_cache()
    bucket = f"b{uuid.uuid4().hex}"  # what one server of this process holds, the next one does
    s3fs.S3FileSystem().mkdir(bucket)
    return f"s3://{bucket}/of/us"


@pytest.fixture(params=["memory", "file", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An address under which nothing lies."""
    if request.param == "s3":
        return str(request.getfixturevalue("s3"))
    return f"memory://{uuid.uuid4().hex}" if request.param == "memory" else f"file://{tmp_path}/there"


def record(suite: str = "memory", **overrides: Any) -> Record:
    return make_record(make_cell(suite), **overrides)


def mine(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, who: str) -> Store:
    """A store of somebody with a cache of their own."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / who))
    root = _results(url)
    return Store(root, mirror=mirror_of(root))


def test_what_one_writes_another_reads(url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Byte by byte; what is there already is not fetched again, and what is deleted there is gone here."""
    writer = mine(url, monkeypatch, tmp_path, "writer")
    writer.check_writable()
    written = [record(), record("throughput")]
    paths = [writer.write(item) for item in written]
    reader = mine(url, monkeypatch, tmp_path, "reader")
    assert [to_text(item) for item in reader.records()] == [to_text(item) for item in writer.records()]
    assert reader.root != writer.root
    mirror = mirror_of(reader.root)
    assert mirror is not None and mirror.unsent == ""
    asked: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(mirror.files, "cat", lambda names, **_: asked.extend(names))
        mirror.fetch()
    assert asked == []
    name = paths[0].relative_to(writer.root).as_posix()
    mirror.files.rm_file(f"{mirror.base}/{name}")
    mirror.fetch()
    assert [item.cell.suite for item in reader.records()] == ["throughput"]
    left = [path for path in mirror.files.find(mirror.base) if ".part-" in path or ".write-" in path]
    assert left == []


def test_what_could_not_be_sent_waits_for_the_next_call(
    url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A network that is down costs no record, and no half of one is there: the file appears when it is whole."""
    store = mine(url, monkeypatch, tmp_path, "writer")
    assert store.mirror is not None
    files = store.mirror.files
    put = files.pipe_file

    def broken(path: str, content: bytes) -> None:
        if url.startswith("file"):  # an object store takes nothing before it has all
            put(path, content[: len(content) // 2])
        raise ConnectionError("the cable is out")

    monkeypatch.setattr(files, "pipe_file", broken)
    store.write(record())
    assert "ConnectionError: the cable is out" in store.mirror.unsent
    with pytest.raises(UserError, match=r"1 files of records are kept in .* and not at .* yet: cannot write"):
        store.mirror.finish()
    monkeypatch.setattr(files, "pipe_file", put)
    assert list(mine(url, monkeypatch, tmp_path, "early").records()) == []
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "writer"))
    mirror = Mirror(url)
    mirror.fetch()
    assert len(list(store.records())) == 1
    mirror.finish()
    assert len(list(mine(url, monkeypatch, tmp_path, "reader").records())) == 1


def test_no_name_at_the_url_leaves_the_mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What has not the path of a record or a run is not fetched, and neither is what is larger than a record may be."""
    url = f"memory://{uuid.uuid4().hex}"
    store = mine(url, monkeypatch, tmp_path, "reader")
    mirror = store.mirror
    assert mirror is not None
    odd = ["d/m/e/s/../../../../../../x.json", "x.json", "d/x.json", "d/m/.hidden/s/x.json", "d/m/e/s/x.txt"]
    odd.append("a/b/c/d/e/f.json")
    listed = {f"{mirror.base}/{name}": {"size": 5} for name in odd}
    listed |= {f"{mirror.base}/d/m/e/s/big.json": {"size": 10**12}, f"{mirror.base}/d/m/e/s/x.json": {"size": 5}}
    asked: list[str] = []

    def cat(names: list[str], **_: object) -> dict[str, bytes]:
        asked.extend(names)
        return dict.fromkeys(names, b"{}")

    monkeypatch.setattr(mirror.files, "find", lambda *_, **__: listed)
    monkeypatch.setattr(mirror.files, "cat", cat)
    mirror.fetch()
    assert asked == [f"{mirror.base}/d/m/e/s/x.json"]
    assert [path.name for path in tmp_path.rglob("*.json")] == ["x.json"]


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("gopher://x/y", "results cannot lie under gopher://: Protocol not known: gopher; a folder, or one of s3, gs,"),
        ("git://x/y", "git:// needs a package that is not here: Install pygit2"),
    ],
)
def test_a_scheme_that_cannot_be_opened_is_refused(address: str, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """In one line, by a command that reads and by one that measures."""
    for command in (["show"], ["run", "--backend", "fake", "--profile", "smoke"]):
        code, out, err = called(capsys, *command, "--results", address)
        assert (code, out) == (2, "") and err.count("\n") <= 3
        assert line in " ".join(err.split())


def test_a_bucket_without_permission_is_refused_before_anything_is_measured(
    s3: str, moto: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Reading and writing; and one that is not there, and one without credentials."""
    import s3fs

    def refused(*asked: str, results: str = s3) -> str:
        s3fs.S3FileSystem.clear_instance_cache()
        code, out, err = called(capsys, *asked, "--results", results)
        assert (code, out) == (2, "")
        return " ".join(err.split())

    measure = ("run", "--backend", "fake", "--profile", "smoke", "--suite", "memory", "--device", "cpu")
    assert refused("show", results="s3://nobody/x") == (
        "bench: cannot read s3://nobody/x: there is no such bucket; make it first, or mend the address"
    )
    with allowed(moto, 0):
        assert refused("show").startswith(f"bench: no permission to read {s3}: The AWS Access Key Id")
    with allowed(moto, 3):  # to list what is there, and no more
        assert refused(*measure).startswith(f"bench: no permission to write {s3}: The AWS Access Key Id")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    assert refused("show").startswith(f"bench: no permission to read {s3}: Unable to locate credentials")


@contextlib.contextmanager
def allowed(moto: str, requests: int) -> Iterator[None]:
    """The store lets so many more requests pass, then looks who asks."""
    _let_pass(moto, str(requests))
    try:
        yield
    finally:
        _let_pass(moto, "inf")


def _let_pass(moto: str, count: str) -> None:
    server = http.client.HTTPConnection(moto.removeprefix("http://"))
    server.request("POST", "/moto-api/reset-auth", count, {"Content-Type": "text/plain"})
    assert server.getresponse().status == 200
    server.close()


def test_a_run_with_results_in_a_bucket_is_shown_from_there(
    s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Measured here, shown and compared from another cache; publishing beside them is refused."""
    measure = ("run", "--backend", "fake", "--profile", "smoke", "--suite", "memory,throughput", "--device", "cpu")
    code, out, _ = called(capsys, *measure, "--results", s3)
    assert code == 0 and f"records: {s3}" in out
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "another"))
    for command in ("show", "compare"):
        code, out, _ = called(capsys, command, "--results", s3)
        assert code == 0 and "fake-int8" in out
    code, _, err = called(capsys, "publish", "--results", s3)
    assert code == 2 and f"publishing writes beside the records, and {s3} takes records alone" in " ".join(err.split())


def test_a_password_in_an_address_is_not_shown() -> None:
    """Nor the name."""
    assert shown("sftp://me:secret@host/x") == "sftp://host/x"
    assert os.environ.get("BENCH_CACHE")
