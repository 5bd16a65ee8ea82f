# SPDX-License-Identifier: Apache-2.0
"""What the libraries under bench.engines do that a reader would not guess: lines of docs/engines.md shown by running.

These tests are of the libraries, not of ours. One that fails says that a line of the page is no longer true.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("bitsandbytes")
peft = pytest.importorskip("peft")
tiny = pytest.importorskip("tiny", reason="needs transformers")

SIZES: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 64, "num_attention_heads": 4,
    "num_key_value_heads": 2,
}  # fmt: skip


def test_a_misspelt_setting_of_bitsandbytes_is_taken_without_a_word() -> None:
    """What is then quantized to is fp4, the default; a setting that never existed is taken as well."""
    meant = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4")
    misspelt = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_typ="nf4", bnb_4bit_blocksize=128)
    assert (meant.bnb_4bit_quant_type, misspelt.bnb_4bit_quant_type) == ("nf4", "fp4")


def test_casting_a_loaded_model_rounds_its_rotary_table_and_loading_it_so_does_not(tmp_path: Path) -> None:
    """Two models that both call themselves bfloat16, of which one knows its positions to three digits."""
    folder = tiny.checkpoint(tmp_path, "llama")
    loaded = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    cast = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(torch.bfloat16)
    assert loaded.dtype is cast.dtype is torch.bfloat16
    assert loaded.model.rotary_emb.inv_freq.dtype is torch.float32
    assert cast.model.rotary_emb.inv_freq.dtype is torch.bfloat16


def test_merging_an_adapter_of_a_tied_head_changes_every_embedding() -> None:
    """Head and embedding are one tensor, so what was trained for the output is read at the input too. It warns."""
    base = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SIZES, tie_word_embeddings=True))
    before = base.get_input_embeddings().weight.detach().clone()
    adapted = peft.get_peft_model(base, peft.LoraConfig(task_type="CAUSAL_LM", r=2, target_modules=["lm_head"]))
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_" in name:
                parameter.fill_(0.1)
    with pytest.warns(UserWarning, match="tie_word_embeddings=True"):
        merged = adapted.merge_and_unload()
    moved = (merged.get_input_embeddings().weight - before).abs().amax(-1)
    assert (moved > 0).all()


@pytest.mark.parametrize("setting", ["load_in_8bit", "load_in_4bit"])
def test_bitsandbytes_leaves_the_experts_of_a_mixture_as_they_are(tmp_path: Path, setting: str) -> None:
    """Experts are bare tensors and no nn.Linear: most bytes of a mixture stay at 16 bits in a "4-bit" model."""
    config = transformers.MixtralConfig(**SIZES, num_local_experts=4, num_experts_per_tok=2)
    transformers.MixtralForCausalLM(config).save_pretrained(tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.bfloat16, quantization_config=transformers.BitsAndBytesConfig(**{setting: True})
    )
    layer = model.model.layers[0]
    assert not layer.self_attn.q_proj.weight.dtype.is_floating_point
    experts = dict(layer.mlp.experts.named_parameters())
    assert {parameter.dtype for parameter in experts.values()} == {torch.bfloat16}
    assert sum(parameter.numel() for parameter in experts.values()) == 4 * 3 * 64 * 64
