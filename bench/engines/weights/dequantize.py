# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.weights.dequantize SOURCE.gguf FOLDER`: a GGUF dequantized to float32 in Hub layout."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def convert(source: Path, folder: Path) -> None:
    """Write model, configuration and tokenizer into `folder`."""
    import torch
    import transformers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

    where = {"pretrained_model_name_or_path": str(source.parent), "gguf_file": source.name}
    options = {}
    if hasattr(transformers, "GgufConfig"):  # 5.5.4 knows no other way than to dequantize
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(**where, dtype=torch.float32, **options)
    model.config.__dict__.pop("quantization_config", None)
    model.save_pretrained(folder)
    # By the file alone: the class that transformers 5.5.4 takes for its architecture makes another of a llama's GGUF.
    tokenizer = PreTrainedTokenizerFast.from_pretrained(**where)
    told = tokenizer_fields(source)
    restore_splitting(tokenizer.backend_tokenizer, told.get("pre"))
    for kind in ("bos", "eos"):  # 5.5.4 takes the beginning for the end
        if f"{kind}_token_id" in told:
            setattr(tokenizer, f"{kind}_token", tokenizer.convert_ids_to_tokens(int(told[f"{kind}_token_id"])))
    tokenizer.save_pretrained(folder)


def tokenizer_fields(source: Path) -> dict[str, str]:
    """How a file says that text is split before merging (`pre`), and which tokens begin and end one; what it says."""
    from gguf import GGUFReader

    fields = GGUFReader(source).fields
    named = {name: fields.get(f"tokenizer.ggml.{name}") for name in ("pre", "bos_token_id", "eos_token_id")}
    return {name: str(field.contents()) for name, field in named.items() if field}


def restore_splitting(tokenizer: Tokenizer, pre: str | None) -> None:
    """Give a tokenizer the splitting that transformers 5.23 drops when it reads a GGUF.

    SmolLM splits every digit off before GPT-2's pattern sees the text; without that, line breaks before a digit
    become other tokens (1 % of this project's arithmetic).
    """
    from tokenizers import pre_tokenizers

    if pre == "smollm":
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            ]
        )


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
