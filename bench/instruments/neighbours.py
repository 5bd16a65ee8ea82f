# SPDX-License-Identifier: Apache-2.0
"""What else runs here and what slows the machine down: other processes, swap, battery, clocks, limits. Only reads.

Only the names of other processes are kept, because command lines can contain secrets.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType

import psutil

from bench.instruments import container

CPUS = Path("/sys/devices/system/cpu")
NAMED = 3
"""How many other processes are named."""
LEAST = 0.02
"""A process below this share of one CPU is not named."""
UNSEEN = 0.1
"""Unaccounted work of fewer CPUs than this is taken for rounding: times are counted in clock ticks."""


@dataclass(frozen=True)
class Snapshot:
    """CPU seconds that every process had used at one moment."""

    at: float
    used: dict[tuple[int, float], tuple[str, float]]
    """By process id and start: name and seconds."""
    ended: dict[tuple[int, float], float] = field(default_factory=dict)
    """The same of each process's children that have ended."""
    busy: float | None = None
    """Seconds that the CPUs which this process may use have worked for anybody, None where the system does not tell."""


def snapshot() -> Snapshot:
    """Look at every process this one may see; about 10 ms for a hundred."""
    used, ended = {}, {}
    for process in psutil.process_iter(["pid", "name", "create_time", "cpu_times"]):
        info = process.info
        if info["cpu_times"] is not None:
            spent, key = info["cpu_times"], (info["pid"], info["create_time"])
            used[key] = (info["name"] or "?", spent.user + spent.system)
            ended[key] = getattr(spent, "children_user", 0.0) + getattr(spent, "children_system", 0.0)
    return Snapshot(time.monotonic(), used, ended, _busy())


def _busy() -> float | None:
    """CPU seconds of all programs, including kernel work for them; interrupts and a hypervisor's share do not count."""
    if sys.platform != "linux":  # elsewhere a child's time is its parent's alone
        return None
    usable = os.sched_getaffinity(0)
    with contextlib.suppress(OSError, RuntimeError):
        each = enumerate(psutil.cpu_times(percpu=True))
        return sum(cpu.user + cpu.nice + cpu.system for index, cpu in each if index in usable)
    return None


def own() -> set[int]:
    """This process, its ancestors, and everything that it and its parent started."""
    me = psutil.Process()
    family = {me.pid}
    with contextlib.suppress(psutil.Error):
        parents = me.parents()
        family |= {process.pid for process in parents}
        for root in [me, *parents[:1]]:
            family |= {child.pid for child in root.children(recursive=True)}
    return family


def others(since: Snapshot, now: Snapshot, mine: set[int]) -> tuple[float, dict[str, float]]:
    """CPUs that other processes used in between, and the names of the busiest with their share of one CPU.

    Those that ended meanwhile, as a compiler's do, and those of other containers are seen by what the CPUs worked and
    no living process of ours or theirs accounts for.
    """
    seconds = max(now.at - since.at, 1e-9)
    shares: dict[str, float] = {}
    for key, (name, spent) in now.used.items():
        if key[0] not in mine:
            used = max(0.0, spent - since.used.get(key, (name, 0.0))[1])
            shares[name] = shares.get(name, 0.0) + used / seconds
    if now.busy is not None and since.busy is not None:
        seen = sum(max(0.0, spent - since.used.get(key, ("", 0.0))[1]) for key, (_, spent) in now.used.items())
        ours = sum(spent - since.ended.get(key, 0.0) for key, spent in now.ended.items() if key[0] in mine)
        if (hidden := (now.busy - since.busy - seen - ours) / seconds) > UNSEEN:
            shares["ended or hidden"] = hidden
    ranked = sorted(shares.items(), key=lambda item: -item[1])[:NAMED]
    return round(sum(shares.values()), 3), {name: round(share, 3) for name, share in ranked if share >= LEAST}


def niceness() -> int | None:
    """This process's, None where the platform has none."""
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else None


