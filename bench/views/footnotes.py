# SPDX-License-Identifier: Apache-2.0
"""What stands under a table of rows: the columns' definitions, the noise floors, the warnings. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bench.judge.checkpoints import Checkpoint, apart
from bench.judge.rows import Row
from bench.records.cell import REFERENCE
from bench.units import human_bytes, significant
from bench.views.cells import marked, named
from bench.views.columns import COLUMNS, VIEWS
from bench.views.warnings import Warnings

INTERVAL = "± is half of the 95 % interval."
DEFINITIONS = (
    ({"memory"}, "Memory is above the process before loading; peak is while generating."),
    (
        {"memory"},
        "peak memory = weights, metadata among them, + KV + workspace + runtime + unexplained; peak in load is apart.",
    ),
    (
        {"throughput"},
        "prefill: prompt tokens / s to the first logits; decode: (tokens - 1) / s from first to last token; batch 1.",
    ),
    (
        {"decode_share"},
        "of bandwidth: bytes a step must read (weights, cache) x steps / s; of what the device's memory sustains.",
    ),
    (
        {"prefill_share"},
        "of matrix rate: operations of a token's linear layers x tokens / s; of the fastest product in its type.",
    ),
    (
        {"decode_share", "prefill_share"},
        "What the device can do, before and after each run: `bench show --columns roof`.",
    ),
    (
        {"prefill_j", "decode_j"},
        "J/token: counted joules / tokens of a window, idling included; idle W: loaded, nothing asked.",
    ),
    ({"divergence"}, "KL: mean KL(16-bit reference || this) per token, in nats, of this very model on this device."),
    (
        {"divergence"},
        "KL to fp32: KL(fp32 || this), the fp32 row being the same for all engines: `bench compare --across backend`.",
    ),
    (
        {"quality"},
        "accuracy: mean over the tasks; the same items at every precision. Compare rows with `bench compare`.",
    ),
)
"""What a column, or any column of a suite, means."""


def footnotes(rows: Sequence[Row], columns: Sequence[str] = VIEWS["default"]) -> list[str]:
    """Definitions of these columns, one sentence each, what speeds and distances hold, and what warnings mean."""
    shown = {COLUMNS[name].suite if name in COLUMNS else "memory" for name in columns}
    about = {*columns, *shown}
    texts = [text for wanted, text in DEFINITIONS if wanted & about]
    if "memory" in shown:  # the first two share a line
        texts[0] = f"{INTERVAL} {texts[0]}"
    else:
        texts.insert(0, INTERVAL)
    moves = variability(rows) if "throughput" in shown else []
    floors = _floors(rows) if "divergence" in shown else []
    return [*checkpoint_notes(rows), *texts, *moves, *floors, *Warnings(rows=rows, columns=columns).lines()]


def checkpoint_notes(rows: Sequence[Row]) -> list[str]:
    """What the marks stand for where several weights share a name, in one line; none where every name is alone."""
    told = [f"{marked(found.mark)} {_files(found)}" for found in apart(row.checkpoint for row in rows) if found.mark]
    return [f"One name, several models: {'; '.join(told)}."] if told else []


def _files(found: Checkpoint) -> str:
    """`is model.safetensors of 1.21 MiB, first measured 2026-11-28 23:55 UTC`."""
    if not found.files and not found.source:
        return "was never loaded"
    what = found.source
    if found.files:
        largest = max(found.files, key=lambda file: file[1])
        more = f" and {len(found.files) - 1} more files" if len(found.files) > 1 else ""
        what = f"{largest[0]} of {human_bytes(largest[1])}{more}"
    when = found.since[:16].replace("T", " ")
    return f"is {what}, first measured {when} UTC"


def variability(rows: Sequence[Row]) -> list[str]:
    """What the ± of speeds holds beyond the repeats: how far each machine's own speed moves between moments."""
    seen: dict[str, None] = {}
    for row in rows:
        record = row.records.get("throughput")
        if record is None or record.variability is None or record.before.roof is None:
            continue
        if not record.variability.shares:
            continue  # no roof was measured, so nothing is known of how it moves
        shares, within = _shares(record.variability.shares), _shares(record.variability.within)
        text = f"± of speeds includes how far this machine's own rates move between moments ({row.device}, "
        seen[f"{text}{record.before.roof.engine}, {record.variability.looks} looks): {shares}."] = None
        if within:
            seen[f"Ratios of one run's rows include what moves within a run: {within}."] = None
    return list(seen)


def _shares(of: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {share:.1%}" for name, share in of.items())


def _floors(rows: Sequence[Row]) -> list[str]:
    """What no distance can be told from: each row against itself read otherwise, and how far fp32 is."""
    lines = []
    for row in rows:
        found = row.figures()
        ways = (("kld_floor", "against itself in batches of 4"), ("kld_floor_decode", "token by token"))
        parts = [f"{significant(found[name].value, 2)} {way}" for name, way in ways if name in found]
        if parts and row.precision == REFERENCE and "kld_fp32_mean" in found:
            parts.append(f"{significant(found['kld_fp32_mean'].value, 2)} from fp32")
        if "kld_weights" in found:
            parts.append(f"{significant(found['kld_weights'].value, 2)} of its weights alone")
        if parts:
            lines.append(f"noise floor, {named(row)} ({row.backend} {row.scheme}): KL {', '.join(parts)}")
    return lines
