# SPDX-License-Identifier: Apache-2.0
"""The page of every key that CSV and JSON have: `python -m bench.views.columns_page > docs/columns.md`."""

from __future__ import annotations

import sys

from bench.views.fields import Field
from bench.views.outputs import OUTPUTS, Output
from bench.views.status import STATUS

HEAD = """\
# Columns

What `--format csv` and `--format json` write, by command. Figures are in base units and nothing is rounded; a value
that there is none of is empty in CSV and `null` in JSON. A key marked ± has the ends of its 95 % interval beside it,
`_low` and `_high`. A word in capitals stands for what varies: `acc_TASK` is one key for each task.

This page is generated: `python -m bench.views.columns_page > docs/columns.md`.
"""


def page() -> str:
    """The whole page as Markdown."""
    return "\n".join([HEAD, *(_section(output) for output in (*OUTPUTS, STATUS))])


def _section(output: Output) -> str:
    lines = [f"## `{output.command}`", "", f"One row: {output.row}.", "", "| key | unit | suite | meaning |"]
    lines += ["| --- | --- | --- | --- |", *(_line(output, field) for field in output.fields)]
    return "\n".join(lines) + "\n"


def _line(output: Output, field: Field) -> str:
    interval = " ±" if field.name in output.intervals else ""
    meaning = field.meaning.replace("|", "\\|")
    return f"| `{field.name}`{interval} | {field.unit} | {field.suite} | {meaning} |"


if __name__ == "__main__":
    sys.stdout.write(page())
