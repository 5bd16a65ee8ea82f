#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: a token that is handed to MiniMax or Bamba in transformers 5.23.0 together with their cache stands behind
# what the cache holds, as with Llama: without `position_ids` a model counts on from there.
# Seen: it is placed at the beginning again. Its prediction is nats away, with no error and no warning; told its
# position it is right. MiniMax's cache even says that it holds nothing (`get_seq_length()` is 0 after 16 tokens).
# `generate` tells positions, so that only those who call the model themselves (likelihoods, speculation) are concerned.
# Our answer: bench/engines/transformers/proof.py tries each class both ways and tells positions where that is needed.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(torch==2.13.0 transformers==5.23.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

TRANSFORMERS_VERBOSITY=error "$venv/bin/python" - <<'PY'
import sys

import torch
from transformers import (
    BambaConfig, BambaForCausalLM, LlamaConfig, LlamaForCausalLM, MiniMaxConfig, MiniMaxForCausalLM,
)

SIZES = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "pad_token_id": 0, "bos_token_id": 0, "eos_token_id": 1,
}
KINDS = {
    LlamaForCausalLM: LlamaConfig(**SIZES),
    BambaForCausalLM: BambaConfig(
        **SIZES, attn_layer_indices=[1], mamba_n_heads=8, mamba_d_head=16, mamba_d_state=8, mamba_n_groups=1,
    ),
    MiniMaxForCausalLM: MiniMaxConfig(
        **SIZES, head_dim=16, layer_types=["linear_attention", "full_attention"], num_local_experts=2,
        num_experts_per_tok=1, block_size=16,
    ),
}
tokens, found = torch.arange(2, 19)[None], {}
for kind, config in KINDS.items():
    torch.manual_seed(0)
    model = kind(config).eval()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        whole = model(tokens).logits[0, -1].log_softmax(-1)
        apart = []
        for told in ({}, {"position_ids": torch.tensor([[16]])}):
            cache = model(tokens[:, :16], use_cache=True).past_key_values
            length = cache.get_seq_length()
            next_one = model(tokens[:, 16:], past_key_values=cache, use_cache=True, **told).logits[0, -1]
            apart.append(float((next_one.log_softmax(-1) - whole).abs().max()))
    print(f"{kind.__name__}: {apart[0]:.2g} nats from one pass, told its position {apart[1]:.2g}; cache says {length}")
    found[kind] = apart[0] > 0.1 and apart[1] < 1e-3
sys.exit(0 if list(found.values()) == [False, True, True] else 1)
PY
