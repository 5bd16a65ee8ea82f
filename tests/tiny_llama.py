# SPDX-License-Identifier: Apache-2.0
"""One tiny llama, the same weights and tokenizer in every engine's file format, and what it must answer.

Numpy alone: it must run in the environment of an engine that has neither torch nor transformers. Rows are multiples
of 256 so that every quantized type of GGUF fits; the head is made so that the model ends after `CLOSING`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
HIDDEN, FEED_FORWARD, LAYERS, HEADS, KV_HEADS, CONTEXT = 256, 512, 2, 4, 2, 256
HEAD = HIDDEN // HEADS
EPSILON, THETA = 1e-5, 10000.0
BEGIN, END = 0, 1
MERGES = ["t h", "Ġ t", "h e", "i n", "Ġt he", "Ġ a", "e r", "o n", "q u", "l a", "Ġ f", "o x", "u m", "r o", "Ġ 4"]
CLOSING = "And that is the end of it."
"""A text after which the most probable token is the end."""


@cache
def alphabet() -> dict[int, str]:
    """The printable character that stands for each byte in byte-level BPE, as GPT-2 chose them."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}


@cache
def vocabulary() -> list[str]:
    """Every token's text: two special ones, the bytes, the merges."""
    return ["<s>", "</s>", *(alphabet()[byte] for byte in range(256)), *(merge.replace(" ", "") for merge in MERGES)]


