#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: a configuration that transformers 5 has saved, whose rotary positions stand in `rope_parameters`, is read by
# transformers 4.57.6 as the same model, or refused: optimum-onnx 0.1.0 wants a transformers below 4.58.
# Seen: base and scaling of the positions are the class's own defaults, without an error or a warning. Whatever is made
# of the model there is another one, and a proof against transformers there shows nothing, for both are wrong alike.
# Our answer: bench/engines/onnxruntime/export.py writes such configurations back in the older words, and refuses those
# that have none.
# Exits with 0 while the library does so, with 1 when it no longer does.
set -euo pipefail

pins=(transformers==4.57.6)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

"$venv/bin/python" - <<'PY'
import json
import sys
import tempfile
import warnings
from pathlib import Path

from transformers import AutoConfig

told = {"rope_theta": 500000.0, "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
        "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    Path(folder, "config.json").write_text(json.dumps({"model_type": "llama", "rope_parameters": told}))
    config = AutoConfig.from_pretrained(folder)
words = [str(one.message) for one in said if "rope" in str(one.message)]
print(f"saved base {told['rope_theta']}, read {config.rope_theta}; scaling read {config.rope_scaling}; said {words}")
sys.exit(0 if config.rope_theta == 10000.0 and config.rope_scaling is None and not words else 1)
PY