def unniced() -> int | None:
    """Come back to niceness 0 where that is allowed; returns what it is now, None where the platform has none.

    A process inherits it from who starts it: Ray's workers, and all that they start, run at 15.
    """
    if (niceness() or 0) > 0:
        with contextlib.suppress(OSError):  # only root, and who has RLIMIT_NICE, may go back
            os.setpriority(os.PRIO_PROCESS, 0, 0)
    return niceness()


def host() -> dict[str, object]:
    """Fields of a `Condition` about the host. What the platform does not report is left out."""
    found: dict[str, object] = {}
    with contextlib.suppress(OSError, RuntimeError, psutil.Error):
        swap = psutil.swap_memory()
        found |= {"swap_used_bytes": int(swap.used), "swapped_in_bytes": int(swap.sin)}
        found["swapped_out_bytes"] = int(swap.sout)
    with contextlib.suppress(AttributeError, OSError):
        battery = psutil.sensors_battery()
        found["on_battery"] = None if battery is None else not battery.power_plugged
    with contextlib.suppress(AttributeError, OSError):
        temperatures = [s.current for sensors in psutil.sensors_temperatures().values() for s in sensors]
        found["temperature_c"] = max(temperatures, default=None)
    governor, driver = (container.text(CPUS / "cpu0/cpufreq" / name) for name in ("scaling_governor", "scaling_driver"))
    if governor:
        found["governor"] = f"{governor} ({driver})" if driver else governor
    counts = [container.text(path) for path in CPUS.glob("cpu[0-9]*/thermal_throttle/package_throttle_count")]
    if counts:
        found["throttle_count"] = max(int(text) for text in counts if text)
    return found | _container()


def _container() -> dict[str, object]:
    """The strictest CPU quota of this process's control groups, and how often it held them back."""
    quota = container.quota()
    return {} if quota is None else {"container_cpus": quota.cpus, "container_throttled": quota.throttled}


REASONS = {
    0x4: "power cap", 0x8: "hardware slowdown", 0x20: "thermal slowdown", 0x40: "hardware thermal slowdown",
    0x80: "power brake",
}  # fmt: skip
"""NVML's clock event reasons that mean less speed than the card can give; idle and clocks set by hand do not."""


def gpu(nvml: ModuleType, handle: object, mine: set[int], *, computing: bool = False) -> dict[str, object]:
    """Fields of a GpuCondition; what the driver does not tell is left out.

    `computing` says that one of `mine` computes there: if none of them is listed, the driver uses the numbers of
    another namespace, as it may in a container, and one of those listed is ours.
    """
    found: dict[str, object] = {}

    def ask(name: str, call: str, *args: int) -> None:
        with contextlib.suppress(nvml.NVMLError, AttributeError):
            found[name] = int(getattr(nvml, call)(handle, *args))

    ask("sm_mhz", "nvmlDeviceGetClockInfo", 1)  # NVML_CLOCK_SM
    ask("temperature_c", "nvmlDeviceGetTemperature", 0)  # NVML_TEMPERATURE_GPU
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        bits = int(nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        found["reasons"] = tuple(text for bit, text in REASONS.items() if bits & bit)
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        found["used_bytes"] = int(nvml.nvmlDeviceGetMemoryInfo(handle).used)
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        found["busy"] = int(nvml.nvmlDeviceGetUtilizationRates(handle).gpu) / 100
    with contextlib.suppress(nvml.NVMLError, AttributeError):
        listed = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
        others = [process for process in listed if process.pid not in mine]
        if computing and others and len(others) == len(listed):
            return found | {"others": len(others) - 1}
        found["others"] = len(others)
        found["others_bytes"] = sum(int(process.usedGpuMemory or 0) for process in others)
    return found


def interval(seconds: float = 0.2) -> tuple[Snapshot, Snapshot]:
    """Two snapshots a short time apart, for when there is no earlier one to compare with."""
    first = snapshot()
    time.sleep(seconds)
    return first, snapshot()
