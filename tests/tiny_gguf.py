# SPDX-License-Identifier: Apache-2.0
"""Tiny architectures for GGUF files, and such files loaded by llama.cpp."""

from builders import make_model

from bench.engines.contract import LoadRequest
from bench.engines.llamacpp import BACKEND
from bench.records.cell import Weights

SIZES = {
    "vocab_size": 320, "hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 1024,
}  # fmt: skip


def config(kind):
    """A tiny architecture of that family; BLOOM and the GPTs have no grouped heads."""
    grouped = kind not in {"bloom", "gpt2", "gpt_neox"}
    return {"model_type": kind} | {key: value for key, value in SIZES.items() if grouped or "key_value" not in key}


def request(path, scheme="gguf-f32", **changes):
    """A request for a local file on one thread."""
    facts = {
        "model": make_model(), "weights": Weights.LOCAL, "scheme": BACKEND.scheme(scheme), "device": "cpu",
        "path": str(path), "threads": 1,
    }  # fmt: skip
    return LoadRequest(**(facts | changes))


def load(path, scheme="gguf-f32", **changes):
    """Prepared and loaded as a worker does it."""
    asked = request(path, scheme, **changes)
    BACKEND.prepare(asked)
    return BACKEND.load(asked)
