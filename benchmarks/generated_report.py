# SPDX-License-Identifier: Apache-2.0
"""Samples of `benchmarks.generation`, what is made of them, and the report's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from pydantic import BaseModel, TypeAdapter

OURS, BEFORE, THEIRS = "together", "before", "lm-eval"
PREFIX_TOKENS = 64
"""A common beginning of so many tokens needs to be computed once."""
BODY, HEAD = 106_204_032, 28_311_552
"""Weights of the default model that every token is multiplied with; its head's, where a token is chosen."""
ATTENTION = 4 * 30 * 9 * 64
"""Operations for each position that a token looks at: two products in 30 layers of 9 heads of 64."""


class Sample(BaseModel):
    """One timed call, or what was found before them (`batch`, `roof`, `prompts`)."""

    who: str
    turn: int
    seconds: float
    texts: dict[int, str] = {}
    """By place of the item."""
    tokens: int = 0
    """Generated, where the contender counts them."""
    load: float = 0.0
    """Load average at its end."""
    batch: int | None = None
    roof: float | None = None
    """Operations a second."""
    shared: int = 0
    """Tokens that all prompts begin with and that are worth computing once."""
    lengths: list[int] = []
    """Tokens of each prompt."""


def prompts(asked: Sequence[Sequence[int]]) -> Sample:
    """What must be read, by the tokens of every prompt."""
    return Sample(who="prompts", turn=0, seconds=0.0, shared=_shared(asked), lengths=[len(prompt) for prompt in asked])


class Found:
    """What was seen of one row, kept in a file as it comes."""

    def __init__(self, name: str, file: Path | None) -> None:
        self.name, self.file = name, file
        self.samples: list[Sample] = []

    def add(self, sample: Sample) -> None:
        """Keep a sample."""
        self.samples.append(sample)
        if self.file:
            with self.file.open("a", encoding="utf-8") as file:
                file.write(f"{self.name}\t{sample.model_dump_json()}\n")

    def has(self, who: str, turn: int) -> bool:
        """Whether that sample is there."""
        return any((sample.who, sample.turn) == (who, turn) for sample in self.samples)

    def _of(self, who: str) -> list[Sample]:
        return sorted((sample for sample in self.samples if sample.who == who), key=lambda sample: sample.turn)

    @property
    def batch(self) -> int | None:
        """lm-eval's best batch size."""
        return next((sample.batch for sample in self._of("batch")), None)

    @property
    def roof(self) -> float | None:
        """The device's rate of products, operations a second."""
        return next((sample.roof for sample in self._of("roof")), None)

    @property
    def load(self) -> float:
        """Highest load average beside a sample."""
        return max((sample.load for sample in self.samples), default=0.0)

    def seconds(self, who: str) -> list[float]:
        """Of each turn."""
        return [sample.seconds for sample in self._of(who)]

    def texts(self, who: str) -> dict[int, str]:
        """Answers by place, of the first turn that has one."""
        found: dict[int, str] = {}
        for sample in reversed(self._of(who)):
            found |= sample.texts
        return found

    def each(self, who: str) -> list[float]:
        """Seconds of all items: of each turn, or where turns share the items, of all turns together."""
        samples = self._of(who)
        if who != BEFORE:
            return [sample.seconds for sample in samples]
        count, answered = len(self.texts(OURS)), sum(len(sample.texts) for sample in samples)
        return [sum(sample.seconds for sample in samples) * count / answered] if answered else []

    def ratio(self, other: str) -> tuple[float, float, float]:
        """Another's seconds by ours: the median over turns, the least and the greatest."""
        ours, theirs = self.each(OURS), self.each(other)
        if len(theirs) == 1:
            theirs *= len(ours)
        ratios = [second / first for first, second in zip(ours, theirs, strict=False)]
        return (median(ratios), min(ratios), max(ratios)) if ratios else (0.0, 0.0, 0.0)

    def equal(self, other: str) -> tuple[int, int]:
        """Answers that are the same text, of those that both gave."""
        ours, theirs = self.texts(OURS), self.texts(other)
        both = ours.keys() & theirs.keys()
        return sum(ours[place] == theirs[place] for place in both), len(both)

    def steady(self) -> bool:
        """Whether every turn gave the same answers."""
        return all(sample.texts == self._of(OURS)[0].texts for sample in self._of(OURS))

    def limit_s(self) -> float | None:
        """Seconds that the operations nobody can do without take at the roof."""
        tokens = next((sample.tokens for sample in self._of(OURS)), 0)
        read = next(iter(self._of("prompts")), None)
        if self.roof is None or not tokens or read is None:
            return None
        shared, lengths = read.shared, read.lengths
        passed = shared + sum(length - shared for length in lengths) + tokens
        answer = tokens / len(lengths)
        looked = shared * shared / 2 + sum(
            (length - shared) * (length + shared) / 2 + answer * (length + answer / 2) for length in lengths
        )
        return (2 * BODY * passed + 2 * HEAD * tokens + ATTENTION * looked) / self.roof


