# SPDX-License-Identifier: Apache-2.0
"""Another build of this project, or this one in another environment, asked line by line: both ends of the protocol.

`Build` starts an interpreter in a checkout's folder; what answers there is that folder's code, so that an old commit
can be asked beside this one, and an engine of another environment. A line that it is sent is `{"type", "asked"}`: one
of lm-eval's request types, and the arguments of each request. Its answer is a line that begins with ANSWER, then
`{"seconds", "answers", "tokens"}`: what the call took, lm-eval's answers, and the tokens that were generated. Whatever
else libraries print is left aside.

    python -P benchmarks/answering.py ENGINE SCHEME [plain]
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

ANSWER = "answered "
MAX_LENGTH = 2048
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


def commit_of(build: Path) -> str:
    """The short name of the commit that is checked out in a folder. Raises SystemExit where it is no checkout."""
    asked = ["git", "-C", str(build), "rev-parse", "--short", "HEAD"]
    found = subprocess.run(asked, capture_output=True, text=True, check=False)
    if found.returncode:
        raise SystemExit(f"{build} is no git checkout: name its commit with --before-commit")
    return found.stdout.strip()


class Build:
    """A build that answers in a process of its own: the default model in one scheme of an engine."""

    def __init__(self, python: str, build: Path, engine: tuple[str, str], *, plain: bool = False) -> None:
        """`plain`: without batches of answers and packs, as `--plain-scoring` does."""
        command = [python, "-P", str(Path(__file__).resolve()), *engine, *(["plain"] * plain)]
        environment = os.environ | {"PYTHONPATH": str(build.resolve())}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=build
        )  # fmt: skip

    def answer(self, asked: Sequence[Any]) -> tuple[float, list[Any], int]:
        """Seconds, lm-eval's answers and generated tokens for requests of one type. Raises RuntimeError if it ends."""
        into, out = self._pipes()
        into.write(json.dumps({"type": asked[0].request_type, "asked": [list(one.args) for one in asked]}) + "\n")
        into.flush()
        for line in out:
            if line.startswith(ANSWER):
                found = json.loads(line[len(ANSWER) :])
                answers = [tuple(one) if isinstance(one, list) else one for one in found["answers"]]
                return found["seconds"], answers, found["tokens"]
        raise RuntimeError(f"the process of {self.process.args} ended with {self.process.wait()}")

    def close(self) -> None:
        """End it."""
        into, out = self._pipes()
        into.close()
        self.process.wait()
        out.close()

    def _pipes(self) -> tuple[IO[str], IO[str]]:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        return self.process.stdin, self.process.stdout


def main() -> None:
    """Load the default model, answer until the end of stdin."""
    for variable in OFFLINE:
        os.environ.setdefault(variable, "1")
    from lm_eval.api.instance import Instance

    from bench.engines.registry import backend
    from bench.scoring.lm import EngineLM
    from benchmarks import default_model

    engines = backend(sys.argv[1])
    engine = default_model.load(engines, engines.scheme(sys.argv[2]))
    if "plain" in sys.argv[3:]:
        engine.plain_scoring = True
        vars(engine).pop("generates_together", None)
    lm = EngineLM(engine, MAX_LENGTH, lambda done, total: None)
    for line in sys.stdin:
        told = json.loads(line)
        asked = [
            Instance(told["type"], {}, tuple(each), index, metadata=("asked", index, 1))
            for index, each in enumerate(told["asked"])
        ]
        lm.answers.clear()
        start = time.perf_counter()
        answers = getattr(lm, told["type"])(asked)
        seconds = time.perf_counter() - start
        tokens = sum(answer.tokens for answer in lm.answers.values())
        sys.stdout.write(ANSWER + json.dumps({"seconds": seconds, "answers": answers, "tokens": tokens}) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
