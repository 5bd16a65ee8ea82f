# SPDX-License-Identifier: Apache-2.0
"""Hosts on one machine: network namespaces, each joined to the first by a link of its own, which may be cut.

It needs Linux, `ip` of iproute2 and the right to make namespaces; nothing of it reaches the machine's own network.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

NETWORK = "10.77"
IP = shutil.which("ip") or "/usr/sbin/ip"


def lacking() -> str:
    """Why there can be no namespaces here, empty where there can."""
    if sys.platform != "linux" or not Path(IP).exists():
        return "network namespaces need Linux and iproute2's ip"
    name = f"bench-{os.getpid()}-try"
    done = subprocess.run([IP, "netns", "add", name], check=False, capture_output=True, text=True)
    if done.returncode:
        return f"no network namespace can be made here: {done.stderr.strip()}"
    subprocess.run([IP, "netns", "del", name], check=True)
    return ""


class Hosts:
    """A first host, and others that reach it, each over a link of its own."""

    def __init__(self, others: int) -> None:
        self.names = [f"bench-{os.getpid()}-{number}" for number in range(others + 1)]
        self.started: list[subprocess.Popen[str]] = []
        self.links: dict[int, str] = {}
        """By host, the first one's end of its link."""

    def __enter__(self) -> Self:
        for name in self.names:
            _ip("netns", "add", name)
            _ip("-n", name, "link", "set", "lo", "up")
        first = self.names[0]
        for number, name in enumerate(self.names[1:], 1):
            here, there = f"v{os.getpid()}a{number}"[-15:], f"v{os.getpid()}b{number}"[-15:]
            _ip("link", "add", here, "netns", first, "type", "veth", "peer", "name", there, "netns", name)
            for owner, link, last in ((first, here, 1), (name, there, 2)):
                _ip("-n", owner, "addr", "add", f"{NETWORK}.{number}.{last}/24", "dev", link)
                _ip("-n", owner, "link", "set", link, "up")
            _ip("-n", name, "route", "add", "default", "via", self.address(0, number))
            self.links[number] = here
        _ip(
            "-n", first, "route", "add", "default", "via", self.address(1)
        )  # libraries ask for it to learn their address
        return self

    def address(self, host: int, link: int = 1) -> str:
        """Of a host; the first has one on each link."""
        return f"{NETWORK}.{host or link}.{2 if host else 1}"

    def cut(self, host: int) -> None:
        """What is sent over its link is lost from now on, without a word to either end."""
        _ip("-n", self.names[0], "link", "set", self.links[host], "down")

    def mend(self, host: int) -> None:
        """Its link carries again."""
        _ip("-n", self.names[0], "link", "set", self.links[host], "up")
        if host == 1:  # routes over a link go with it
            _ip("-n", self.names[0], "route", "replace", "default", "via", self.address(1))

    def start(self, host: int, command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
        """Start a process there, in a group of its own, which `close` ends."""
        started = subprocess.Popen(
            [IP, "netns", "exec", self.names[host], *command], text=True, start_new_session=True, **options
        )
        self.started.append(started)
        return started

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End what runs on them, and take them away."""
        for name in self.names:
            pids = _ip("netns", "pids", name).split()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        for process in self.started:
            process.wait()
        for name in self.names:
            _ip("netns", "del", name)


def _ip(*words: str) -> str:
    return subprocess.run([IP, *words], check=True, capture_output=True, text=True).stdout
