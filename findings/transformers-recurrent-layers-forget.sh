#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: a text may be read in pieces through the cache, whatever the pieces are; of Mamba in transformers 5.23.0 as
# of any model. Reading long prompts in parts, and many endings behind one context, rest on that.
# Seen: a piece of one token is right. Where a piece has several, the recurrence begins at nothing again, while the
# convolution goes on from what it had: no error, no warning, and the second half of a text that is read in two halves
# is nats from what one pass gives. FalconMamba does the same.
# Our answer: bench/engines/transformers/causal.py goes on by single tokens or reads the whole text again (`in_parts`).
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
from transformers import FalconMambaConfig, FalconMambaForCausalLM, MambaConfig, MambaForCausalLM

SIZES = {"vocab_size": 64, "hidden_size": 64, "num_hidden_layers": 2, "pad_token_id": 0}
KINDS = {
    MambaForCausalLM: MambaConfig(**SIZES, state_size=8),
    FalconMambaForCausalLM: FalconMambaConfig(**SIZES, state_size=8),
}
tokens, HALF = torch.arange(2, 34)[None], 16


def read(model, pieces):
    """Log-probabilities behind every token of a text that is read in pieces of so many tokens."""
    cache, found, at = None, [], 0
    for count in pieces:
        out = model(tokens[:, at : at + count], cache_params=cache, use_cache=True)
        cache, at = out.cache_params, at + count
        found.append(out.logits.log_softmax(-1))
    return torch.cat(found, 1)


forgets = []
for kind, config in KINDS.items():
    torch.manual_seed(0)
    model = kind(config).eval().double()
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.2)
    with torch.no_grad():
        whole = model(tokens).logits.log_softmax(-1)[:, HALF:]
        single, halves = (read(model, pieces)[:, HALF:] for pieces in ([HALF] + [1] * HALF, [HALF, HALF]))
    apart = [float((found - whole).abs().max()) for found in (single, halves)]
    print(f"{kind.__name__}, float64, nats from one pass: by single tokens {apart[0]:.2g}, by halves {apart[1]:.2g}")
    forgets.append(apart[0] < 1e-4 and apart[1] > 0.1)
sys.exit(0 if all(forgets) else 1)
PY
