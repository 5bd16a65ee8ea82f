# SPDX-License-Identifier: Apache-2.0
"""Tokens for which a model has no row: an index out of its table, which on a GPU ends the whole process.

Usual where a tokenizer got tokens for which nobody resized the model, or belongs to another one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.errors import UserError

USED = ("bos", "eos", "cls", "sep", "mask")
"""Special tokens that an engine itself puts before or into a text."""
REMEDY = "give it the tokenizer of these weights, or weights that were resized for this tokenizer"


def rows_of(model: Any) -> int:
    """Rows of a model's input embedding; its vocabulary where a repository's own code does not tell its table."""
    try:
        return int(model.get_input_embeddings().weight.shape[0])
    except (NotImplementedError, AttributeError):
        return int(model.config.get_text_config().vocab_size)


def check_tokenizer(tokenizer: Any, rows: int) -> None:
    """Refuse a tokenizer with tokens that the model has no rows for. Raises UserError.

    A special token that no text is read as does no harm: Gemma 3's smallest model has one token more than rows, which
    stands for a picture. `check_tokens` refuses the text that names it.
    """
    if len(tokenizer) <= rows:
        return
    beyond = {index for index in tokenizer.get_vocab().values() if index >= rows}
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    used = {getattr(tokenizer, f"{name}_token_id", None) for name in USED}
    if beyond - special or beyond & used:
        raise UserError(f"its tokenizer has {len(tokenizer)} tokens, the model {rows} rows for them", REMEDY)


def check_tokens(tokens: Sequence[int], tokenizer: Any, rows: int) -> None:
    """Refuse tokens that the model has no rows for. Raises UserError."""
    if tokens and max(tokens) >= rows:
        told = f"a text holds token {max(tokens)}; its tokenizer has {len(tokenizer)} tokens, the model {rows} rows"
        raise UserError(told, REMEDY)
