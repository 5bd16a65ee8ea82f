# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.llamacpp.attention_trial FOLDER KIND`: time both ways of attending, print them as JSON."""

from __future__ import annotations

import json
import sys
import time
from itertools import pairwise
from pathlib import Path
from statistics import median

from pydantic import JsonValue

VOCABULARY = 320
CONFIG: dict[str, JsonValue] = {
    "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 576, "intermediate_size": 1536,
    "num_hidden_layers": 2, "num_attention_heads": 9, "num_key_value_heads": 3, "max_position_embeddings": 4096,
    "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    """Turns of both ways, the first round left out."""
    import llama_cpp

    from bench.engines.llamacpp import library, random_weights
    from bench.engines.llamacpp.attending import DEPTH, ROUNDS, STEPS, WAYS
    from bench.engines.llamacpp.context import Caching, Context, Entry, Shape
    from bench.engines.llamacpp.gguf_layout import BATCH

    library.open_library()
    path = Path(sys.argv[1]) / "trial.gguf"
    random_weights.write(path, CONFIG, "gguf-q8_0")
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0 if sys.argv[2] == "cpu" else -1
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    shape = Shape(
        positions=DEPTH + STEPS, sequences=1, outputs=1, shared=False, threads=library.threads(None)
    )  # fmt: skip
    contexts = {way: Context(model, VOCABULARY, shape, Caching(attention=way)) for way in WAYS}
    entries = [Entry(at % VOCABULARY, at, (0,), scored=at == DEPTH - 1) for at in range(DEPTH)]
    found: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    for turn in range(ROUNDS + 1):
        for way in WAYS if turn % 2 else reversed(WAYS):
            context = contexts[way]
            context.clear()
            start = time.perf_counter()
            for at in range(0, DEPTH, BATCH):
                context.decode(entries[at : at + BATCH])
            stamps = [time.perf_counter()]
            for step in range(STEPS):
                context.decode([Entry(7, DEPTH + step, (0,), scored=True)])
                stamps.append(time.perf_counter())
            if turn:
                steps = [later - earlier for earlier, later in pairwise(stamps)]
                found[way].append((stamps[0] - start, median(steps)))
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