def _shared(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all begin with, 0 where they are too few to be worth reading apart."""
    first, last = min(prompts), max(prompts)
    count = next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return count if count >= PREFIX_TOKENS and len(prompts) > 2 else 0


def read(file: Path | None) -> dict[str, Found]:
    """By row, the samples in a file."""
    found: dict[str, Found] = {}
    if file and file.exists():
        for line in file.read_text("utf-8").splitlines():
            name, _, sample = line.partition("\t")
            found.setdefault(name, Found(name, file)).samples.append(TypeAdapter(Sample).validate_json(sample))
    return found


HEADER = """# Generated answers beside lm-eval and beside the build before

`python -m benchmarks.generation FOLDER --report FILE`, {date}. {model}, {threads} threads, {machine}.
GSM8K answers of at most {tokens} tokens. This engine as it runs, against {before} and against
lm-eval {lm_eval}'s `HFLM` at its best batch size of {batches}, on the same requests, in at most {turns} turns: each
turn both answer all items, and the build before a share of them. *Against*: its seconds by ours, the median over the
turns (least to greatest); the build before answers an item once at most, its seconds scaled to all. –: not measured.
Equal: the same text, of those that both gave. *Limit*: the seconds that the operations nobody can do without (each
prompt's own tokens, what they share once, each generated token) take at the measured roof of matrix products, by ours.
Load: the highest of one minute beside a sample.

| row | what | items | batch | before, s | lm-eval, s | ours (turns) | against before | against lm-eval | limit | load |
|---|---|---|---|---|---|---|---|---|---|---|
"""


def written(
    founds: Mapping[str, Found], rows: Mapping[str, tuple[str, tuple[float | None, float | None]]],
    about: Mapping[str, object], report: Path | None,
) -> tuple[str, list[str]]:  # fmt: skip
    """The report, rows of others in it kept, and its lines of these rows."""
    lines = [_line(founds[name], *rows[name]) for name in rows if name in founds and founds[name].seconds(OURS)]
    others = []
    if report and report.exists():
        names = {f"| {name} |" for name in (*rows, "row")}
        table = [line for line in report.read_text("utf-8").splitlines() if line.startswith("| ")]
        others = [line for line in table if not any(line.startswith(name) for name in names)]
    return HEADER.format(**about) + "\n".join([*lines, *others]) + "\n", lines


def _line(found: Found, note: str, targets: tuple[float | None, float | None]) -> str:
    cells = [found.name, note, str(len(found.texts(OURS))), str(found.batch or "–")]
    cells += [f"{median(each):.1f}" if (each := found.each(who)) else "–" for who in (BEFORE, THEIRS, OURS)]
    cells[-1] += f" ({len(found.each(OURS))})"
    for other, target in zip((BEFORE, THEIRS), targets, strict=True):
        if not found.each(other):
            cells.append("–")
            continue
        value, low, high = found.ratio(other)
        same, count = found.equal(other)
        wanted = "" if target is None else f"; target {target:g}" + ("" if value >= target else ", missed")
        cells.append(f"{value:.2f} ({low:.2f} to {high:.2f}){wanted}; {same} of {count} equal")
    limit = found.limit_s()
    cells.append(f"{limit / median(found.each(OURS)):.0%}" if limit else "–")
    return f"| {' | '.join([*cells, f'{found.load:.1f}'])} |"
