# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.weights.merge_lora BASE ADAPTER... FOLDER`: LoRA adapters merged into a base, one by one."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from bench.engines.weights.files import Refused, guarded

TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")


def merge(base: Path, adapters: Sequence[Path], folder: Path) -> None:
    """Write the merged model and its tokenizer into `folder`, at the precision in which the base is stored.

    An adapter that brings a tokenizer with more tokens than the base has rows gets the embeddings resized first, for
    its own embeddings and head replace them (`modules_to_save`). Raises Refused where the two do not fit.
    """
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(base, dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(base)
    for adapter in adapters:
        if any((adapter / name).is_file() for name in TOKENIZERS):
            tokenizer = AutoTokenizer.from_pretrained(adapter)
            if len(tokenizer) > model.get_input_embeddings().num_embeddings:
                model.resize_token_embeddings(len(tokenizer), mean_resizing=False)
        try:
            model = PeftModel.from_pretrained(model, adapter).merge_and_unload(safe_merge=True)
        except RuntimeError as error:  # peft lists the tensors whose shapes differ
            raise Refused(f"{adapter.name} does not fit its base: {str(error).splitlines()[-1].strip()}") from error
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    base, *adapters, folder = map(Path, sys.argv[1:])
    sys.exit(guarded(lambda: merge(base, adapters, folder)))
