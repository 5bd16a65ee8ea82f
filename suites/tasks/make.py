# SPDX-License-Identifier: Apache-2.0
"""Write the generated task sets: grammar, arithmetic, reading and answers.

Why a script: these sets must be original and their answers certain, so
each item is put together from hand-written word lists and rules instead of
being collected. The seeds are fixed and nothing but the standard library is
used, so every run writes the same bytes. The facts and the Chinese cloze items
are hand-written and live only in ``data/``; this script does not touch them.

Usage: ``python -m suites.tasks.make`` in the repository root, no arguments; the
files land in ``data/`` beside this script.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path

from suites.tasks import make_answers, make_arithmetic, make_grammar, make_reading

Item = tuple[str, str, list[str]]
"""Group, context, and the choices with the right one first."""

DATA = Path(__file__).resolve().parent / "data"


def rows(prefix: str, items: list[Item], rng: random.Random) -> list[dict[str, object]]:
    """Number the items and spread the right answers evenly over the positions."""
    by_group: dict[str, list[Item]] = {}
    for item in items:
        by_group.setdefault(item[0], []).append(item)
    out: list[dict[str, object]] = []
    dealt = 0
    for group, members in by_group.items():
        width = len(members[0][2])
        golds = [(dealt + i) % width for i in range(len(members))]
        rng.shuffle(golds)
        dealt += len(members)
        for number, ((_, context, choices), gold) in enumerate(zip(members, golds, strict=True)):
            wrong = choices[1:]
            rng.shuffle(wrong)
            wrong.insert(gold, choices[0])
            out.append(
                {
                    "id": f"{prefix}_{group}_{number + 1:03d}",
                    "group": group,
                    "context": context,
                    "choices": wrong,
                    "gold": gold,
                }
            )
    return out


def write(name: str, prefix: str, build: Callable[[random.Random], list[Item]], seed: int) -> int:
    """Build one set and write it as JSON lines; returns the number of items."""
    rng = random.Random(seed)
    return save(name, rows(prefix, build(rng), rng))


def save(name: str, made: list[dict[str, object]]) -> int:
    """Write items as JSON lines; returns their number."""
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in made)
    DATA.mkdir(exist_ok=True)
    (DATA / f"{name}.jsonl").write_bytes(text.encode("utf-8"))
    return len(made)


def main() -> None:
    """Write all generated sets."""
    for name, prefix, build, seed in (
        ("bench_grammar_en", "grammar", make_grammar.build, 20250101),
        ("bench_arithmetic", "arithmetic", make_arithmetic.build, 20250102),
        ("bench_reading_en", "reading", make_reading.build, 20250103),
    ):
        print(f"{name}: {write(name, prefix, build, seed)} items")
    answers = make_answers.build(random.Random(20250104))
    print(f"bench_answers_en: {save('bench_answers_en', answers)} items")


if __name__ == "__main__":
    main()
