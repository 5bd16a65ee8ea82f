# SPDX-License-Identifier: Apache-2.0
"""A process of ours ends with the one that started it, and what a dead one left is told from what is being written."""

from __future__ import annotations

import ast
import errno
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from builders import dead_process

from bench import processes
from bench.paths import ROOT
from bench.processes import (
    left_behind,
    place,
    put,
    stop_group,
    sweep,
    temporary_folder,
    temporary_folders,
    unfinished,
    write_whole,
)

PATIENCE_S = 60
"""Longest wait for another process; reached only when something is wrong."""
SLEEPER = "import time\nprint('begun', flush=True)\ntime.sleep(600)\n"
WATCHING = """
import os
from bench import processes
processes._asked_the_kernel = lambda: False
processes.end_with(os.getppid())
"""
linux = pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel")


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be reaped does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def ended(pid: int) -> bool:
    """Wait for the end of a process of somebody else's, and not for ever."""
    deadline = time.monotonic() + PATIENCE_S
    while alive(pid) and time.monotonic() < deadline:
        time.sleep(0.02)  # only another process can end this wait
    return not alive(pid)


def environment(folder: Path) -> dict[str, str]:
    """In which Python finds this checkout and the modules of a folder."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)])}


PARENT = """
import subprocess, sys
from bench import processes
{before}
child = subprocess.Popen(processes.module("sleeper"), stdout=subprocess.PIPE, text=True)
assert child.stdout.readline() == "begun\\n"
print(child.pid, flush=True)
child.wait()
"""


def test_a_module_runs_as_it_would_with_minus_m(tmp_path: Path) -> None:
    """Its arguments, its name and its exit code are its own."""
    (tmp_path / "teller.py").write_text("import sys\nif __name__ == '__main__': print(sys.argv[1:]); sys.exit(7)\n")
    done = subprocess.run(
        processes.module("teller", Path("a b"), 3), check=False, capture_output=True, text=True,
        env=environment(tmp_path),
    )  # fmt: skip
    assert (done.stdout, done.returncode) == ("['a b', '3']\n", 7)


@pytest.mark.parametrize("asks_the_kernel", [pytest.param(True, marks=linux), False])
def test_a_process_ends_when_its_parent_is_killed(tmp_path: Path, asks_the_kernel: bool) -> None:
    """SIGKILL gives the parent no time to end anything: the kernel does it, or the child sees it within a second."""
    (tmp_path / "sleeper.py").write_text(SLEEPER if asks_the_kernel else WATCHING + SLEEPER)
    before = "" if asks_the_kernel else "processes.module = lambda name: [sys.executable, '-m', name]"
    command = [sys.executable, "-c", PARENT.format(before=before)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment(tmp_path)) as parent:
        assert parent.stdout
        child = int(parent.stdout.readline())
        assert alive(child)
        parent.kill()
    assert ended(child)


def test_a_process_whose_parent_has_ended_already_does_not_begin(tmp_path: Path) -> None:
    """Between the start of a process and its first line the parent may be killed."""
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    command = [sys.executable, "-m", "bench.processes", str(dead_process()), "sleeper"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment(tmp_path), timeout=60)
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, "")


GUARDED = "bench/engines/served/server.py"
"""Its guard ends with the pipe that its parent holds."""
SENT = "bench/fleet/tasks.py"
"""Runs where Ray sends it, without a module of ours, and starts `bench.processes` itself."""


def test_nothing_of_ours_starts_python_otherwise() -> None:
    """Converters, quantizers, roofs and workers end with their parent; sampler and guard read a pipe that it holds.

    What the answer prints is typed by people.
    """
    naming = set()
    for path in [*(ROOT / "bench").rglob("*.py"), *(ROOT / "suites").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and ast.unparse(node) == "sys.executable":
                naming.add(str(path.relative_to(ROOT)))
    assert naming == {GUARDED, SENT, "bench/processes.py", "bench/instruments/sampler.py", "bench/cli/compare.py"}


def test_whose_a_temporary_folder_is_stands_in_its_name() -> None:
    """All of them are made in one place."""
    made = re.compile(r"TemporaryDirectory|mkdtemp")
    sources = [path for path in (ROOT / "bench").rglob("*.py") if made.search(path.read_text(encoding="utf-8"))]
    assert [str(path.relative_to(ROOT)) for path in sources] == ["bench/processes.py"]


def test_a_child_that_ignores_the_request_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a worker started goes with it, asked first, then killed."""
    monkeypatch.setattr(processes, "GRACE_S", 0.2)
    script = "trap '' TERM; sleep 600 & echo $!; wait"
    process = subprocess.Popen(["/bin/sh", "-c", script], stdout=subprocess.PIPE, start_new_session=True)
    assert process.stdout
    child = int(process.stdout.readline())
    stop_group(process)
    process.stdout.close()
    assert process.returncode == -signal.SIGKILL
    assert ended(child)


