# SPDX-License-Identifier: Apache-2.0
"""Processes of ours end with the one that started them, and what a dead one left unfinished can be told.

`python -m bench.processes PARENT MODULE ARGUMENTS` runs a module so that it ends when its parent does: a quantizer
whose worker was killed would compute on for minutes, beside the next measurement. On Linux the kernel sees to it;
elsewhere a thread looks every second whose child the process is.

Whatever takes long to write is written beside its place and renamed when it is whole. Such a name tells who writes:
the process, and the place where its number means something. Homes are shared by machines, caches by containers: there
a number that is nobody's here may be at work elsewhere, so only age tells that its part was left.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import hashlib
import os
import platform
import re
import runpy
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

GRACE_S = 3.0
"""Seconds between the request to end and the kill, and for what was killed to be gone."""
GONE_S = 0.01
"""Seconds between two looks whether it is."""
LOOK_S = 1.0
"""Seconds between two looks at the parent, where the kernel does not tell of its end."""
PR_SET_PDEATHSIG = 1
"""prctl(2)."""
OTHERS_S = 7 * 86_400.0
"""Seconds without a change after which what another place wrote is taken for left: longer than any one step of ours."""
REUSED_S = 3_600.0
"""A process that began so long after a part was last changed has its writer's number by chance."""
WRITER = re.compile(
    r"(?:\.part|^bench)-(?P<place>[0-9a-f]{6})-(?P<pid>[0-9]+)(?:-t(?P<began>[0-9]+))?(?:$|-)|\.part(?P<old>[0-9]+)$"
)
"""In the name of something unfinished, who writes it and since when that runs; older names tell less."""


def module(name: str, *arguments: object) -> list[str]:
    """The command that runs a module of ours in a process that ends with this one."""
    return [sys.executable, "-m", "bench.processes", str(os.getpid()), name, *map(str, arguments)]


def end_with(parent: int) -> None:
    """Let this process be killed when `parent`, which started it, ends; at once if it has ended already."""
    if not _asked_the_kernel():
        threading.Thread(target=_watch, args=(parent,), daemon=True).start()
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)


def _asked_the_kernel() -> bool:
    """Whether the kernel kills this process when the thread that started it ends."""
    if sys.platform != "linux":
        return False
    with contextlib.suppress(OSError, AttributeError):
        return bool(ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) == 0)
    return False


def _watch(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGKILL)


def stop_group(process: subprocess.Popen[bytes]) -> None:
    """End a process that leads a group, and everything in it: asked first, then killed, and gone when this returns."""
    for sign in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_S)
        if process.returncode is not None and sign is signal.SIGTERM and not _group_alive(process.pid):
            return
    # What its leader had started is nobody's child here, so the kernel tells of its end only when it is asked.
    deadline = time.monotonic() + GRACE_S
    while _group_alive(process.pid) and time.monotonic() < deadline:
        time.sleep(GONE_S)


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def terminals() -> list[int]:
    """Which of the standard streams people read or type on. A terminal that was closed does not tell any more."""
    return [number for number in (0, 1, 2) if os.isatty(number)]


def leave_terminals(numbers: Iterable[int]) -> None:
    """Lead these streams nowhere: their terminal is gone, and writing there would fail."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for number in numbers:
        os.dup2(nowhere, number)
    os.close(nowhere)


@functools.cache
def place() -> str:
    """Six hexadecimal digits of where process numbers are those that this process sees: a host, or a container."""
    try:
        numbers = str(Path("/proc/self/ns/pid").readlink())
    except OSError:
        numbers = ""
    return hashlib.sha256(f"{platform.node()} {numbers}".encode()).hexdigest()[:6]


@functools.cache
def boot() -> str:
    """Eight digits that this machine has until it starts anew, its containers too."""
    try:
        told = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8")
    except OSError:
        told = platform.node()
    return hashlib.sha256(told.encode()).hexdigest()[:8]


def began(pid: int) -> float | None:
    """When a process began, None if none has that number, or one that only waits to be reaped.

    Clock ticks since the machine started, which no setting of a clock moves; seconds since 1970 where not on Linux.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else float(fields[19])
    except (OSError, IndexError, ValueError):
        if sys.platform == "linux":
            return None
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return None


