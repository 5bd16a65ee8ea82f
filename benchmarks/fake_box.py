# SPDX-License-Identifier: Apache-2.0
"""A box whose cells take a second each and nothing else: what is left of the time is what handing them out costs.

`python -m benchmarks.fake_box` answers as `bench.fleet.box` does, from a file that `$FAKE_BOX` names: what the box says
of itself, and one record that is sent for every cell, as that cell's. It imports nothing of the harness, whose imports
take as long as many a cell, and says when it began and ended.
"""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from pathlib import Path

BEGAN = time.monotonic()


def main() -> None:
    """Answer what stands on stdin."""
    asked, known = json.load(sys.stdin), json.loads(Path(os.environ["FAKE_BOX"]).read_text(encoding="utf-8"))
    if "cells" not in asked:
        say({"seen": known["seen"]})
        return
    for planned in asked["cells"]:
        time.sleep(known["cell_s"])
        record = known["record"] | {"id": secrets.token_hex(4), "run": asked["run"], "cell": planned["cell"]}
        say({"record": json.dumps(record)})
    say({"told": json.dumps(["times", BEGAN, time.monotonic()])})
    say({"undecided": []})


def say(answer: dict[str, object]) -> None:
    """One line."""
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
