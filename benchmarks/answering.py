# SPDX-License-Identifier: Apache-2.0
"""Answers requests as one build of this project does: asked line by line, for `benchmarks.generation`.

Which build is that of PYTHONPATH, so that another commit's can be asked beside this one, and an engine of another
environment. Each line of stdin is a JSON list of [context, generation options]; each answer is a line of stdout that
begins with ANSWER: seconds, texts and generated tokens.

    python -P benchmarks/answering.py ENGINE SCHEME [plain]
"""

import json
import os
import sys
import time

ANSWER = "answered "

for variable in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE"):
    os.environ.setdefault(variable, "1")


def main() -> None:
    """Load the default model, answer until the end of stdin."""
    from lm_eval.api.instance import Instance

    from bench.engines.registry import backend
    from bench.scoring.lm import EngineLM
    from benchmarks import default_model

    engines = backend(sys.argv[1])
    engine = default_model.load(engines, engines.scheme(sys.argv[2]))
    if "plain" in sys.argv[3:]:
        engine.plain_scoring = True
        vars(engine).pop("generates_together", None)
    lm = EngineLM(engine, 2048, lambda done, total: None)
    for line in sys.stdin:
        asked = [
            Instance("generate_until", {}, tuple(each), 0, metadata=("asked", index, 1))
            for index, each in enumerate(json.loads(line))
        ]
        start = time.perf_counter()
        texts = lm.generate_until(asked)
        seconds = time.perf_counter() - start
        tokens = sum(answer.tokens for answer in lm.answers.values())
        sys.stdout.write(ANSWER + json.dumps({"seconds": seconds, "texts": texts, "tokens": tokens}) + "\n")
        sys.stdout.flush()
        lm.answers.clear()


if __name__ == "__main__":
    main()
