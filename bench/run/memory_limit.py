# SPDX-License-Identifier: Apache-2.0
"""Run a worker and its children under a hard memory limit, so that "fits in 12 GB" is tried and not only predicted.

The first mechanism that this machine allows is taken, and the record names it, because they count differently:

- `cgroup v2`, `cgroup v1`: a child of this process's own group, memory and swap together. Counts what the process
  tree touches, kernel buffers and the page cache of files it reads included. Cache is reclaimable: a group at its
  limit drops cached pages before anything is killed, so weights that are mapped from a file and used in place never
  end a process; they are read again and again, and the speed tells. Pages that another group had cached already are
  charged to that group: for engines that map their weights, hold the resident peak in the record against the limit
  too.
- `systemd scope`: the same cgroup v2, made by the user's own service manager where this process may not. Taken only
  if a trial shows that the limit is really set and that file descriptors reach the child.
- `RLIMIT_DATA`: the crude one, for each process alone. Counts private writable memory, touched or not: thread stacks,
  and weight files that torch maps privately, in full, so it refuses what would fit; files mapped for reading alone
  escape it. Neither outcome proves anything to a claim. An address-space limit (`RLIMIT_AS`) would be cruder still:
  it counts every library and every mapping, gigabytes with torch alone.
- `CUDA allocator`: on a GPU, the share of the card that the framework's allocator may take, its context subtracted.
  What the driver takes later (kernels that are loaded when first used) escapes it, so the driver's own figure for the
  process is recorded as the highest, and one above the limit is a caveat and proves nothing to a claim.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.errors import UserError
from bench.instruments import container
from bench.processes import GRACE_S, left_behind, mark
from bench.records.record import CRUDE, Caveat, MemoryLimit
from bench.records.surroundings import Machine
from bench.units import human_bytes, human_limit

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")
UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12} | {
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40
}  # fmt: skip
"""Whether a B follows or not."""
CUDA = "CUDA allocator"
LOOK_S = 0.02
"""Seconds between two tries to remove a group whose processes are ending."""


def parse_bytes(text: str) -> int:
    """`12GB` and `12G` are 12e9 bytes, `12GiB` and `12Gi` 12 x 2^30, a bare number bytes. Raises UserError."""
    found = re.fullmatch(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([a-zA-Z]*)\s*", text, re.ASCII)
    unit = UNITS.get(found[2].lower().removesuffix("b")) if found else None
    if found is None or unit is None or float(found[1]) * unit < 1:
        raise UserError(f"no amount of memory: {text!r}", "write 12GB, 12GiB, 512M or a number of bytes")
    return int(float(found[1]) * unit)


def capacity_bytes(machine: Machine) -> int:
    """Memory of the device that a limit is a part of."""
    return machine.gpu_memory_bytes or machine.memory_bytes


def check(limit_bytes: int, capacity_bytes: int) -> int:
    """The same limit, checked. Raises UserError if it exceeds the device's memory and so would limit nothing."""
    if limit_bytes > capacity_bytes:
        raise UserError(
            f"a memory limit of {human_limit(limit_bytes)} is more than the {human_bytes(capacity_bytes)} there are",
            "give less, or leave the limit out",
        )
    return limit_bytes


@dataclass(frozen=True, kw_only=True)
class Confinement:
    """An active limit: how to start a process under it, and what the kernel reports about it afterwards."""

    limit_bytes: int
    enforced_by: str
    prefix: tuple[str, ...] = ()
    """What the command line of a confined process begins with; it ends by becoming that very process."""
    kills: Callable[[], int | None] = lambda: None
    """Processes that the kernel killed at this limit so far, None where it does not tell."""
    highest_bytes: Callable[[], int | None] = lambda: None
    """The most that was charged, reclaimable cache included; None where the mechanism does not tell."""

    def command(self, command: Sequence[str]) -> list[str]:
        """`command`, started inside."""
        return [*self.prefix, *command]

    def stated(self) -> MemoryLimit:
        """For the record."""
        return MemoryLimit(bytes=self.limit_bytes, enforced_by=self.enforced_by, highest_bytes=self.highest_bytes())


@contextmanager
def confined(limit_bytes: int | None, device: str) -> Iterator[Confinement | None]:
    """Set up the strictest kind of limit that this machine allows, or yield None if no limit is asked for.

    Raises UserError where the platform has no mechanism.
    """
    if limit_bytes is None:
        yield None
        return
    if device == "cuda":
        yield Confinement(limit_bytes=limit_bytes, enforced_by=CUDA)
        return
    if sys.platform != "linux" or device != "cpu":
        raise UserError("a memory limit needs Linux or CUDA", "leave it out; the measured peak stands in the record")
    for version in (2, 1):
        group = _make_group(version, limit_bytes)
        if group is not None:
            try:
                yield _in_group(version, group, limit_bytes)
            finally:
                remove_group(group)
            return
    yield _scope(limit_bytes) or _resource_limit(limit_bytes)