WORDS = re.compile(r"'(?:[sdmt]|ll|ve|re)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
"""GPT-2's pattern, for ASCII."""


def encode(text: str) -> list[int]:
    """Tokens of an ASCII text, merged in the order of MERGES."""
    ids = {token: index for index, token in enumerate(vocabulary())}
    found = []
    for word in WORDS.findall(text):
        parts = [alphabet()[byte] for byte in word.encode()]
        for merge in MERGES:
            first, second = merge.split()
            at = 0
            while at < len(parts) - 1:
                if (parts[at], parts[at + 1]) == (first, second):
                    parts[at : at + 2] = [first + second]
                at += 1
        found += [ids[part] for part in parts]
    return found


@cache
def weights() -> dict[str, Floats]:
    """Tensors by their names in a Hub checkpoint, float32, seeded."""
    random = np.random.default_rng(7)

    def normal(*shape: int, scale: float) -> Floats:
        return random.normal(0, scale, shape).astype(np.float32)

    size = len(vocabulary())
    made: dict[str, Floats] = {"model.embed_tokens.weight": normal(size, HIDDEN, scale=1.0)}
    for layer in range(LAYERS):
        head = f"model.layers.{layer}"
        for name, rows, columns in (
            ("self_attn.q_proj", HIDDEN, HIDDEN),
            ("self_attn.k_proj", KV_HEADS * HEAD, HIDDEN),
            ("self_attn.v_proj", KV_HEADS * HEAD, HIDDEN),
            ("self_attn.o_proj", HIDDEN, HIDDEN),
            ("mlp.gate_proj", FEED_FORWARD, HIDDEN),
            ("mlp.up_proj", FEED_FORWARD, HIDDEN),
            ("mlp.down_proj", HIDDEN, FEED_FORWARD),
        ):
            made[f"{head}.{name}.weight"] = normal(rows, columns, scale=1.2 / columns**0.5)
        for name in ("input_layernorm", "post_attention_layernorm"):
            made[f"{head}.{name}.weight"] = 1 + normal(HIDDEN, scale=0.1)
    made["model.norm.weight"] = 1 + normal(HIDDEN, scale=0.1)
    made["lm_head.weight"] = normal(size, HIDDEN, scale=4 / HIDDEN**0.5)
    last = _hidden(made, encode(CLOSING))[-1]
    made["lm_head.weight"][END] = 25 * last / (last @ last)
    return made


LOUDER = 2
"""A power of two, so that what is made louder and quieter by it is the same to the last bit."""


def loud() -> dict[str, Floats]:
    """The same function with louder inputs of each layer's first projections, whose weights are quieter instead.

    Two of three tokens then have a value beyond 6, each in a column of its own: outliers, as LLM.int8() calls them.
    """
    made = dict(weights())
    for name, value in weights().items():
        if "layernorm" in name:
            made[name] = value * LOUDER
        elif any(part in name for part in ("q_proj", "k_proj", "v_proj", "gate_proj", "up_proj")):
            made[name] = value / LOUDER
    return made


def log_probs(tokens: Sequence[int]) -> Floats:
    """Log-probabilities (nats), shape (len(tokens) - 1, vocabulary): row i predicts tokens[i + 1]."""
    logits = _hidden(weights(), tokens[:-1]) @ weights()["lm_head.weight"].T
    shifted = logits - logits.max(-1, keepdims=True)
    result: Floats = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return result


def asked_after_beginning(engine: Any) -> tuple[list[float], list[float]]:
    """Log-likelihoods by lm-eval's requests of an engine whose tokenizer begins and ends every text, and the true ones.

    A rolling text, and two answers of one token each to the same question.
    """
    from lm_eval.api.instance import Instance

    from bench.scoring.lm import EngineLM

    def request(kind: str, *arguments: str) -> Instance:
        return Instance(request_type=kind, doc={}, arguments=arguments, idx=0, metadata=("t", 0, 1))

    lm = EngineLM(engine, CONTEXT, lambda finished, total: None)
    text, question, answers = "the fox on a quick law", "the number is", (" a", " f")
    found = lm.loglikelihood_rolling([request("loglikelihood_rolling", text)])
    found += [value for value, _ in lm.loglikelihood([request("loglikelihood", question, one) for one in answers])]
    tokens, before = [BEGIN, *encode(text)], [BEGIN, *encode(question)]
    rows = log_probs(tokens)
    true = [float(sum(row[token] for row, token in zip(rows, tokens[1:], strict=True)))]
    for answer in answers:
        (token,) = encode(answer)
        true.append(float(log_probs([*before, token])[-1, token]))
    return found, true


def _hidden(made: dict[str, Floats], tokens: Sequence[int]) -> Floats:
    """The last layer's normalised output at every position: llama as its paper and its Hub code define it."""
    x = made["model.embed_tokens.weight"][list(tokens)]
    frequency = THETA ** -(np.arange(0, HEAD, 2) / HEAD)
    angle = np.outer(np.arange(len(tokens)), frequency)
    sine, cosine = (np.tile(f(angle), 2).astype(np.float32)[:, None, :] for f in (np.sin, np.cos))
    future = np.triu(np.full((len(tokens), len(tokens)), -np.inf, dtype=np.float32), 1)

    def turn(rows: Floats) -> Floats:
        first, second = np.split(rows, 2, axis=-1)
        return rows * cosine + np.concatenate([-second, first], -1) * sine

    for layer in range(LAYERS):
        part = {
            name.removeprefix(f"model.layers.{layer}.").removesuffix(".weight"): value
            for name, value in made.items()
            if name.startswith(f"model.layers.{layer}.")
        }
        y = _norm(x, part["input_layernorm"])
        q, k, v = ((y @ part[f"self_attn.{n}_proj"].T).reshape(len(tokens), -1, HEAD) for n in "qkv")
        k, v = (np.repeat(t, HEADS // KV_HEADS, axis=1) for t in (turn(k), v))
        scores = np.einsum("ihd,jhd->hij", turn(q), k) / HEAD**0.5 + future
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        shares /= shares.sum(-1, keepdims=True)
        x = x + np.einsum("hij,jhd->ihd", shares, v).reshape(len(tokens), -1) @ part["self_attn.o_proj"].T
        y = _norm(x, part["post_attention_layernorm"])
        gate = y @ part["mlp.gate_proj"].T
        x = x + (gate / (1 + np.exp(-gate)) * (y @ part["mlp.up_proj"].T)) @ part["mlp.down_proj"].T
    return _norm(x, made["model.norm.weight"])


def _norm(x: Floats, scale: Floats) -> Floats:
    result: Floats = x / np.sqrt((x**2).mean(-1, keepdims=True) + EPSILON) * scale
    return result


def config() -> dict[str, Any]:
    """The transformers configuration."""
    return {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "dtype": "float32",
        "vocab_size": len(vocabulary()), "hidden_size": HIDDEN, "intermediate_size": FEED_FORWARD,
        "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS,
        "max_position_embeddings": CONTEXT, "rms_norm_eps": EPSILON, "rope_theta": THETA, "hidden_act": "silu",
        "tie_word_embeddings": False, "bos_token_id": BEGIN, "eos_token_id": END,
    }  # fmt: skip


def write_checkpoint(folder: Path, made: dict[str, Floats] | None = None) -> Path:
    """The model in Hub layout, of other weights if they are given; needs `safetensors`."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file(made or weights(), folder / "model.safetensors", metadata={"format": "pt"})
    special = [
        {"id": i, "content": vocabulary()[i], "special": True, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False}
        for i in (BEGIN, END)
    ]  # fmt: skip
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": True}
    ids = {token: index for index, token in enumerate(vocabulary())}
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": special, "normalizer": None,
        "pre_tokenizer": level, "post_processor": None, "decoder": level,
        "model": {"type": "BPE", "vocab": ids, "merges": MERGES, "byte_fallback": False},
    }  # fmt: skip
    named = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<s>", "eos_token": "</s>"}
    files = {"config.json": config(), "tokenizer.json": tokenizer, "tokenizer_config.json": named}
    for name, data in files.items():
        (folder / name).write_text(json.dumps(data), encoding="utf-8")
    return folder


GGUF_NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm",
}  # fmt: skip


def write_gguf(
    path: Path, architecture: str = "llama", made: dict[str, Floats] | None = None, *, framed: bool = False
) -> Path:
    """The model as one GGUF file, float32, of other weights if they are given; needs `gguf`.

    `framed`: its tokenizer puts the beginning before every text and the end after it.
    """
    from gguf import GGUFWriter, LlamaFileType, TokenType

    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny llama")
    writer.add_file_type(LlamaFileType.ALL_F32)
    writer.add_vocab_size(len(vocabulary()))
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_block_count(LAYERS)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_freq_base(THETA)
    writer.add_rope_dimension_count(HEAD)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(vocabulary())
    writer.add_token_types([TokenType.CONTROL] * 2 + [TokenType.NORMAL] * (len(vocabulary()) - 2))
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(BEGIN)
    writer.add_eos_token_id(END)
    writer.add_add_bos_token(value=framed)
    writer.add_add_eos_token(value=framed)
    for name, value in (made or weights()).items():
        writer.add_tensor(*_gguf(name, value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _gguf(name: str, value: Floats) -> tuple[str, Floats]:
    """A tensor as GGUF has it: other names, and the halves of each query and key head interleaved."""
    whole = {
        "model.embed_tokens.weight": "token_embd",
        "model.norm.weight": "output_norm",
        "lm_head.weight": "output",
    }
    if name in whole:
        return f"{whole[name]}.weight", value
    _, _, layer, *rest = name.removesuffix(".weight").split(".")
    part = ".".join(rest)
    if part in {"self_attn.q_proj", "self_attn.k_proj"}:
        value = value.reshape(-1, 2, HEAD // 2, HIDDEN).swapaxes(1, 2).reshape(value.shape)
    return f"blk.{layer}.{GGUF_NAMES[part]}.weight", np.ascontiguousarray(value)
