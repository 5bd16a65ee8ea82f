#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: what a causal model carries from one call to the next is in the cache it is given, so that two texts with a
# cache each may be read in turns; RecurrentGemma in transformers 5.23.0 takes such a cache.
# Seen: its recurrent layers keep their state in the modules themselves, and the cache holds the keys alone. Reading
# another text meanwhile, with a cache of its own, changes what the first goes on with: its next token is nats away.
# Nothing of that state is in the cache, so that neither copying it nor adding up its bytes sees it.
# Our answer: bench/engines/transformers/forward.py (`Inside`) counts what modules hold and clears it between texts.
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
from transformers import DynamicCache, RecurrentGemmaConfig, RecurrentGemmaForCausalLM

torch.manual_seed(0)
config = RecurrentGemmaConfig(
    vocab_size=64, hidden_size=64, lru_width=64, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=1,
    intermediate_size=128, attention_window_size=32,
)
model = RecurrentGemmaForCausalLM(config).eval().double()
for parameter in model.parameters():
    if parameter.dim() > 1:
        torch.nn.init.normal_(parameter, std=0.2)
text, other = torch.arange(2, 18)[None], torch.arange(40, 56)[None]


def last(meanwhile):
    """Log-probabilities behind the text, whose last token is read from a cache; meanwhile: another text."""
    cache = DynamicCache(config=config)
    model(text[:, :-1], past_key_values=cache, use_cache=True)
    if meanwhile is not None:
        model(meanwhile, past_key_values=DynamicCache(config=config), use_cache=True)
    return model(text[:, -1:], past_key_values=cache, use_cache=True).logits[0, -1].log_softmax(-1)


with torch.no_grad():
    whole = model(text).logits[0, -1].log_softmax(-1)
    plain, disturbed = (float((last(meanwhile) - whole).abs().max()) for meanwhile in (None, other))
print(f"nats from one pass: {plain:.2g}; with another text read meanwhile {disturbed:.2g}")
sys.exit(0 if plain < 1e-5 and disturbed > 0.1 else 1)
PY
