# SPDX-License-Identifier: Apache-2.0
"""Small GGUF files with the tensors and the metadata that a test names: whole models, and what is none."""

from pathlib import Path
from typing import Any

import gguf
import numpy as np

from bench.engines.llamacpp import random_weights

WIDTH, INNER, LAYERS, VOCABULARY = 256, 512, 2, 320


def shapes(
    *, layers: int = LAYERS, width: int = WIDTH, inner: int = INNER, experts: int = 0, tied: bool = False
) -> dict[str, tuple[int, ...]]:
    """Tensors of a Llama, or of a mixture of that many experts, by name; output features first."""
    found: dict[str, tuple[int, ...]] = {"token_embd": (VOCABULARY, width), "output_norm": (width,)}
    if not tied:
        found["output"] = (VOCABULARY, width)
    for layer in range(layers):
        own: dict[str, tuple[int, ...]] = {
            "attn_norm": (width,), "attn_q": (width, width), "attn_k": (width // 2, width),
            "attn_v": (width // 2, width), "attn_output": (width, width), "ffn_norm": (width,),
        }  # fmt: skip
        if experts:
            own |= {"ffn_gate_inp": (experts, width), "ffn_gate_exps": (experts, inner, width)}
            own |= {"ffn_up_exps": (experts, inner, width), "ffn_down_exps": (experts, width, inner)}
        else:
            own |= {"ffn_gate": (inner, width), "ffn_up": (inner, width), "ffn_down": (width, inner)}
        found |= {f"blk.{layer}.{name}": shape for name, shape in own.items()}
    return {f"{name}.weight": shape for name, shape in found.items()}


def write(
    path: Path, tensors: dict[str, tuple[int, ...]] | None = None, architecture: str = "llama", **metadata: Any
) -> Path:
    """A file of float32 tensors with small values; `metadata` overrides or adds keys, written with __ for a dot."""
    tensors = shapes() if tensors is None else tensors
    layers = {name.split(".")[1] for name in tensors if name.startswith("blk.")}
    width = tensors["token_embd.weight"][1] if "token_embd.weight" in tensors else WIDTH
    inner = next((shape[-1] for name, shape in tensors.items() if "ffn_down" in name), INNER)
    facts: dict[str, Any] = {
        f"{architecture}.block_count": len(layers), f"{architecture}.context_length": 512,
        f"{architecture}.embedding_length": width, f"{architecture}.feed_forward_length": inner,
        f"{architecture}.attention.head_count": 4, f"{architecture}.attention.head_count_kv": 2,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5, "general.file_type": 0,
    }  # fmt: skip
    facts |= {key.replace("__", "."): value for key, value in metadata.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in facts.items():
        if isinstance(value, list):
            writer.add_array(key, value)
        elif isinstance(value, str):
            writer.add_string(key, value)
        elif isinstance(value, float):
            writer.add_float32(key, value)
        else:
            writer.add_uint32(key, value)
    random_weights._tokenizer(writer, VOCABULARY)
    drawn = np.random.default_rng(0)
    for name, shape in tensors.items():
        values = drawn.standard_normal(shape) * 0.02
        writer.add_tensor(name, (values + (1 if "norm" in name else 0)).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
