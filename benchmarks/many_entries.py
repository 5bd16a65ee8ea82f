# SPDX-License-Identifier: Apache-2.0
"""A catalogue of many entries made of the committed one, and seconds of the commands that read it.

python -m benchmarks.many_entries FOLDER [--entries 5000] [--base CHECKOUT]

The entries are copied with names of their own: `--distinct` gives each copy a few more rows in its vocabulary, so that
no two architectures are the same; without it a copy is what a tune of a model is. Commands of both checkouts run in
turns.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import yaml

from bench.paths import CATALOG, ROOT

COMMANDS = (("plan", "--model", "*", "--precision", "fp16,int8,int4"), ("catalog",))
ROUNDS = 3


def make(folder: Path, count: int, *, distinct: bool = False) -> int:
    """Write a catalogue of at least `count` entries; returns how many."""
    folder.mkdir(parents=True, exist_ok=True)
    files = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in sorted(CATALOG.glob("*.yaml"))]
    made = copy = 0
    while made < count:
        for file in files:
            models = [_copied(model, copy, more=copy * distinct) for model in file["models"]]
            family = f"{file['family']}-{copy}"
            text = yaml.safe_dump(file | {"family": family, "models": models}, sort_keys=False, allow_unicode=True)
            (folder / f"{family}.yaml").write_text(text, encoding="utf-8")
            made += len(models)
        copy += 1
    return made


def _copied(model: dict, copy: int, more: int) -> dict:
    """One entry under another name, what it refers to too."""
    found = model | {"name": f"{model['name']}-{copy}"}
    if "base_model" in model:
        found["base_model"] = f"{model['base_model']}-{copy}"
    if "claims" in model:
        found["claims"] = [
            claim | {"id": f"{claim['id']}-{copy}"}
            | ({"stand_in": f"{claim['stand_in']}-{copy}"} if "stand_in" in claim else {})
            for claim in model["claims"]
        ]  # fmt: skip
    if "vocab_size" in model.get("architecture", {}):
        found["architecture"] = model["architecture"] | {"vocab_size": model["architecture"]["vocab_size"] + more}
    return found


def seconds(command: tuple[str, ...], catalog: Path, checkout: Path) -> float:
    """Wall seconds of one command."""
    arguments = [sys.executable, "-m", "bench", *command, "--catalog", str(catalog), "--format", "csv"]
    began = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    subprocess.run(arguments, cwd=checkout, env=environment, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--entries", type=int, default=5000)
    parser.add_argument("--distinct", action="store_true")
    parser.add_argument("--base", type=Path)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    asked = parser.parse_args()
    folder = asked.folder.resolve()
    count = make(folder, asked.entries, distinct=asked.distinct) if not folder.is_dir() else asked.entries
    for command in COMMANDS:
        found: dict[str, list[float]] = {}
        for _ in range(asked.rounds):
            for name, checkout in ({"this": ROOT} | ({"base": asked.base.resolve()} if asked.base else {})).items():
                found.setdefault(name, []).append(seconds(command, folder, checkout))
        for name, samples in found.items():
            listed = ", ".join(f"{sample:.1f}" for sample in samples)
            said = f"{count:,} entries, {' '.join(command)}, {name}"
            print(f"{said}: median {median(samples):.1f} s ({listed})", flush=True)


if __name__ == "__main__":
    main()
