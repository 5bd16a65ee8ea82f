#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: `from_pretrained(dtype=torch.bfloat16)` of DeBERTa (v1) in transformers 5.23.0 gives a model whose
# parameters are all bfloat16, or that computes with what it has.
# Seen: parameters that the class declares as float32 stay float32 (`model.dtype` says bfloat16), and the first pass
# fails because two types cannot be multiplied. XLNet does the same with most of its matrices. Loaded as float32 and
# cast by `.to(torch.bfloat16)` both compute.
# Our answer: bench/engines/transformers/engine.py names the parameters, and such a row is unsupported, not failed.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(torch==2.13.0 transformers==5.23.0)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
TRANSFORMERS_VERBOSITY=error "$venv/bin/python" - "$folder" <<'PY'
import sys

import torch
from transformers import DebertaConfig, DebertaForMaskedLM, XLNetConfig, XLNetLMHeadModel

KINDS = {
    DebertaForMaskedLM: DebertaConfig(
        vocab_size=64, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128,
    ),
    XLNetLMHeadModel: XLNetConfig(vocab_size=64, d_model=64, n_layer=2, n_head=4, d_inner=128),
}
tokens, found = torch.arange(8)[None], []
for kind, config in KINDS.items():
    path = f"{sys.argv[1]}/{kind.__name__}"
    kind(config).save_pretrained(path)
    loaded = kind.from_pretrained(path, dtype=torch.bfloat16).eval()
    others = {name.rpartition(".")[2] for name, one in loaded.named_parameters() if one.dtype is torch.float32}
    said = "computes"
    with torch.no_grad():
        try:
            loaded(tokens)
        except RuntimeError as error:
            said = str(error).splitlines()[0]
        cast = kind.from_pretrained(path, dtype=torch.float32).eval().to(torch.bfloat16)(tokens).logits
    print(f"{kind.__name__} loaded as {loaded.dtype}: float32 are {', '.join(sorted(others))} | {said}")
    print(f"{kind.__name__} cast: {cast.dtype}, finite {bool(cast.isfinite().all())}")
    found.append(bool(others) and said != "computes" and bool(cast.isfinite().all()))
sys.exit(0 if all(found) else 1)
PY
