# SPDX-License-Identifier: Apache-2.0
"""Tiny random checkpoints in Hub layout, one of each architecture, with a real byte-level tokenizer."""

from pathlib import Path

import torch
import transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    AutoModelForSeq2SeqLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
)

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

MORE = {
    "mistral": {**CONFIGS["llama"], "sliding_window": 8},
    "qwen3": {**CONFIGS["llama"], "head_dim": 16},
    "gemma3_text": {**CONFIGS["llama"], "head_dim": 16, "sliding_window": 8, "query_pre_attn_scalar": 16},
    "phi3": {**CONFIGS["llama"], "pad_token_id": 0},
    "olmo2": {**CONFIGS["llama"]},
    "smollm3": {**CONFIGS["llama"], "num_hidden_layers": 4, "pad_token_id": 0},
    "openai-gpt": {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "opt-350m": {**CONFIGS["opt"], "hidden_size": 128, "word_embed_proj_dim": 64, "do_layer_norm_before": False},
    "t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
           "decoder_start_token_id": 0},
    "flan-t5": {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "pad_token_id": 0,
                "decoder_start_token_id": 0, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False},
    "bert": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
             "max_position_embeddings": 256, "pad_token_id": 0},
}  # fmt: skip
"""The other families, and shapes that differ within one; some do not generate, or keep no cache."""
FAMILIES = CONFIGS | MORE
TREES = {
    "tree-mistral": {**CONFIGS["llama"], "sliding_window": None},
    "tree-smollm3": {**CONFIGS["llama"], "pad_token_id": 0, "no_rope_layers": [1, 0]},
    "tree-gemma3_text": {**CONFIGS["llama"], "head_dim": 16, "sliding_window": 160,
                         "layer_types": ["sliding_attention", "full_attention"]},
}  # fmt: skip
"""Shapes whose window is wide enough for token trees; only tests/engines/test_tree_scoring.py needs them."""
TYPES = {"opt-350m": "opt", "flan-t5": "t5"}
LOADERS = {"t5": AutoModelForSeq2SeqLM, "flan-t5": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM}
TEXT = "The quick brown fox jumps over the lazy dog. 0123456789"


def config(kind: str) -> dict[str, object]:
    """The transformers configuration of a tiny model."""
    own = {
        "model_type": TYPES.get(kind, kind.removeprefix("tree-")),
        "vocab_size": VOCABULARY,
        "bos_token_id": 0,
        "eos_token_id": 1,
    }
    return own | (FAMILIES | TREES)[kind]


def tokenizer(corpus: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on `corpus`, with a beginning, an end and a blank token."""
    base = Tokenizer(models.BPE())
    base.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    base.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    base.train_from_iterator([corpus], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=base,
        bos_token="<s>",  # noqa: S106
        eos_token="</s>",  # noqa: S106
        cls_token="<s>",  # noqa: S106
        sep_token="</s>",  # noqa: S106
        mask_token="<mask>",  # noqa: S106
    )


def model(kind: str, **changes: object) -> PreTrainedModel:
    """A tiny random model of that architecture, float32, seeded."""
    torch.manual_seed(0)
    made = LOADERS.get(kind, AutoModelForCausalLM).from_config(AutoConfig.for_model(**config(kind) | changes)).eval()
    if kind == "flan-t5":  # transformers ties what it makes from a configuration; the files of Flan-T5 hold both
        made.lm_head.weight = torch.nn.Parameter(torch.empty_like(made.lm_head.weight))
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return made


def of_class(name: str, sizes: dict[str, object]) -> PreTrainedModel:
    """A tiny random model of a class of transformers, float32, seeded; its norms are those of its class."""
    found = getattr(transformers, name)
    torch.manual_seed(0)
    special = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 0}
    made: PreTrainedModel = found(found.config_class(**special | sizes)).eval()
    for parameter in made.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    return made


def save(made: PreTrainedModel, folder: Path) -> Path:
    """Write a model and its tokenizer; returns the folder."""
    made.save_pretrained(folder)
    tokenizer(TEXT).save_pretrained(folder)
    return folder


def checkpoint(folder: Path, kind: str) -> Path:
    """Write a tiny random model of that architecture, float32, seeded; returns its folder."""
    return save(model(kind), folder / f"tiny-{kind}")
