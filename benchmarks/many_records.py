# SPDX-License-Identifier: Apache-2.0
"""Many records made of the committed ones, for what must hold at a hundred thousand: nothing in them was measured.

python -m benchmarks.many_records FOLDER --records 100000

The committed records, with the ends of their runs, are copied again and again: each copy is one evening of one of eight
devices, so a row has a history as long as there were evenings. A copy has ids, dates and runs of its own; what its run
saw of the device is moved by up to 3 %; every twentieth evening brings other versions of packages, so that comparisons
have to choose their pairs; in one copy of fifty every long list of samples, item values among them, is ten times as
long. `composition` says what came of it.
"""

import argparse
import json
import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.paths import RESULTS

DEVICES = 8
EVENINGS_A_VERSION = 20
LONG_EACH, LONG_TIMES, LONG_FROM = 50, 10, 40
MOVED = 0.03
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|\d{8}T\d{6}Z")


def make(folder: Path, count: int, source: Path = RESULTS) -> int:
    """Write at least `count` records, whole copies of the source's; returns how many."""
    files = sorted([*source.glob("*/*/*/*/*.json"), *source.glob("*/runs/*.json")])
    made = copy = 0
    while made < count:
        for path in files:
            parts = path.relative_to(source).parts
            if made >= count and parts[1] != "runs":
                continue
            made += parts[1] != "runs"
            _write(folder, path, parts, copy)
        copy += 1
    return made


def _write(folder: Path, path: Path, parts: tuple[str, ...], copy: int) -> None:
    """One file of one copy."""
    evening, device = divmod(copy, DEVICES)
    name = f"{parts[0]}-{device}"
    data = json.loads(path.read_text(encoding="utf-8"))
    data["run"] = f"{_dated(data['run'], evening)}{copy:04x}"
    for key in ("started", "ended"):
        if key in data:
            data[key] = _dated(data[key], evening)
    for key in ("before", "after"):
        _moved(data[key], random.Random(f"{data['run']} {key if parts[1] == 'runs' else 'before'}"))
    if "cell" in data:
        data["cell"]["device"] = data["machine"]["device"] = name
        data["id"] = f"{(int(data['id'], 16) + copy * 0x9E3779B1) % 2**32:08x}"
        packages = data["versions"]["packages"]
        data["versions"]["packages"] = {k: f"{v}.{evening // EVENINGS_A_VERSION}" for k, v in packages.items()}
        if copy % LONG_EACH == LONG_EACH - 1 and data["cell"]["suite"] in {"divergence", "quality"}:
            data["measurements"] = [_longer(measurement) for measurement in data["measurements"]]
        file = f"{data['started'].replace('-', '').replace(':', '')}-{data['id']}.json"
    else:
        data["device"] = name
        file = f"{data['ended'].replace('-', '').replace(':', '')}-{data['run']}.json"
    to = folder.joinpath(name, *parts[1:-1], file)
    to.parent.mkdir(parents=True, exist_ok=True)
    lines = ",\n ".join(f"{json.dumps(key)}: {json.dumps(value, ensure_ascii=False)}" for key, value in data.items())
    to.write_text("{\n " + lines + "\n}\n", encoding="utf-8")


def _dated(text: str, evening: int) -> str:
    """The same so many days earlier."""
    found = TIME.match(text)
    assert found, f"{text} begins with no time"
    form = "%Y-%m-%dT%H:%M:%SZ" if "-" in found[0] else "%Y%m%dT%H%M%SZ"
    then = datetime.strptime(found[0], form).replace(tzinfo=UTC) - timedelta(days=evening)
    return then.strftime(form) + text[len(found[0]) :]


def _moved(condition: dict, draw: random.Random) -> None:
    """What was seen of the device, faster or slower by one factor."""
    factor = 1 + draw.uniform(-MOVED, MOVED)
    condition["available_bytes"] = round(condition["available_bytes"] * factor)
    if roof := condition.get("roof"):
        for key in ("copy_bytes_per_s",):
            roof[key] = [value * factor for value in roof[key]]
        for key in ("read_bytes_per_s", "matrix_per_s"):
            roof[key] = {kind: [value * factor for value in values] for kind, values in roof.get(key, {}).items()}


def _longer(measurement: dict) -> dict:
    """Ten times the samples, each item under a name of its own."""
    values, labels = measurement["values"], dict(measurement["labels"])
    items = len(labels["right"]) if "right" in labels else len(values)
    if len(values) < LONG_FROM and "window_tokens" not in labels:
        return measurement
    for key, value in labels.items():
        if isinstance(value, list) and len(value) == items:
            labels[key] = value * LONG_TIMES
        elif key == "item_hashes":
            names = [value[i + 1 : i + 10] for i in range(0, len(value), 10)]
            labels[key] = "".join(f"{time}{name}" for time in range(LONG_TIMES) for name in names)
        elif key in {"digest", "documents"}:
            labels[key] = value[::-1]
    labels.pop("looks", None)
    return measurement | {"values": values * LONG_TIMES, "labels": labels}


def composition(folder: Path) -> str:
    """What the folder holds, in one line."""
    paths = list(folder.glob("*/*/*/*/*.json"))
    sizes = [path.stat().st_size for path in paths]
    rows = {path.parent.parent for path in paths}
    histories = Counter(path.parent for path in paths)
    runs = len(list(folder.glob("*/runs/*.json")))
    long = sum(size > 300_000 for size in sizes)
    devices = {path.parts[len(folder.parts)] for path in paths}
    return (
        f"{len(paths):,} records of {len(devices)} devices, {len(rows):,} rows, "
        f"histories of up to {max(histories.values())} records, {runs:,} runs; {sum(sizes) / 1e6:,.0f} MB, the longest "
        f"record {max(sizes) / 1e6:.1f} MB, {long:,} above 0.3 MB"
    )


def main() -> None:
    """Write them and say what they are."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--records", type=int, default=100_000)
    asked = parser.parse_args()
    make(asked.folder, asked.records)
    print(composition(asked.folder))


if __name__ == "__main__":
    main()
