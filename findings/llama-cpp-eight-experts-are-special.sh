#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Expected: llama.cpp's quantizer (llama-cpp-python 0.3.36), asked for one type, gives a layer's keys and values that
# type whatever stands beside them; a mixture of four, eight or sixteen experts differs in the experts alone.
# Seen: with exactly eight experts keys and values are Q8_0, at Q4_0 as at Q4_K_M; with four or sixteen they have the
# type that was asked for. So two mixtures of one "type" hold other bits a weight, for a number that has nothing to do
# with it.
# Our answer: bench/engines/llamacpp/quantizer.py plans every tensor's type by the number of experts.
# Exits with 0 while the library does so, with 1 when it no longer does. llama.cpp is built from source: ten minutes.
set -euo pipefail

pins=(gguf==0.19.0 llama-cpp-python==0.3.36)
name=$(IFS=+; echo "${pins[*]}")
venv="${FINDINGS_VENVS:-${TMPDIR:-/tmp}/findings-venvs}/$name"
[ -x "$venv/bin/python" ] || python3 -m venv "$venv"
"$venv/bin/pip" install -q "${pins[@]}"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$venv/bin/python" - "$folder" 2>/dev/null <<'PY'
import collections
import ctypes
import pathlib
import sys

import gguf
import llama_cpp
import numpy as np

WIDTH, INNER, LAYERS, WORDS = 256, 512, 4, 260
TYPES = {"Q4_0": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_0, "Q4_K_M": llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M}


def source(path, experts):
    """A small mixture with random float32 weights."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(LAYERS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_expert_count(experts)
    writer.add_expert_used_count(2)
    writer.add_tokenizer_model("no_vocab")
    writer.add_vocab_size(WORDS)
    shapes = {"token_embd": (WORDS, WIDTH), "output_norm": (WIDTH,), "output": (WORDS, WIDTH)}
    for layer in range(LAYERS):
        for part, shape in {
            "attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH),
            "attn_v": (WIDTH // 2, WIDTH), "attn_output": (WIDTH, WIDTH), "ffn_norm": (WIDTH,),
            "ffn_gate_inp": (experts, WIDTH), "ffn_gate_exps": (experts, INNER, WIDTH),
            "ffn_up_exps": (experts, INNER, WIDTH), "ffn_down_exps": (experts, WIDTH, INNER),
        }.items():
            shapes[f"blk.{layer}.{part}"] = shape
    draw = np.random.default_rng(0)
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", draw.standard_normal(shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def types(path, part):
    """How many layers' tensors of that name have each type."""
    found = (tensor.tensor_type.name for tensor in gguf.GGUFReader(path).tensors if part in tensor.name)
    return dict(collections.Counter(found))


folder, keys = pathlib.Path(sys.argv[1]), {}
for experts in (4, 8, 16):
    plain = folder / f"{experts}.gguf"
    source(plain, experts)
    for asked, number in TYPES.items():
        made = folder / f"{experts}-{asked}.gguf"
        params = llama_cpp.llama_model_quantize_default_params()
        params.ftype = number
        code = llama_cpp.llama_model_quantize(str(plain).encode(), str(made).encode(), ctypes.byref(params))
        keys[experts, asked] = types(made, "attn_k.")
        print(f"{experts} experts, {asked}: code {code}, keys {keys[experts, asked]}, values {types(made, 'attn_v.')}")
special = all(keys[8, asked] == {"Q8_0": LAYERS} for asked in TYPES)
plain = all(keys[experts, "Q4_0"] == {"Q4_0": LAYERS} for experts in (4, 16))
plain &= all(keys[experts, "Q4_K_M"] == {"Q4_K": LAYERS} for experts in (4, 16))
sys.exit(0 if special and plain else 1)
PY
