# SPDX-License-Identifier: Apache-2.0
"""Write a GGUF with random weights, of true architecture and size; quantizing while writing needs little memory.

A few MiB of random blocks of each tensor type are made once and repeated from changing offsets: values are small and
sane (about 0.02 standard deviation, as in a fresh model), so that nothing overflows and every row differs. The
tokenizer is byte-level: any text can be encoded, one token a byte. Honest for memory and speed, never for quality.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import numpy as np
from numpy.typing import NDArray

from bench.catalog.config import Config, Settings, settings
from bench.catalog.gguf_file import BLOCKS, FILE_NUMBERS
from bench.engines.llamacpp import gguf_layout

if TYPE_CHECKING:
    import gguf

VERSION = 2
"""Raised when the same architecture would be written differently."""
HEADER_BYTES = 16 << 20
"""Room for metadata and tokenizer."""
POOL_ELEMENTS = 1 << 22
"""Values of a pool that tensors repeat, unless the whole model is smaller."""
STD = 0.02
ALIGNMENT = 32
SPECIAL = ("<s>", "</s>")
"""Beginning and end of a text; the bytes follow."""
NUMBERS = {name: number for number, (name, _, _) in BLOCKS.items()}
SIZES = {name: (block, size) for name, block, size in BLOCKS.values()}


def write(path: Path, config: Config, scheme: str, *, seed: int = 0) -> None:
    """Write a model of that architecture and scheme. Raises UnknownArchitecture, OSError."""
    import gguf

    s = settings(config)
    plan = gguf_layout.tensors(config, scheme)
    writer = gguf.GGUFWriter(path, gguf_layout.ARCHITECTURES[s["model_type"]])
    _describe(writer, s, scheme)
    _tokenizer(writer, s["vocab_size"])
    for tensor in plan:
        kind = gguf.GGMLQuantizationType(NUMBERS[tensor.type])
        writer.add_tensor_info(tensor.name, tensor.shape, np.dtype(np.float32), tensor.bytes, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()
    largest = max(int(np.prod(tensor.shape)) for tensor in plan)
    generator = np.random.default_rng(seed)
    pools: dict[str, NDArray[np.uint8]] = {}
    with path.open("ab") as file:
        _pad(file)
        for tensor in plan:
            if len(tensor.shape) == 1:
                value = 1.0 if "norm" in tensor.name and tensor.name.endswith("weight") else 0.0
                file.write(np.full(tensor.shape, value, np.float32).tobytes())
            else:
                if tensor.type not in pools:
                    pools[tensor.type] = pool(tensor.type, min(POOL_ELEMENTS, largest), generator)
                start = int(generator.integers(len(pools[tensor.type])))
                _repeat(file, pools[tensor.type], start, tensor.bytes)
            _pad(file)


def _pad(file: BinaryIO) -> None:
    file.write(bytes(-file.tell() % ALIGNMENT))


def _repeat(file: BinaryIO, blocks: NDArray[np.uint8], start: int, count: int) -> None:
    """Write `count` bytes of whole blocks from block `start` on, round and round."""
    flat = memoryview(blocks.tobytes())
    at = start * blocks.shape[1]
    while count:
        piece = flat[at : at + count]
        file.write(piece)
        count -= len(piece)
        at = 0


def pool(kind: str, elements: int, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Random blocks of a tensor type, shape (blocks, bytes of a block); their values have about STD.

    The number of blocks is odd, so that rows of a power of two never line up with it.
    """
    block, size = SIZES[kind]
    count = max(1, elements // block) | 1
    if kind in {"F32", "F16"}:
        values = generator.normal(0.0, STD, count).astype(np.float32 if kind == "F32" else np.float16)
        return values.view(np.uint8).reshape(count, size)
    made = generator.integers(0, 256, (count, size), np.uint8)
    for offset, constant in _constants(kind):
        made[:, offset : offset + len(constant)] = np.frombuffer(constant, np.uint8)
    return made


def _constants(kind: str) -> list[tuple[int, bytes]]:
    """Scales and minima of a block: (byte offset, bytes). Layouts as in ggml-common.h.

    A quantized value is uniform over its levels, whose standard deviation is levels / sqrt(12).
    """

    def half(value: float) -> bytes:
        return np.float16(value).tobytes()

    levels = STD / 67.4  # the standard deviation of IQ4's 16 values
    step = {
        3: STD * 12**0.5 / 8,
        4: STD * 12**0.5 / 16,
        5: STD * 12**0.5 / 32,
        6: STD * 12**0.5 / 64,
        8: STD * 12**0.5 / 256,
    }
    # Eight 6-bit scales of 32 and eight 6-bit minima of 60, packed into 12 bytes as get_scale_min_k4 unpacks them.
    packed = bytes([32 | 2 << 6] * 4 + [60 | 3 << 6] * 4 + [12 << 4] * 4)
    return {
        "Q4_0": [(0, half(step[4]))],
        "Q4_1": [(0, half(step[4])), (2, half(-7.5 * step[4]))],
        "Q5_0": [(0, half(step[5]))],
        "Q5_1": [(0, half(step[5])), (2, half(-15.5 * step[5]))],
        "Q8_0": [(0, half(step[8]))],
        "Q4_K": [(0, half(step[4] / 32)), (2, half(7.5 * step[4] / 60)), (4, packed)],
        "Q5_K": [(0, half(step[5] / 32)), (2, half(15.5 * step[5] / 60)), (4, packed)],
        "Q3_K": [(96, bytes(8) + bytes([255] * 4)), (108, half(step[3] / 16))],  # sixteen 6-bit scales of 48 - 32
        "IQ4_NL": [(0, half(levels))],
        "IQ4_XS": [(0, half(levels / 16)), (2, bytes([255, 255, 0, 0, 0, 0]))],  # eight 6-bit scales of 48 - 32
        "Q6_K": [(192, bytes([16] * 16)), (208, half(step[6] / 16))],
    }[kind]


def _describe(writer: gguf.GGUFWriter, s: Settings, scheme: str) -> None:
    """The metadata that llama.cpp needs to build the graph."""
    kind = s["model_type"]
    writer.add_name("random weights")
    name = gguf_layout.FILE_TYPE[scheme]
    writer.add_file_type(FILE_NUMBERS[name])
    writer.add_quantization_version(2)
    writer.add_block_count(s["num_hidden_layers"])
    writer.add_context_length(s["max_position_embeddings"] or 2048)  # BLOOM's ALiBi declares none
    writer.add_embedding_length(s["hidden_size"])
    writer.add_feed_forward_length(s["intermediate_size"])
    writer.add_head_count(s["num_attention_heads"])
    writer.add_vocab_size(s["vocab_size"])
    if kind in {"gpt2", "gpt_neox", "bloom"}:
        writer.add_layer_norm_eps(float(s.get("layer_norm_eps") or 1e-5))
        if kind == "gpt_neox":
            writer.add_rope_dimension_count(int(s["head_dim"] * float(s.get("rotary_pct") or 0.25)))
            writer.add_parallel_residual(s.get("use_parallel_residual") is not False)
        return
    writer.add_layer_norm_rms_eps(float(s.get("rms_norm_eps") or 1e-6))
    writer.add_head_count_kv(s["num_key_value_heads"])
    writer.add_key_length(s["head_dim"])
    writer.add_value_length(s["head_dim"])
    writer.add_rope_dimension_count(s["head_dim"])
    writer.add_rope_freq_base(float(s.get("rope_theta") or 10000.0))
    if kind == "gemma3_text":
        writer.add_sliding_window(s["sliding_window"])


def _tokenizer(writer: gguf.GGUFWriter, vocabulary: int) -> None:
    """Byte-level BPE with one merge (llama.cpp wants at least one); tokens nobody can produce fill the vocabulary."""
    alphabet = byte_alphabet()
    merged = alphabet[ord("e")] + alphabet[ord(" ")]
    tokens = [*SPECIAL, *alphabet, merged]
    tokens += [f"<{index}>" for index in range(len(tokens), vocabulary)]
    normal, control = 1, 3
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens[:vocabulary])
    writer.add_token_types([control] * len(SPECIAL) + [normal] * (vocabulary - len(SPECIAL)))
    writer.add_token_merges([f"{alphabet[ord('e')]} {alphabet[ord(' ')]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_add_bos_token(value=False)


def byte_alphabet() -> list[str]:
    """GPT-2's printable stand-in of each byte value: itself where it prints, else 256 and up in order."""
    printing = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in printing]
    table = {byte: chr(byte) for byte in printing} | {byte: chr(256 + n) for n, byte in enumerate(hidden)}
    return [table[byte] for byte in range(256)]
