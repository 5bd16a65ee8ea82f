# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of an exported model, by its file alone: nothing of transformers is imported to read a text."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from bench.errors import UserError

TOKENIZER = "tokenizer.json"


class Texts:
    """Texts to tokens and back."""

    def __init__(self, folder: Path, config: Mapping[str, Any]) -> None:
        self.folder = folder
        self.tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self.tokenizer.no_truncation()
        self.tokenizer.no_padding()
        self.rows = int(config["vocab_size"])
        named = _json(folder / "tokenizer_config.json")
        ends = [
            *_listed(_json(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))),
            self._special(named, "eos"),
        ]
        self.end_tokens = frozenset(token for token in ends if token is not None)
        starts = (self._special(named, "bos"), *_listed(config.get("bos_token_id")), self._special(named, "eos"))
        self.prefix_token = next((token for token in (*starts, *ends) if token is not None), 0)
        self.chat_template = self._template(named)

    def _special(self, named: Mapping[str, Any], which: str) -> int | None:
        token = named.get(f"{which}_token")
        text = token.get("content") if isinstance(token, dict) else token
        found: int | None = self.tokenizer.token_to_id(text) if text else None
        return found

    def _template(self, named: Mapping[str, Any]) -> str | None:
        own = self.folder / "chat_template.jinja"
        if own.is_file():
            return own.read_text(encoding="utf-8")
        template = named.get("chat_template")
        if isinstance(template, list):
            template = next((one["template"] for one in template if one.get("name") == "default"), None)
        return template

    def encode(self, text: str, *, special: bool) -> list[int]:
        """Tokens of a text. Raises UserError for one without a row."""
        tokens: list[int] = self.tokenizer.encode(text, add_special_tokens=special).ids
        if tokens and max(tokens) >= self.rows:
            told = f"a text holds token {max(tokens)}, the model has {self.rows} rows"
            raise UserError(told, "give it the tokenizer of these weights, or weights that were resized for it")
        return tokens

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the tokens, special ones shown."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def chat(self, messages: Sequence[Mapping[str, str]], *, answer: bool) -> str:
        """A conversation as the tokenizer's template writes it."""
        from transformers import PreTrainedTokenizerFast

        options = {"add_generation_prompt": answer, "continue_final_message": not answer}
        tokenizer = PreTrainedTokenizerFast.from_pretrained(self.folder)
        return str(tokenizer.apply_chat_template([dict(m) for m in messages], tokenize=False, **options))


def _json(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found


def _listed(value: Any) -> list[int | None]:
    return value if isinstance(value, list) else [value]
