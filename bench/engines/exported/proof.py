# SPDX-License-Identifier: Apache-2.0
"""An export is proven before anything is made of it: a text read by transformers at float32 and by the written file."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines.exported.logits import Floats
from bench.engines.exported.tokens import TOKENIZER
from bench.engines.weights.files import Refused
from bench.engines.weights.gptq import calibration_text

PROOF = "proof.json"
PROOF_TOKENS = 384
"""Enough for scaled rotary positions, windows and masks to show."""
APART = 1e-3
"""Nats by which the log-probability of a token of the text may differ on average; seen: below 1e-5."""
SMALL = ("tokenizer*", "special_tokens_map.json", "chat_template*", "generation_config.json", "config.json")
"""What an engine reads beside the model."""

WINDOWS = ("sliding_window", "attention_chunk_size", "attention_window_size")
"""What configurations call the positions that a token looks back at most."""


def sees_all(config: Mapping[str, Any]) -> bool:
    """Whether a configuration has tokens look back at everything before them."""
    return config.get("use_sliding_window") is False or not any(config.get(name) for name in WINDOWS)


def tokenizer_of(source: Path, folder: Path) -> Any:
    """The checkpoint's tokenizer, from its own file; of one that has none, the one that transformers makes.

    Raises Refused.
    """
    from tokenizers import Tokenizer

    if not (source / TOKENIZER).is_file():
        from transformers import AutoTokenizer

        AutoTokenizer.from_pretrained(source).save_pretrained(folder)
        if not (folder / TOKENIZER).is_file():
            raise Refused("transformers makes no tokenizer.json of its tokenizer's files")
        return Tokenizer.from_file(str(folder / TOKENIZER))
    return Tokenizer.from_file(str(source / TOKENIZER))


def text_of(tokenizer: Any, positions: int | None) -> list[int]:
    """Tokens of the text, as many as the model has positions for."""
    tokens: list[int] = tokenizer.encode(calibration_text(), add_special_tokens=False).ids
    return tokens[: min(PROOF_TOKENS, positions or PROOF_TOKENS)]


def copy_small(source: Path, folder: Path) -> None:
    """Lay the tokenizer and the configurations of a checkpoint beside its export."""
    for pattern in SMALL:
        for path in source.glob(pattern):
            shutil.copy(path, folder / path.name)


def apart(found: Floats, wanted: Floats, tokens: Sequence[int]) -> Floats:
    """Nats between two log-probabilities of every token but the first."""
    at = np.arange(len(tokens) - 1), list(tokens[1:])
    difference: Floats = np.abs(found[at] - wanted[at])
    return difference


def told(difference: Floats) -> dict[str, float | int | bool]:
    """What is kept of a proof. Raises Refused where the file is another model than transformers has."""
    found: dict[str, float | int | bool] = {
        "tokens": len(difference), "mean_nat": float(difference.mean()), "max_nat": float(difference.max())
    }  # fmt: skip
    if not found["mean_nat"] <= APART:
        raise Refused(
            f"the exported file is not the model: {found['mean_nat']:.2g} nats from transformers at float32 on average "
            f"over {found['tokens']} tokens"
        )
    return found


def keep(folder: Path, proven: dict[str, float | int | bool]) -> None:
    """Write a proof beside the file."""
    (folder / PROOF).write_text(json.dumps(proven), encoding="utf-8")


def proven(folder: Path, what: str) -> bool:
    """Whether a proof says that of the file."""
    return bool(json.loads((folder / PROOF).read_text(encoding="utf-8"))[what])