def test_an_obedient_worker_is_not_killed() -> None:
    """A process that ends when asked is only asked."""
    process = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True)
    stop_group(process)
    assert process.returncode == -signal.SIGTERM


def age(path: Path, seconds: float) -> None:
    """Let it have been changed last so long ago."""
    then = time.time() - seconds
    os.utime(path, (then, then))


DAY = 86_400.0


@pytest.mark.parametrize(
    ("name", "seconds", "left"),
    [
        ("whole.gguf", 9 * DAY, False),
        ("x.gguf.part-{here}-{dead}", 0, True),
        ("x.gguf.part-{here}-{alive}", 0, False),
        ("x.gguf.part-{here}-{alive}", 9 * DAY, True),  # this process began later: its number is a coincidence
        ("x.gguf.part-000000-{dead}", 6 * DAY, False),  # another machine's processes are not seen from here
        ("x.gguf.part-000000-{dead}", 8 * DAY, True),
        ("x.gguf.part-000000-{alive}", 8 * DAY, True),
        ("x.gguf.part{dead}", 6 * DAY, False),  # as it was called before
        ("x.gguf.part{dead}", 8 * DAY, True),
        (".20261129T001340Z-0652b98e.json.part-{here}-{dead}", 0, True),
        ("bench-{here}-{dead}-abc", 0, True),
        ("bench-{here}-{alive}-abc", 0, False),
        ("bench-mine", 9 * DAY, False),
        ("a.part-of-it", 9 * DAY, False),
    ],
)
@pytest.mark.parametrize("folder", [False, True])
def test_what_a_dead_process_left_is_told_by_its_name(
    tmp_path: Path, name: str, seconds: float, left: bool, folder: bool
) -> None:
    """By the process that writes it where its number means something, elsewhere by age; whole things are nobody's."""
    path = tmp_path / name.format(here=place(), dead=dead_process(), alive=os.getpid())
    if folder:
        path.mkdir()
        (path / "file").write_bytes(b"x")
        age(path / "file", seconds)
    else:
        path.write_bytes(b"x")
    age(path, seconds)
    assert left_behind(path) is left
    sweep(tmp_path.iterdir())
    assert path.exists() is not left


def test_a_folder_whose_files_change_is_at_work(tmp_path: Path) -> None:
    """On another machine a conversion may fill its folder for longer than the folder itself is touched."""
    path = tmp_path / "x.part-000000-1"
    path.mkdir()
    (path / "weights").write_bytes(b"x")
    age(path, 30 * DAY)
    assert not left_behind(path)


def test_a_link_is_removed_and_not_what_it_leads_to(tmp_path: Path) -> None:
    """Whoever made it."""
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept" / "file").touch()
    link = tmp_path / f"x.part-{place()}-{dead_process()}"
    link.symlink_to(tmp_path / "kept")
    sweep([link])
    assert not link.is_symlink()
    assert (tmp_path / "kept" / "file").exists()


def test_a_temporary_folder_tells_whose_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the next run knows what a killed one left; other people's folders are none of ours."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "bench-tests").mkdir()
    with temporary_folder() as folder:
        assert temporary_folders() == [Path(folder)]
        assert not left_behind(Path(folder))
    assert temporary_folders() == []


def test_a_folder_that_another_process_has_put_there_stays(tmp_path: Path) -> None:
    """Two conversions of the same weights make the same; any other reason for a failure is told."""
    path = tmp_path / "made"
    for text in ("first", "second"):
        part = unfinished(path)
        part.mkdir()
        (part / "file").write_text(text)
        put(part, path)
    assert [(file.name, file.read_text()) for file in path.iterdir()] == [("file", "first")]
    assert [found.name for found in tmp_path.iterdir()] == ["made"]
    with pytest.raises(FileNotFoundError):
        put(tmp_path / "none", tmp_path / "else")


@pytest.mark.parametrize("durable", [False, True])
def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durable: bool) -> None:
    """With its folder, the same bytes everywhere; where the disk refuses, the old content stays and nothing beside."""
    path = tmp_path / "folder" / "file.json"
    for content, expected in (("ä\n", b"\xc3\xa4\n"), (b"\x00", b"\x00")):
        write_whole(path, content, durable=durable)
        assert path.read_bytes() == expected

    def refuse(part: Path, to: Path) -> None:
        assert (part.read_bytes(), to.read_bytes()) == (b"new", b"\x00")
        raise OSError(errno.ENOSPC, "no room")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="no room"):
        write_whole(path, "new", durable=durable)
    assert ([each.name for each in path.parent.iterdir()], path.read_bytes()) == (["file.json"], b"\x00")


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel when a process began")
def test_a_clock_that_is_set_makes_no_living_writer_a_dead_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two days ahead, what was written before looks old, and its process as if it had begun since."""
    part = processes.unfinished(tmp_path / "x")
    part.touch()
    os.utime(part, (1, 1))
    assert not processes.left_behind(part)
    other = part.with_name(re.sub(r"-t[0-9]+$", "-t1", part.name))
    other.touch()
    assert processes.left_behind(other), "its number was used again"
