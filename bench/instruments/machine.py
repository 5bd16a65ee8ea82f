# SPDX-License-Identifier: Apache-2.0
"""What ran it: the device and its slug, the machine, its state now, and the versions of what measures."""

from __future__ import annotations

import functools
import importlib.metadata
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil

from bench.errors import UserError
from bench.instruments import container, neighbours
from bench.instruments.distributions import is_installed
from bench.instruments.memory import host_free_bytes
from bench.instruments.nvml import visible_gpu
from bench.paths import ROOT
from bench.records.record import Versions
from bench.records.surroundings import Condition, GpuCondition, Machine

FLAGS = {
    "sse4_2", "avx", "avx2", "fma", "f16c", "avx512f", "avx512_vnni", "avx512_bf16", "avx512_fp16", "avx_vnni",
    "amx_tile", "amx_bf16", "amx_int8", "asimd", "asimddp", "bf16", "i8mm", "sve", "sve2",
}  # fmt: skip
"""Instruction sets that inference libraries choose their kernels by."""
LEVELS = (("amx_bf16", "amx"), ("avx512_bf16", "avx512bf16"), ("avx512f", "avx512"), ("avx2", "avx2"), ("sve", "sve"))
PACKAGES = ("pydantic", "psutil", "nvidia-ml-py")
NAMELESS = "NVIDIA GPU"
"""A GPU whose driver does not tell its name."""


def device_kind() -> str:
    """`cuda` where the NVIDIA driver lists a GPU, `mps` on Apple silicon, else `cpu`. Imports no framework."""
    if gpu() is not None:
        return "cuda"
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return "mps"
    return "cpu"


def computing_on(kind: str) -> dict[str, str]:
    """The environment in which a worker sees the device that was described and no other."""
    if kind == "cpu":
        return {"CUDA_VISIBLE_DEVICES": ""}
    found = gpu() if kind == "cuda" else None
    return {"CUDA_VISIBLE_DEVICES": found["uuid"]} if found and found.get("uuid") else {}


def available(kind: str) -> bool:
    """Whether this machine has a device of that kind."""
    return kind in {"cpu", device_kind()} or (kind == "cuda" and gpu() is not None)


VIRTUAL, UNIT = "BENCH_FAKE_DEVICES", "BENCH_DEVICE"
"""Variables of the environment: how many virtual cards a test of the fake engine has, and which one was chosen."""
VIRTUAL_BYTES = 8 * 10**9
TOGETHER = "+"
"""Between the names of cards that measure as one."""