def mark() -> str:
    """What this process writes into the name of something that ends with it."""
    return f"bench-{_me()}-"


def _me() -> str:
    """This process as a name tells it: a clock that is set must not make another of it."""
    ticks = began(os.getpid()) if sys.platform == "linux" else None
    return f"{place()}-{os.getpid()}" + ("" if ticks is None else f"-t{ticks:.0f}")


def unfinished(path: Path) -> Path:
    """Where this process writes what shall be `path`: beside it, so that renaming is all that is left to do."""
    return path.with_name(f"{path.name}.part-{_me()}")


def write_whole(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Write a file, its folder too, so that whoever reads it finds the old content or the new one whole.

    `durable`: it is on the disk before it gets its name, so that a loss of power cannot leave it empty. Raises OSError
    where the disk refuses; nothing is left beside the file then.
    """
    part = unfinished(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


@contextlib.contextmanager
def alone(folder: Path) -> Iterator[None]:
    """One process at a time for all who ask this of a folder. The folder itself is locked, which leaves no file.

    Some shared disks lock nothing; then two may begin at once.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where one process at a time measures anyway
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


_HELD: dict[tuple[int, int], int] = {}
"""Descriptors of what this process uses, by device and inode, which the system closes as it ends: one for each."""


def in_use(path: Path) -> bool:
    """Keep something of the cache from being deleted for as long as this process runs; whether it is there.

    Its time of change says when it was used last.
    """
    try:
        import fcntl
    except ImportError:  # Windows, where what is open cannot be deleted
        return path.exists()
    try:
        held = os.open(path, os.O_RDONLY)
    except OSError:
        return False
    seen = os.fstat(held)
    if (seen.st_dev, seen.st_ino) in _HELD:
        os.close(held)
    else:
        _HELD[seen.st_dev, seen.st_ino] = held
    with contextlib.suppress(OSError):
        fcntl.flock(_HELD[seen.st_dev, seen.st_ino], fcntl.LOCK_SH)  # who takes it away holds it alone until it is gone
        os.utime(path)
        return os.path.samestat(path.stat(), seen)
    return path.exists()


def put(part: Path, path: Path) -> None:
    """Give a finished folder its name. One that another process has put there meanwhile is the same, and stays."""
    try:
        part.rename(path)
    except OSError:
        if not path.is_dir():
            raise
        shutil.rmtree(part, ignore_errors=True)


def is_unfinished(path: Path) -> bool:
    """Whether a name is that of something that has not got its own yet."""
    return WRITER.search(path.name) is not None


def left_behind(path: Path) -> bool:
    """Whether this is something unfinished that nobody will finish."""
    found = WRITER.search(path.name)
    if found is None:
        return False
    try:
        touched: float = max(p.lstat().st_mtime for p in (path, *(path.iterdir() if path.is_dir() else ())))
    except OSError:  # it has just got its name, or is gone
        return False
    if found["place"] != place():
        return time.time() - touched > OTHERS_S
    return _has_ended(int(found["pid"]), found["began"], touched)


def _has_ended(pid: int, since: str | None, touched: float) -> bool:
    """Whether a writer of this place is gone, or its number another's by now."""
    if since:
        return began(pid) != float(since)
    try:
        writer = psutil.Process(pid)
        return bool(writer.status() == psutil.STATUS_ZOMBIE or writer.create_time() > touched + REUSED_S)
    except psutil.NoSuchProcess:
        return True
    except psutil.Error:
        return False


def sweep(found: Iterable[Path]) -> None:
    """Delete those files and folders that dead processes left unfinished."""
    for path in [path for path in found if left_behind(path)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """A folder for as long as a block runs, by whose name others know when its process is gone."""
    return tempfile.TemporaryDirectory(prefix=mark())


def temporary_folders() -> list[Path]:
    """Those of this user, whichever process made them."""
    found = []
    user = os.getuid() if hasattr(os, "getuid") else 0
    for path in Path(tempfile.gettempdir()).glob("bench-*"):
        with contextlib.suppress(OSError):
            if is_unfinished(path) and path.lstat().st_uid == user:
                found.append(path)
    return found


def main() -> None:
    """Run the module that the command line names, for as long as its parent lives."""
    end_with(int(sys.argv[1]))
    name = sys.argv[2]
    sys.argv = [name, *sys.argv[3:]]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
