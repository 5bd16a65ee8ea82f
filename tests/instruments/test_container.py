# SPDX-License-Identifier: Apache-2.0
"""What control groups allow, in both versions, on a substituted /proc and /sys."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.instruments import container
from bench.instruments.container import Quota

V1 = {"memory/x/memory.limit_in_bytes": "200\n", "memory/memory.limit_in_bytes": "9223372036854771712\n"}
"""A parent's limit, and the root's, which is none."""


def cgroup(monkeypatch: pytest.MonkeyPatch, root: Path, line: str, files: dict[str, str]) -> None:
    """/proc and /sys as they would be under `root`."""
    files = {f"sys/fs/cgroup/{name}": text for name, text in files.items()} | {"proc/self/cgroup": line}
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    read_text, is_dir = Path.read_text, Path.is_dir

    def there(path: Path) -> Path:
        inside = path.is_relative_to("/proc") or path.is_relative_to("/sys")
        return root / path.relative_to("/") if inside else path

    monkeypatch.setattr(Path, "read_text", lambda self, *a, **k: read_text(there(self), *a, **k))
    monkeypatch.setattr(Path, "is_dir", lambda self: is_dir(there(self)))


@pytest.mark.parametrize(
    ("line", "files", "limit"),
    [
        ("0::/a/b\n", {"a/b/memory.max": "300\n", "a/memory.max": "max\n"}, 300),
        ("0::/a/b\n", {"a/b/memory.max": "300\n", "a/memory.max": "200\n"}, 200),
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": "max\n"}, None),
        ("0::/\n", {"memory.max": "100\n"}, 100),
        ("0::/\n", {"cgroup.procs": "1\n"}, None),
        ("0::/../outside\n", {"memory.max": "100\n"}, 100),
        ("0::/not/mounted/here\n", {"memory.max": "100\n"}, 100),
        ("4:memory:/docker/x\n", {"memory.max": "100\n"}, None),
        ("4:memory:/x/y\n0::/\n", {"memory/x/y/memory.limit_in_bytes": "300\n", **V1}, 200),
        ("4:memory:/not/mounted/here\n", {"memory/memory.limit_in_bytes": "300\n"}, 300),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": "9223372036854771712\n"}, None),
    ],
)
def test_the_smallest_limit_on_the_way_up_is_the_container_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, str], limit: int | None
) -> None:
    """A parent may be stricter; `max` is no limit, nor is version 1's largest number."""
    cgroup(monkeypatch, tmp_path, line, files)
    assert container.limit_bytes() == limit


def test_the_kernel_s_kills_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a worker's death can be told from a murder."""
    cgroup(monkeypatch, tmp_path, "0::/a\n", {"a/memory.events": "oom 5\noom_kill 3\noom_group_kill 1\n"})
    assert container.oom_kills() == 3
    cgroup(monkeypatch, tmp_path, "4:memory:/x\n", {"memory/x/memory.oom_control": "under_oom 0\noom_kill 7\n"})
    assert container.oom_kills() == 7


def test_without_a_count_of_kills_there_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """None, not zero."""
    cgroup(monkeypatch, tmp_path, "0::/a\n", {"a/memory.max": "max\n"})
    assert container.oom_kills() is None


@pytest.mark.parametrize(
    ("line", "files", "left"),
    [
        ("0::/a\n", {"a/memory.max": "100\n", "a/memory.current": "70\n", "a/memory.stat": "inactive_file 20\n"}, 50),
        ("0::/a\n", {"a/memory.max": "100\n", "a/memory.current": "130\n"}, 0),
        ("0::/a\n", {"a/memory.max": "max\n", "a/memory.current": "70\n"}, None),
        ("0::/a\n", {"a/memory.max": "100\n", "memory.max": "300\n", "memory.current": "260\n"}, 40),
        ("0::/a\n", {"a/memory.max": "100\n"}, 100),
        (
            "4:memory:/x\n",
            {
                "memory/x/memory.limit_in_bytes": "100\n", "memory/x/memory.usage_in_bytes": "70\n",
                "memory/x/memory.stat": "inactive_file 1\ntotal_inactive_file 5\n",
            },
            35,
        ),
    ],
)  # fmt: skip
def test_what_others_in_the_container_hold_is_not_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, str], left: int | None
) -> None:
    """Page cache that can be dropped is; where use is unknown, the limit."""
    cgroup(monkeypatch, tmp_path, line, files)
    assert container.left_bytes() == left


@pytest.mark.parametrize(
    ("line", "files", "quota"),
    [
        ("0::/a\n", {"a/cpu.max": "150000 100000\n", "a/cpu.stat": "usage_usec 5\nnr_throttled 12\n"}, Quota(1.5, 12)),
        ("0::/a\n", {"a/cpu.max": "max 100000\n", "a/cpu.stat": "nr_throttled 0\n"}, None),
        ("0::/a\n", {"a/cpu.max": "300000 100000\n", "cpu.max": "200000 100000\n"}, Quota(2.0, None)),
        (
            "2:cpu,cpuacct:/x\n",
            {
                "cpu,cpuacct/x/cpu.cfs_quota_us": "50000\n", "cpu,cpuacct/x/cpu.cfs_period_us": "100000\n",
                "cpu,cpuacct/x/cpu.stat": "nr_periods 9\nnr_throttled 4\n",
            },
            Quota(0.5, 4),
        ),
        ("2:cpu:/x\n", {"cpu/x/cpu.cfs_quota_us": "-1\n", "cpu/x/cpu.cfs_period_us": "100000\n"}, None),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_strictest_quota_of_the_cpus_is_the_container_s(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, files: dict[str, str], quota: Quota | None
) -> None:
    """In CPUs, with how often it stopped the group that has it."""
    cgroup(monkeypatch, tmp_path, line, files)
    assert container.quota() == quota
