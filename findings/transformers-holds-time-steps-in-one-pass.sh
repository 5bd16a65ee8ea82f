#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: Zamba2 in transformers 5.23.0 predicts the same whether it reads a text in one pass or token by token with
# its cache: nothing but rounding is between them, whatever the weights.
# Seen: one pass holds a layer's time steps at the config's `time_step_min` (0.001) or more, the step from a state takes
# any. Where a layer has shorter steps, what generates is another model than the one whose perplexity was measured: 0.1
# nats away in float64, where with no least step both agree to 1e-5. Nemotron-H does the same.
# Our answer: bench/engines/transformers/causal.py says so beside the figures of such classes.
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
from transformers import NemotronHConfig, NemotronHForCausalLM, Zamba2Config, Zamba2ForCausalLM

SIZES = {
    "vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
}
KINDS = {
    Zamba2ForCausalLM: (Zamba2Config, {
        "num_key_value_heads": 4, "layers_block_type": ["mamba", "hybrid"], "mamba_d_state": 8, "n_mamba_heads": 8,
    }),
    NemotronHForCausalLM: (NemotronHConfig, {
        "num_key_value_heads": 2, "head_dim": 16, "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 8,
        "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 1,
    }),
}


def apart(kind, least):
    """The most that a log-probability differs between one pass and token by token; least: the shortest step."""
    config, sizes = KINDS[kind]
    torch.manual_seed(0)
    model = kind(config(**SIZES, **sizes, time_step_min=least)).eval().double()
    for name, parameter in model.named_parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
        if name.endswith("dt_bias"):
            torch.nn.init.constant_(parameter, -9.0)  # steps of about 0.0001
    tokens = torch.arange(2, 42)[None]
    with torch.no_grad():
        whole = model(tokens).logits.log_softmax(-1)
        cache, steps = None, []
        for place in range(tokens.shape[1]):
            out = model(tokens[:, place : place + 1], past_key_values=cache, use_cache=True)
            cache = out.past_key_values
            steps.append(out.logits.log_softmax(-1))
    return float((whole - torch.cat(steps, 1)).abs().max())


differ = []
for kind in KINDS:
    held, free = apart(kind, 0.001), apart(kind, 1e-30)
    print(f"{kind.__name__}, float64: {held:.2g} nats apart with steps of 0.001 or more, {free:.2g} with any")
    differ.append(held > 100 * free and held > 1e-3)
sys.exit(0 if all(differ) else 1)
PY
