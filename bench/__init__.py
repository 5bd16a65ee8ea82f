# SPDX-License-Identifier: Apache-2.0
"""Memory, speed and quality of catalogue models at fp16, 8-bit and 4-bit, measured on this machine.

From Python: `load_results`, `compare` and `recommend` give pandas DataFrames, one row as in `--format csv`. Their
columns, units and meanings are those of `docs/columns.md`; nothing is converted: bytes, seconds, tokens/s, shares of 1.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from bench.paths import RESULTS

if TYPE_CHECKING:
    import pandas as pd

    from bench.judge.joined import JoinedShelves
    from bench.judge.rows import Row
    from bench.records.index import Index
    from bench.records.record import Record


def read(results: Path | str = RESULTS) -> list[Record]:
    """Every record under a results folder, with what only the ends of its device's runs can tell.

    A file that no figures can be made of is left out with a Python warning.
    """
    index, shelves = _opened(results)
    found = [shelves.load(head) for head in index.sound_of(index.heads())]
    _finish(index)
    return found


def load_results(results: Path | str = RESULTS) -> pd.DataFrame:
    """All records of a results folder, one row for each.

    Columns: those of `bench show` in `docs/columns.md`; `model`, `precision`, `suite` and `device` say what was
    measured, `outcome` how it ended; figures of other suites are missing in a row. A rate or share has the ends of its
    95 % interval beside it (`_low`, `_high`). A folder without records gives an empty frame.
    """
    import pandas as pd

    from bench.judge.checkpoints import checkpoints_of
    from bench.views.table import flat

    index, shelves = _opened(results)
    heads = index.sound_of(index.heads())
    told = zip(heads, checkpoints_of([head.loaded for head in heads]), strict=True)
    found = pd.DataFrame([flat(shelves.load(head), checkpoint=checkpoint) for head, checkpoint in told])
    _finish(index)
    return found


def compare(results: Path | str = RESULTS, against: Path | str | None = None, *, margin: float = 0.01) -> pd.DataFrame:
    """Each precision against its model's own 16-bit row, or with `against` two result sets against each other.

    Columns: those of `bench compare` (`peak_bytes_ratio`, `perplexity_change`, `answer`, `decided_by` …) or of
    `bench compare --against` (`figure`, `before`, `now`, `change`, `course` …) in `docs/columns.md`. `margin` is the
    loss that still counts as equivalent, a share. Raises ValueError for a margin that is no share above 0.
    """
    import pandas as pd

    from bench.judge.against import against as since
    from bench.judge.answer import answers
    from bench.judge.compare import compare as paired
    from bench.views import against as courses
    from bench.views import comparison

    if not 0 < margin < 1:
        raise ValueError(f"margin {margin}: a share between 0 and 1")
    index, rows = _rows(results)
    if against is None:
        found = pd.DataFrame(comparison.flats(answers(paired(rows, margin)[0], margin)))
    else:
        other, before = _rows(against)
        found = pd.DataFrame(courses.flats(since(rows, before, margin)[0]))
        _finish(other)
    _finish(index)
    return found


def recommend(
    results: Path | str = RESULTS, *, memory: str | float | None = None, min_decode: float | None = None,
    max_loss: float | None = None, context: int | None = None, device: str = "*",
) -> pd.DataFrame:  # fmt: skip
    """Every row under these limits, those to take first: `taken`, `tier` and `misses` say which and why.

    `memory` is `"12GB"`, `"12GiB"` or bytes that the whole process may hold; `min_decode` tokens/s at batch 1;
    `max_loss` the share of quality that may be lost against the model's own 16-bit row; `context` positions that must
    fit; `device` a slug or glob. Columns: those of `bench recommend` in `docs/columns.md`. Raises UserError for an
    amount of memory that is none.
    """
    from fnmatch import fnmatch

    import pandas as pd

    from bench.catalog.contexts import longest_context
    from bench.judge.costs import Prices
    from bench.judge.recommend import Limits
    from bench.judge.recommendation import recommended
    from bench.run.memory_limit import parse_bytes
    from bench.views.recommend import flats

    wanted = Limits(
        memory_bytes=parse_bytes(memory) if isinstance(memory, str) else memory,
        min_decode=min_decode, max_loss=max_loss, context_tokens=context,
    )  # fmt: skip
    index, rows = _rows(results)
    found = recommended([row for row in rows if fnmatch(row.device, device)], wanted, Prices(), longest_context())
    told = pd.DataFrame([flat for one in found for flat in flats(one)])
    _finish(index)
    return told


def _rows(results: Path | str) -> tuple[Index, list[Row]]:
    """The rows that views show, and the index that keeps what is made of them."""
    from bench.judge.rows import newest_of

    index, shelves = _opened(results)
    return index, newest_of(index, shelves.load)


def _opened(results: Path | str) -> tuple[Index, JoinedShelves]:
    """The index of a results folder, and its records as readers see them."""
    from bench.judge.joined import JoinedShelves
    from bench.records.index import Index
    from bench.records.store import read_run
    from bench.views.soundness import fault

    root = Path(results)
    index = Index(root, fault=fault)
    return index, JoinedShelves(index, lambda head: read_run(root / head.path))


def _finish(index: Index) -> None:
    """Keep what was computed, with a Python warning for each file that no figures can be made of."""
    import warnings

    from bench.records.left_out import ahead, unreadable

    index.save()
    for line in [*unreadable(index), *ahead(index)]:
        warnings.warn(line, stacklevel=3)
