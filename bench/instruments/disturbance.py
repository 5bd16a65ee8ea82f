# SPDX-License-Identifier: Apache-2.0
"""What disturbed a measurement, read from the machine's conditions: caveats with advice. Pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator

from bench.records.record import Caveat
from bench.records.surroundings import READ, Condition, Machine, Roof

DRIFT = 0.10
"""A roof that changed by more than this share between a run's start and its end marks the rows that it holds."""
MEMORY = "memory"
"""The quantity that decoding depends on; the others are types, whose matrix rate reading a prompt depends on."""


def drift(before: Condition, after: Condition, used: Collection[str]) -> Caveat | None:
    """A caveat if one of the quantities that a row uses changed during its run; the worst of them.

    None if all kept their speed, if nobody looked, or if the two looks are not comparable.
    """
    if before.roof is None or after.roof is None:
        return None
    found = {name: moved for name in used if (moved := change(before.roof, after.roof, name)) is not None}
    name = max(found, key=lambda name: abs(found[name]), default="")
    if not name or abs(found[name]) <= DRIFT:
        return None
    quantity = _said(name)
    return Caveat(
        kind="drifted",
        text=f"between its start and its end this run's {quantity} changed by {found[name]:+.0%}",
        advice="the machine was not the same throughout: measure again when it is cool and nobody else uses it",
    )


def _said(name: str) -> str:
    if name.startswith(READ):
        return f"rate of reading {name.removeprefix(READ)} weights"
    return "memory bandwidth" if name == MEMORY else f"{name} matrix rate"


def change(before: Roof, after: Roof, quantity: str) -> float | None:
    """By which share a rate of `Roof.movable` changed; None if a look lacks it or they are not comparable."""
    then, now = before.movable().get(quantity), after.movable().get(quantity)
    return now / then - 1 if then and now and before.comparable(after) else None


def most_changed(before: Roof, after: Roof) -> tuple[str, float]:
    """MEMORY or the type of the rate that changed most, and by which share; nothing where nothing is comparable."""
    found = {name: moved for name in before.quantities() if (moved := change(before, after, name)) is not None}
    return max(found.items(), key=lambda item: abs(item[1]), default=("", 0.0))


BUSY = 0.5
"""Share of the CPUs that others may use as a run begins, or that the load may reach where others are hidden."""


def busy(before: Condition, described: Machine) -> list[Caveat]:
    """A caveat if other work was running when measuring began.

    Other processes' own use tells it; the load average, which still holds the run before, only where that is hidden.
    """
    cpus = described.logical_cpus
    used = before.load_1min if before.others_cpu is None else before.others_cpu
    if used is None or used <= BUSY * cpus:
        return []
    text = f"load was {used:.1f}" if before.others_cpu is None else f"others used {used:.1f}"
    return [
        Caveat(
            kind="busy_machine",
            text=f"{text} on {cpus} CPUs before this run began",
            advice="close other programs and measure again",
        )
    ]


OTHERS = 0.2
"""CPUs that others may use: below this a two-core machine's speed changes by less than it does by itself."""
SWAPPED = 16 << 20
GPU_BUSY = 0.05
"""Share of a moment before a run in which somebody may compute on the GPU; a display's own drawing is below."""


def caveats(before: Condition, after: Condition, machine: Machine) -> list[Caveat]:
    """What else ran and what held the machine back between a run's start and a cell's end."""
    return [Caveat(kind=kind, text=text, advice=advice) for kind, text, advice in _found(before, after, machine)]


def _found(before: Condition, after: Condition, machine: Machine) -> Iterator[tuple[str, str, str]]:
    if after.others_cpu is not None and after.others_cpu > OTHERS:
        named = ", ".join(f"{name} {share:.1f}" for name, share in after.others.items())
        yield (
            "other_processes",
            f"others used {after.others_cpu:.1f} of {machine.logical_cpus} CPUs meanwhile" + (named and f": {named}"),
            "close them and measure again",
        )
    swapped = _grown(before.swapped_in_bytes, after.swapped_in_bytes)
    lost = _grown(before.swapped_out_bytes, after.swapped_out_bytes)
    if max(swapped, lost) > SWAPPED:
        moved = f"{swapped >> 20} MiB came back from swap" if swapped > SWAPPED else f"{lost >> 20} MiB went to swap"
        text = f"{moved} between this run's start and this cell's end"
        yield "swapping", text, "free memory first: what was swapped is neither in the peak nor fast"
    if after.niceness and after.niceness > 0:
        text = f"measured at niceness {after.niceness}: whatever else computed came first"
        yield "niced", text, "start it at niceness 0; nodes of Ray with RAY_worker_niceness=0"
    if after.on_battery:
        yield "on_battery", "the machine ran on battery", "plug it in: most slow down on battery"
    if after.governor and after.governor.startswith("powersave") and "pstate" not in after.governor:
        yield "governor", f"the CPU frequency governor was {after.governor}", "`cpupower frequency-set -g performance`"
    if (count := _grown(before.throttle_count, after.throttle_count)) > 0:
        yield "throttled", f"heat slowed the CPU {count} times meanwhile", "let it cool, and measure with more pauses"
    if (count := _grown(before.container_throttled, after.container_throttled)) > 0:
        quota = f" of {after.container_cpus:g} CPUs" if after.container_cpus else ""
        text = f"the container's quota{quota} stopped this run {count} times"
        yield "container_throttled", text, "give no more --threads than the quota has CPUs"
    yield from _gpu(before, after)


def _gpu(before: Condition, after: Condition) -> Iterator[tuple[str, str, str]]:
    if before.gpu is not None and (before.gpu.busy or 0) > GPU_BUSY:
        text = f"the GPU was {before.gpu.busy:.0%} busy before this run began"
        yield "gpu_busy", text, "wait for who computes on it (the driver may hide them), or choose another GPU"
    if after.gpu is None:
        return
    if after.gpu.others:
        held = f", holding {(after.gpu.others_bytes or 0) >> 20} MiB" if after.gpu.others_bytes else ""
        who = "1 other process computes" if after.gpu.others == 1 else f"{after.gpu.others} other processes compute"
        text = f"{who} on this GPU{held}"
        yield "gpu_shared", text, "end them, or choose another GPU with CUDA_VISIBLE_DEVICES"
    if after.gpu.reasons:
        text = f"the GPU's clocks were held back: {', '.join(after.gpu.reasons)}"
        yield "throttled", text, "let it cool, or raise its power limit"


def _grown(before: int | None, after: int | None) -> int:
    return after - before if before is not None and after is not None else 0
