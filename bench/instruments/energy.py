# SPDX-License-Identifier: Apache-2.0
"""Energy from counters through the `zeus` package: NVIDIA's total-energy counter, RAPL, Apple's.

Differences of counters, never power samples. A window that proves nothing has a reason instead of a number: shorter
than counters are updated, no energy counted, or a counter that ran backwards (RAPL wraps around).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

LEAST_WINDOW_S = 0.5
"""NVML updates its energy counter every 20 to 100 ms: shorter windows are off by more than a tenth."""
INSTALL = "zeus is not installed: pip install -e '.[energy]'"
NO_COUNTER = "no counter on this device"
VIRTUAL = "a virtual device uses none"


@dataclass(frozen=True, kw_only=True)
class Window:
    """Energy of one stretch of work."""

    seconds: float
    joules: float | None
    reason: str = ""
    """Why there is no figure, empty if there is one."""


class Meter:
    """Counters of one device, read at the ends of a window."""

    def __init__(self, monitor: Any, device: str) -> None:
        self.monitor, self.device = monitor, device
        self.name = f"zeus {'NVML' if device == 'cuda' else 'SoC' if device == 'mps' else 'RAPL'}"

    def window(self, work: Callable[[], object]) -> Window:
        """Do the work between two readings."""
        self.monitor.begin_window("bench", sync_execution=self.device == "cuda")
        try:
            work()
        except BaseException:
            self.monitor.end_window("bench", sync_execution=False, cancel=True)
            raise
        found = self.monitor.end_window("bench", sync_execution=self.device == "cuda")
        return judged(float(found.time), self._joules(found))

    def _joules(self, found: Any) -> float | None:
        """Of the device and, on a CPU, its memory where RAPL counts it apart."""
        if self.device == "cuda":
            return float(sum(found.gpu_energy.values())) if found.gpu_energy else None
        if self.device == "mps":
            soc = found.soc_energy
            parts = [getattr(soc, name, None) for name in ("cpu_total_mj", "gpu_mj", "dram_mj")]
            known = [part for part in parts if part is not None]
            return sum(known) / 1000 if known else None
        if not found.cpu_energy:
            return None
        return float(sum(found.cpu_energy.values()) + sum((found.dram_energy or {}).values()))


def judged(seconds: float, joules: float | None) -> Window:
    """A window with its figure, or with why it has none."""
    reason = ""
    if joules is None:
        reason = NO_COUNTER
    elif seconds < LEAST_WINDOW_S:
        reason = f"the window of {seconds:.2f} s is shorter than counters can tell"
    elif joules < 0:
        reason = "the counter ran backwards"
    elif joules == 0:
        reason = "the counter did not move"
    return Window(seconds=seconds, joules=None if reason else joules, reason=reason)


def open_meter(device: str, clock: str) -> Meter | str:
    """The counters of a device kind, or why there are none. Imports zeus, which takes about a second."""
    if clock == "virtual":
        return VIRTUAL
    try:
        from zeus.monitor import ZeusMonitor
    except ImportError:
        return INSTALL
    try:
        indices = [0] if device == "cuda" else []
        monitor = ZeusMonitor(gpu_indices=indices, cpu_indices=None if device == "cpu" else [])
    except Exception as error:  # noqa: BLE001 - drivers and permissions fail in many ways; none costs the cell
        return f"{NO_COUNTER}: {type(error).__name__}: {error}".split("\n")[0][:160]
    there = {"cuda": monitor.gpu_indices, "cpu": monitor.cpu_indices, "mps": monitor.soc_is_present}[device]
    if not there:
        return NO_COUNTER + (" (RAPL is absent, or only root may read it)" if device == "cpu" else "")
    return Meter(monitor, device)


def idle(meter: Meter, seconds: float) -> Window:
    """What the device takes while nothing is asked of it."""
    return meter.window(lambda: time.sleep(seconds))
