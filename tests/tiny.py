# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints in Hub layout, one of each architecture, with a real byte-level tokenizer."""

from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast

VOCABULARY = 320
CONFIGS = {
    "llama": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": 256},
    "gpt_neox": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
                 "max_position_embeddings": 256},
    "gpt2": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "gptj": {"n_embd": 64, "n_layer": 2, "n_head": 4, "rotary_dim": 8, "n_positions": 256},
    "gpt_neo": {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]],
                "max_position_embeddings": 256},
    "bloom": {"hidden_size": 64, "n_layer": 2, "n_head": 4},
    "opt": {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
            "word_embed_proj_dim": 64, "max_position_embeddings": 256},
    "qwen2": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
              "num_key_value_heads": 2, "max_position_embeddings": 256},
}  # fmt: skip
"""The least that still has every part of its family."""

_LLAMA_LIKE = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
               "num_key_value_heads": 2, "max_position_embeddings": 256}  # fmt: skip
TREE_CONFIGS = {
    "mistral": _LLAMA_LIKE | {"sliding_window": None},
    "olmo2": _LLAMA_LIKE,
    "phi3": _LLAMA_LIKE | {"pad_token_id": 0},
    "qwen3": _LLAMA_LIKE | {"head_dim": 16},
    "smollm3": _LLAMA_LIKE | {"pad_token_id": 0, "no_rope_layers": [1, 0]},
    "gemma3_text": _LLAMA_LIKE | {"head_dim": 16, "sliding_window": 160,
                                  "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip
"""Further ones that score token trees; only tests/test_scoring.py needs them."""


def config(kind: str) -> dict[str, object]:
    """The transformers configuration of a tiny model."""
    own = (CONFIGS | TREE_CONFIGS)[kind]
    return {"model_type": kind, "vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, **own}


def tokenizer(corpus: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `corpus`, with a beginning and an end token."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    base.train_from_iterator([corpus], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=base, bos_token="<s>", eos_token="</s>")  # noqa: S106


def checkpoint(folder: Path, kind: str) -> Path:
    """Write a tiny random model of that architecture, float32, seeded; returns its folder."""
    torch.manual_seed(0)
    own = config(kind)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**own))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    target = folder / f"tiny-{kind}"
    model.save_pretrained(target)
    tokenizer("The quick brown fox jumps over the lazy dog. 0123456789").save_pretrained(target)
    return target
