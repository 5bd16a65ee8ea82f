# SPDX-License-Identifier: Apache-2.0
"""Memory, speed and quality of catalogue models at fp16, 8-bit and 4-bit, measured on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from bench.records.record import Record


def read(results: Path) -> list[Record]:
    """Every record under a results folder, with what only the ends of its device's runs can tell."""
    from bench.judge.joined import joined
    from bench.records.store import Store

    store = Store(results)
    return list(joined(store.records(), store.runs()))


def frame(results: Path) -> pd.DataFrame:
    """The same as a pandas DataFrame, one row for each record: the columns of `docs/columns.md`."""
    import pandas as pd

    from bench.views.table import flat

    return pd.DataFrame([flat(record) for record in read(results)])