def own_group(version: int, pid: str = "self") -> Path | None:
    """A process's memory cgroup, None where that hierarchy is not mounted."""
    try:
        lines = (PROC / pid / "cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        root = CGROUPS / "memory" if version == 1 else CGROUPS
        if (version == 1 and "memory" in controllers.split(",")) or (version == 2 and not controllers):
            folder = root / path.lstrip("/")
            marker = "memory.limit_in_bytes" if version == 1 else "cgroup.controllers"
            return next((place for place in (folder, root) if (place / marker).exists()), None)
    return None


def _make_group(version: int, limit_bytes: int) -> Path | None:
    """A child of this process's own group with that limit and no swap beyond it, None if that is not allowed."""
    own = own_group(version)
    if own is None:
        return None
    group = own / f"{mark()}{secrets.token_hex(3)}"
    try:
        if version == 2 and "memory" not in (own / "cgroup.subtree_control").read_text().split():
            (own / "cgroup.subtree_control").write_text("+memory")  # refused while processes sit in that group
        group.mkdir()
    except OSError:
        return None
    limit, swap, nothing = (
        ("memory.limit_in_bytes", "memory.memsw.limit_in_bytes", str(limit_bytes))
        if version == 1
        else ("memory.max", "memory.swap.max", "0")
    )
    try:
        (group / limit).write_text(str(limit_bytes))
        if (group / swap).exists():
            (group / swap).write_text(nothing)
        hard = (group / swap).exists() or not psutil.swap_memory().total  # else memory leaves into swap uncounted
        if version == 2 and (group / "memory.oom.group").exists():
            (group / "memory.oom.group").write_text("1")
    except OSError:
        hard = False
    if not hard:
        group.rmdir()
    return group if hard else None


def remove_group(group: Path) -> None:
    """Take a group away with all that still runs in it; the kernel gives it up soon after its last process."""
    deadline = time.monotonic() + GRACE_S
    while True:
        with contextlib.suppress(OSError):  # gone already, or somebody else's
            for pid in (group / "cgroup.procs").read_text().split():
                os.kill(int(pid), signal.SIGKILL)
        try:
            group.rmdir()
        except FileNotFoundError:
            return
        except OSError:
            if time.monotonic() > deadline:
                return
            time.sleep(LOOK_S)
        else:
            return


def sweep_groups() -> None:
    """Remove the groups of runs whose process is gone, and what may still compute in them."""
    for own in filter(None, map(own_group, (1, 2))):
        for group in own.glob("bench-*"):
            if left_behind(group):
                remove_group(group)


def _in_group(version: int, group: Path, limit_bytes: int) -> Confinement:
    # The shell enters the group and then becomes the worker, so that nothing of it is charged elsewhere.
    enter = ("sh", "-c", 'echo $$ > "$0" && exec "$@"', str(group / "cgroup.procs"))
    return Confinement(
        limit_bytes=limit_bytes,
        enforced_by=f"cgroup v{version}",
        prefix=enter,
        kills=lambda: container.field(group / container.KILLS[version], "oom_kill"),
        highest_bytes=lambda: _highest(version, group),
    )


def _highest(version: int, group: Path) -> int | None:
    try:
        return int((group / ("memory.max_usage_in_bytes" if version == 1 else "memory.peak")).read_text())
    except (OSError, ValueError):  # memory.peak came with Linux 5.19
        return None


def charged_bytes(limit: MemoryLimit) -> MemoryLimit:
    """The limit with what this process's own group was charged at most, for a process that runs inside."""
    version = {"cgroup v1": 1, "cgroup v2": 2, "systemd scope": 2}.get(limit.enforced_by)
    group = own_group(version) if version else None
    return limit.model_copy(update={"highest_bytes": _highest(version, group) if version and group else None})


def overrun(limit: MemoryLimit | None) -> list[Caveat]:
    """A caveat where more was counted than the limit should have let through, as only the CUDA allocator's can."""
    if limit is None or limit.enforced_by != CUDA or (limit.highest_bytes or 0) <= limit.bytes:
        return []
    held = f"the driver counted {human_bytes(limit.highest_bytes or 0)}"
    text = (
        f"{held} for this process: more than its limit of {human_limit(limit.bytes)}, which holds the allocator alone"
    )
    return [Caveat(kind="over_limit", text=text, advice="it needs that figure; give a lower limit to see what fits")]


def _scope(limit_bytes: int) -> Confinement | None:
    """A transient scope of the user's service manager, None unless a trial proves the limit and the descriptors."""
    if not shutil.which("systemd-run"):
        return None
    properties = ("-p", f"MemoryMax={limit_bytes}", "-p", "MemorySwapMax=0")
    prefix = ("systemd-run", "--user", "--scope", "--quiet", "--collect", *properties, "--")
    read, write = os.pipe()
    trial = f'cat "{CGROUPS}$(sed -n s/^0:://p /proc/self/cgroup)/memory.max" > /proc/self/fd/{write}'
    try:
        done = subprocess.run(
            [*prefix, "sh", "-c", trial], check=False, capture_output=True, timeout=10, pass_fds=[write]
        )
    except (OSError, subprocess.TimeoutExpired):
        done = None
    finally:
        os.close(write)
    with os.fdopen(read) as answer:
        set_to = answer.read().strip()
    page = os.sysconf("SC_PAGE_SIZE")
    if done is None or done.returncode or not set_to.isdigit() or int(set_to) // page != limit_bytes // page:
        return None
    # The scope is gone with its last process; its manager's group counts the kills of everything below.
    manager = CGROUPS / f"user.slice/user-{os.getuid()}.slice/user@{os.getuid()}.service/memory.events"
    before = container.field(manager, "oom_kill")

    def kills() -> int | None:
        now = container.field(manager, "oom_kill")
        return now - before if now is not None and before is not None else None

    return Confinement(limit_bytes=limit_bytes, enforced_by="systemd scope", prefix=prefix, kills=kills)


def _resource_limit(limit_bytes: int) -> Confinement:
    prefix = ("sh", "-c", 'ulimit -d "$0" && exec "$@"', str(limit_bytes // 1024))
    return Confinement(limit_bytes=limit_bytes, enforced_by=CRUDE, prefix=prefix)