def cards() -> list[str]:
    """The NVIDIA GPUs that this process may see, each by what CUDA_VISIBLE_DEVICES would call it alone."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if virtual := int(os.environ.get(VIRTUAL, "0")):
        every = [f"GPU-virtual-{index}" for index in range(virtual)]
    else:
        import pynvml

        try:
            pynvml.nvmlInit()
            every = [str(index) for index in range(_told(pynvml, "nvmlDeviceGetCount") or 0)]
        except pynvml.NVMLError:
            return []
    return every if shown is None else [name.strip() for name in shown.split(",") if name.strip() not in {"", "-1"}]


def choose(name: str) -> None:
    """Let this process, and all that it starts, see one card alone, as `cuda:1`.

    `cuda:0+cuda:1` are two that measure as one. Raises UserError.
    """
    there, parts = cards(), name.split(TOGETHER)
    if os.environ.get(UNIT) == name and len(there) == len(parts):
        return
    known = {f"cuda:{number}": card for number, card in enumerate(there)}
    for part in parts:
        if part not in known:
            has = ", ".join(known) or f"no NVIDIA GPU; --device {device_kind()}"
            raise UserError(f"this machine has no {part}", f"it has {has}")
    os.environ["CUDA_VISIBLE_DEVICES"], os.environ[UNIT] = ",".join(map(known.__getitem__, parts)), name
    gpu.cache_clear()


def spread() -> int:
    """Over how many cards a model is spread, 1 where one measures alone."""
    return len(os.environ.get(UNIT, "").split(TOGETHER))


@functools.cache
def gpu() -> dict[str, Any] | None:
    """Name, memory and driver of the first visible NVIDIA GPU, or of those that measure as one; None without one.

    A driver may refuse any one question: boards whose GPU shares the host's memory tell no memory of its own. What is
    not told is None, and the GPU is there all the same.
    """
    each = _every_card()
    if len(each) < 2:
        return next(iter(each), None)
    names, memory, uuids = ([one[what] for one in each] for what in ("name", "memory_bytes", "uuid"))
    return each[0] | {
        "name": f"{len(each)}x {names[0]}" if len(set(names)) == 1 else " + ".join(names),
        "memory_bytes": None if None in memory else sum(memory),
        "uuid": None if None in uuids else ",".join(uuids),
    }


def _every_card() -> list[dict[str, Any]]:
    """Those that measure as one, each with its own answers."""
    return [found for position in range(spread()) if (found := _card(position)) is not None]


def _card(position: int) -> dict[str, Any] | None:
    """One of the visible cards."""
    if os.environ.get(VIRTUAL):
        found = {"name": "Virtual GPU", "memory_bytes": VIRTUAL_BYTES, "driver": None, "cuda": None}
        return found | {"uuid": cards()[position]} if position < len(cards()) else None
    import pynvml

    try:
        pynvml.nvmlInit()
        if _told(pynvml, "nvmlDeviceGetCount") == 0:
            return None
        handle = visible_gpu(pynvml, position)
    except pynvml.NVMLError:
        return None
    if handle is None:
        return None
    memory, cuda = _told(pynvml, "nvmlDeviceGetMemoryInfo", handle), _told(pynvml, "nvmlSystemGetCudaDriverVersion")
    return {
        "name": _told(pynvml, "nvmlDeviceGetName", handle) or NAMELESS,
        "uuid": _told(pynvml, "nvmlDeviceGetUUID", handle),
        "memory_bytes": None if memory is None else int(memory.total),
        "driver": _told(pynvml, "nvmlSystemGetDriverVersion"),
        "cuda": None if cuda is None else f"{cuda // 1000}.{cuda % 1000 // 10}",
    }


def _told(nvml: ModuleType, question: str, *about: object) -> Any:
    """What the driver answers, None where it refuses or its bindings do not know the question."""
    try:
        found = getattr(nvml, question)(*about)
        return found.decode() if isinstance(found, bytes) else found
    except (nvml.NVMLError, AttributeError):
        return None


def describe(kind: str) -> Machine:
    """The machine, as the device of that kind sees it."""
    cpu, flags = _cpu()
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    total = psutil.virtual_memory().total
    limit = container.limit_bytes()
    found = gpu() if kind == "cuda" else None
    name = found["name"] if found else cpu
    level = next((label for flag, label in LEVELS if flag in flags), platform.machine().lower())
    slug = f"{kind}-{name}" if kind != "cpu" else f"cpu-{name}-{usable}c-{level}"
    return Machine(
        device=_slug(slug),
        kind=kind,
        name=name,
        os=f"{platform.system()} {_distribution()}".strip(),
        kernel=platform.release(),
        python=platform.python_version(),
        cpu=cpu,
        cpu_flags=tuple(sorted(flags)),
        logical_cpus=usable,
        memory_bytes=min(total, limit) if limit else total,
        gpu_memory_bytes=found["memory_bytes"] if found else None,
        driver=found["driver"] if found else None,
        cuda=found["cuda"] if found else None,
        unit=os.environ.get(UNIT) if found else None,
    )


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def lock_names(described: Machine) -> list[str]:
    """What one harness at a time may measure on: each very GPU, else the machine's device."""
    found = gpu() if described.kind == "cuda" else None
    each = [(described.device, found.get("uuid") if found else None)]
    if spread() > 1:
        each = [(_slug(f"cuda-{one['name']}"), one["uuid"]) for one in _every_card()]
    return sorted({f"{device}-{uuid.lower()}" if uuid else device for device, uuid in each})


def lock_name(described: Machine) -> str:
    """The same, as one name."""
    return " ".join(lock_names(described))


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release().get("PRETTY_NAME", "")
    except OSError:
        return platform.mac_ver()[0]


