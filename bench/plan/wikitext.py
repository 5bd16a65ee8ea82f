# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.plan.wikitext FILE`: the test part of WikiText-2 (raw), fetched from the Hub, as one text."""

from __future__ import annotations

import sys
from pathlib import Path

from bench.processes import write_whole


def main() -> None:
    """Fetch and write it, whole or not at all."""
    from datasets import load_dataset

    rows = load_dataset("Salesforce/wikitext", "wikitext-2-raw-v1", split="test")["text"]
    write_whole(Path(sys.argv[1]), "".join(rows))


if __name__ == "__main__":
    main()
