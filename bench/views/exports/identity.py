# SPDX-License-Identifier: Apache-2.0
"""Which precision a figure is of, told to formats that have no field for it: the agreed keys, here and nowhere else.

Every value is text, for that is all that Every Eval Ever takes; what no record tells is `unknown`. Pure.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import defaultdict
from collections.abc import Mapping, Sequence

from bench.catalog.model import Model
from bench.judge.recommend import contradiction
from bench.judge.rows import Row
from bench.records.cell import KV, Precision, Weights
from bench.records.record import Record

WEIGHT_PRECISION, KV_PRECISION, BITS, QUANTIZER, CENSUS = KEYS = (
    "weight_precision", "kv_precision", "bits_per_weight", "quantizer", "census_sha256",
)  # fmt: skip
"""The agreed keys: the scheme; the type of the cache; bits that one linear weight was found to take, its scales
included; what quantized and in which version; SHA-256 of what was counted in the loaded weights."""
UNKNOWN = "unknown"
QUANTIZERS = {
    "bnb": "bitsandbytes", "gguf": "llama_cpp_python", "gptq": "gptqmodel", "torchao": "torchao",
    "ct": "compressed_tensors", "ov": "nncf",
}  # fmt: skip
"""The package that quantizes, by the first word of a scheme's name."""
ALWAYS = {"llamacpp": "fp16"}
"""What an engine's cache was before its records said it."""
KEPT_IN = "kept_in"
"""The label of `kv_bytes` that says it."""
REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
"""A repository of the Hub: an owner and a name."""
UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


def agreed(row: Row) -> dict[str, str]:
    """The agreed keys of a row."""
    memory = row.records.get("memory")
    found = memory.measurement("linear_bits") if memory else None
    return {
        WEIGHT_PRECISION: row.scheme,
        KV_PRECISION: _kept_in(row),
        BITS: f"{found.values[0]:.6g}" if found else UNKNOWN,
        QUANTIZER: _quantizer(row),
        CENSUS: _census(memory) if memory else UNKNOWN,
    }


def _kept_in(row: Row) -> str:
    """What keys and values were kept in: as asked, as counted, or what older records of an engine always had."""
    memory = row.records.get("memory")
    found = memory.measurement("kv_bytes") if memory else None
    counted = found.labels.get(KEPT_IN) if found else None
    asked = next((str(record.cell.settings[KV]) for record in row.records.values() if KV in record.cell.settings), "")
    return asked or (str(counted) if counted else ALWAYS.get(row.backend, UNKNOWN))


def _quantizer(row: Row) -> str:
    """`bitsandbytes 0.50.2`, `as published` where the checkpoint came so, `none` at 16 and 32 bits."""
    if row.precision not in {Precision.INT8, Precision.INT4}:
        return "none"
    record = next(iter(row.records.values()))
    if record.provenance and record.provenance.is_stored_in(row.scheme):
        return "as published"
    package = QUANTIZERS.get(row.scheme.split("-")[0])
    return f"{package} {record.versions.packages.get(package, UNKNOWN)}" if package else UNKNOWN


def _census(memory: Record) -> str:
    """SHA-256 of what the census counted, as canonical JSON: bytes by storage type, linear layers by kernel, bits."""
    counted = [
        [m.name, {name: m.labels[name] for name in ("storage", "kernel") if name in m.labels}, list(m.values)]
        for m in memory.measurements
        if m.name in {"weights_bytes", "weights_part_bytes", "linear_quantized", "linear_bits", "kernels"}
    ]
    if not counted:
        return UNKNOWN
    counted.sort(key=lambda one: json.dumps(one, sort_keys=True))
    return hashlib.sha256(json.dumps(counted, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def told(row: Row, record: Record) -> dict[str, str]:
    """The agreed keys, and what else a reader needs who meets the figure without its record."""
    source = record.provenance
    stored = f", stored as {source.stored_as}" if source and source.stored_as else ""
    return agreed(row) | {
        "engine": row.backend,
        "device": row.device,
        "weights": f"{source.source}{stored}" if source else UNKNOWN,
        "weights_revision": (source.revision if source else None) or UNKNOWN,
        "record": f"{record.run}/{record.id}",
    }


def model_id(row: Row, models: Mapping[str, Model]) -> str:
    """The repository of the Hub that a row's model is, `local/NAME` of one that has none."""
    entry = models.get(row.model)
    repo = None
    if row.weights is Weights.HUB:
        repo = next(iter(row.records.values())).cell.source
    elif row.weights is not Weights.LOCAL and entry:
        repo = entry.repo
    return repo if repo and REPOSITORY.fullmatch(repo) else f"local/{row.model}"


def labels(rows: Sequence[Row]) -> dict[Row, str]:
    """For each row a name that no other row of its model has, and that can be a file's: engine and scheme.

    Where those leave rows alike, what tells them apart follows: weights, where they come from, limit, device.
    """
    names = {row: f"{row.backend}-{row.scheme}" for row in rows}
    for part in (_mark, _source, _limit, _way, _device):
        alike: dict[tuple[str, str], list[Row]] = defaultdict(list)
        for row, name in names.items():
            alike[row.model, name].append(row)
        for group in alike.values():
            if len({part(row) for row in group}) > 1:
                names |= {row: f"{names[row]}-{part(row)}" for row in group if part(row)}
    return {row: component(name) for row, name in names.items()}


def _mark(row: Row) -> str:
    return row.told_apart[:8]


def _source(row: Row) -> str:
    return str(row.weights)


def _limit(row: Row) -> str:
    return f"{row.limit}-bytes" if row.limit else ""


def _way(row: Row) -> str:
    return row.way.replace(", ", "-").replace(" ", "-")


def _device(row: Row) -> str:
    return row.device


def component(text: str) -> str:
    """Text as one part of a path on any system: nothing of it leads elsewhere or is hidden."""
    return UNSAFE.sub("_", text).strip(".")[:120] or "_"


def why_not(row: Row) -> str:
    """Why no score of this row is told to others, empty where it is."""
    if row.weights is Weights.REMOTE:
        return "served: nobody knows its precision"
    if row.means_nothing:
        return "random weights say nothing about quality"
    return contradiction(row, row.figures().get("linear_bits"))