@functools.cache
def _cpu() -> tuple[str, frozenset[str]]:
    """Model name and the instruction sets of FLAGS it has."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        brand = platform.processor() or platform.machine()
        if sys.platform == "darwin":
            done = subprocess.run(
                ["/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string"], check=False, capture_output=True, text=True
            )
            brand = done.stdout.strip() or brand
        return brand, frozenset()
    fields = dict(re.findall(r"^(model name|flags|Features|CPU implementer)\s*:\s*(.*)$", text, re.MULTILINE))
    name = re.sub(
        r"\((R|TM)\)|\bCPU\b|@.*|\d+-Core Processor|Processor", " ", fields.get("model name", platform.machine())
    )
    flags = (fields.get("flags") or fields.get("Features") or "").split()
    return " ".join(name.split()), frozenset(flags) & FLAGS


def free_bytes(kind: str) -> int:
    """Memory a worker could have now, 0 where that is not known before it starts.

    A GPU whose driver tells no memory of its own shares the host's.
    """
    found = gpu() if kind == "cuda" else None
    if found and found["memory_bytes"] is not None:
        return sum(map(_gpu_free_bytes, _every_card() if spread() > 1 else [found]))
    return 0 if kind == "cuda" and not found else host_free_bytes()


def _gpu_free_bytes(found: dict[str, Any]) -> int:
    """What nobody holds of the GPU now, 0 where the driver does not tell."""
    import pynvml

    try:
        memory = _told(pynvml, "nvmlDeviceGetMemoryInfo", _handle(pynvml, found))
    except pynvml.NVMLError:
        return 0
    return 0 if memory is None else int(memory.free)


def _handle(nvml: ModuleType, found: dict[str, Any]) -> object:
    """The driver's handle of the GPU that was described, of several the first. Raises NVMLError."""
    return nvml.nvmlDeviceGetHandleByUUID(found["uuid"].split(",")[0]) if found["uuid"] else visible_gpu(nvml)


def condition(kind: str = "cpu", since: neighbours.Snapshot | None = None) -> Condition:
    """The machine's state now: with `since`, other processes' use of the CPUs from then on, else over 0.2 s."""
    try:
        load: float | None = os.getloadavg()[0]
    except OSError:
        load = None
    try:
        frequency = psutil.cpu_freq()
    except (OSError, NotImplementedError, AttributeError):
        frequency = None
    return Condition(
        load_1min=round(load, 2) if load is not None else None,
        available_bytes=psutil.virtual_memory().available,
        cpu_mhz=round(frequency.current) if frequency else None,
        **_surroundings(kind, since),
    )


def _surroundings(kind: str, since: neighbours.Snapshot | None) -> dict[str, object]:
    """Fields of a Condition that tell what else runs and what holds the machine back."""
    start, end = (since, neighbours.snapshot()) if since else neighbours.interval()
    mine = neighbours.own()
    used, busiest = neighbours.others(start, end, mine)
    found = {**neighbours.host(), "niceness": neighbours.niceness(), "others_cpu": used, "others": busiest}
    if kind == "cuda" and (here := gpu()):
        import pynvml

        try:
            handle = _handle(pynvml, here)
            found["gpu"] = GpuCondition(**neighbours.gpu(pynvml, handle, mine, computing=since is not None))
        except pynvml.NVMLError:
            found["gpu"] = None
    return found


def versions(suite_sha256: str, packages: Iterable[str]) -> Versions:
    """Versions of this project and of the packages that can change a figure."""
    return Versions(
        bench=importlib.metadata.version("bench") if is_installed("bench") else "unknown",
        git=revision(),
        suite_sha256=suite_sha256,
        packages=installed([*packages, *PACKAGES]),
    )


def installed(packages: Iterable[str]) -> dict[str, str]:
    """Versions of those packages that are installed."""
    return {name: importlib.metadata.version(name) for name in sorted(set(packages)) if is_installed(name)}


@functools.cache
def revision() -> str | None:
    """This checkout's commit, `+` appended if code or data that measure have changed since; None outside git."""
    git = ["git", "-C", str(ROOT)]
    measured_by = ["bench", "suites", "pyproject.toml"]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], check=False, capture_output=True, text=True, timeout=10)
        changed = subprocess.run(
            [*git, "status", "--porcelain", "--", *measured_by], check=False, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    if head.returncode:
        return None
    return head.stdout.strip()[:12] + ("+" if changed.stdout.strip() else "")
