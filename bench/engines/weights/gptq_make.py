# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.weights.gptq_make SOURCE BITS FOLDER`: quantize a checkpoint with optimum's GPTQ."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.weights.files import Refused, guarded
from bench.engines.weights.gptq import GROUPS, WINDOW_TOKENS, WINDOWS, calibration_text

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


def make(source: Path, bits: int, folder: Path) -> None:
    """Quantize the model in `source` at its stored precision and write it with its tokenizer."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GPTQConfig

    tokenizer = AutoTokenizer.from_pretrained(source)
    with torch.device("meta"):
        empty = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(source))
    chosen = GPTQConfig(bits=bits, group_size=group(empty), dataset=examples(tokenizer), tokenizer=tokenizer)
    del empty
    model = AutoModelForCausalLM.from_pretrained(source, dtype="auto", quantization_config=chosen)
    model.config.quantization_config.dataset = None  # it is told by its hash, not copied into every checkpoint
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def group(model: PreTrainedModel) -> int:
    """Weights that share a scale. Raises Refused where no usual group divides the inputs of every linear layer."""
    head = model.get_output_embeddings()
    inputs = {module.in_features for module in model.modules() if hasattr(module, "in_features") and module is not head}
    inputs |= {m.weight.shape[0] for m in model.modules() if type(m).__name__ == "Conv1D"}
    for size in GROUPS:
        if all(count % size == 0 for count in inputs):
            return size
    raise Refused(
        f"no group of {' or '.join(map(str, GROUPS))} weights divides inputs of {min(inputs)} to {max(inputs)}"
    )


def examples(tokenizer: PreTrainedTokenizerBase) -> list[dict[str, list[list[int]]]]:
    """Windows of the calibration text, spread evenly over it."""
    tokens = tokenizer(calibration_text(), add_special_tokens=False, verbose=False)["input_ids"]
    whole = len(tokens) // WINDOW_TOKENS
    if not whole:
        raise Refused(f"the calibration text is {len(tokens)} tokens, fewer than a window of {WINDOW_TOKENS}")
    count = min(WINDOWS, whole)
    starts = [index * whole // count * WINDOW_TOKENS for index in range(count)]
    windows = [tokens[start : start + WINDOW_TOKENS] for start in starts]
    return [{"input_ids": [window], "attention_mask": [[1] * WINDOW_TOKENS]} for window in windows]


if __name__ == "__main__":
    sys.exit(guarded(lambda: make(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))))
