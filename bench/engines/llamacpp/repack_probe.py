# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.llamacpp.repack_probe FOLDER`: compute once with repacked weights, or crash trying."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import JsonValue

VOCABULARY = 320
CONFIG: dict[str, JsonValue] = {
    "model_type": "llama", "vocab_size": VOCABULARY, "hidden_size": 256, "intermediate_size": 256,
    "num_hidden_layers": 1, "num_attention_heads": 4, "max_position_embeddings": 512, "tie_word_embeddings": True,
}  # fmt: skip


def main() -> None:
    """A prompt and a token on one tiny layer of each common type."""
    import llama_cpp

    from bench.engines.llamacpp import library, random_weights
    from bench.engines.llamacpp.context import Caching, Context, Entry, Shape

    library.open_library()
    shape = Shape(positions=256, sequences=1, outputs=1, shared=False, threads=1)
    for scheme in ("gguf-q4_0", "gguf-q8_0", "gguf-q4_k_m"):
        path = Path(sys.argv[1]) / f"{scheme}.gguf"
        random_weights.write(path, CONFIG, scheme)
        model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
        context = Context(model, VOCABULARY, shape, Caching(attention="plain"))
        context.decode([Entry(index, index, (0,), scored=index == 63) for index in range(64)])
        context.decode([Entry(7, 64, (0,), scored=True)])
        context.close()
        llama_cpp.llama_model_free(model)


if __name__ == "__main__":
    main()
