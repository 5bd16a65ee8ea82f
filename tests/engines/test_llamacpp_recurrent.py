# SPDX-License-Identifier: Apache-2.0
"""GGUF files of state-space and hybrid models: their states are counted, and what is no decoder is refused."""

import numpy as np
import pytest

pytest.importorskip("llama_cpp", reason="llama-cpp-python is not installed here: nox -s bench-llamacpp has it")
gguf = pytest.importorskip("gguf")

import llama_cpp  # noqa: E402
from tiny_gguf import load  # noqa: E402

from bench.catalog import gguf_file, gguf_states  # noqa: E402
from bench.engines.contract import Row, Unsupported  # noqa: E402
from bench.engines.llamacpp import census, random_weights  # noqa: E402

TEXT = "The lazy dog jumps over 42 quick foxes."
WIDTH, INNER, STATE, KERNEL, RANK, VOCABULARY = 64, 128, 8, 4, 4, 320
FEED = {"ffn_norm": (WIDTH,), "ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH), "ffn_down": (WIDTH, INNER)}
MAMBA = {
    "attn_norm": (WIDTH,), "ssm_in": (2 * INNER, WIDTH), "ssm_conv1d": (INNER, KERNEL), "ssm_conv1d.bias": (INNER,),
    "ssm_x": (RANK + 2 * STATE, INNER), "ssm_dt": (INNER, RANK), "ssm_dt.bias": (INNER,), "ssm_a": (INNER, STATE),
    "ssm_d": (INNER,), "ssm_out": (WIDTH, INNER),
}  # fmt: skip
CONVOLUTION = {
    "attn_norm": (WIDTH,), "shortconv.conv": (WIDTH, 3), "shortconv.in_proj": (3 * WIDTH, WIDTH),
    "shortconv.out_proj": (WIDTH, WIDTH), **FEED,
}  # fmt: skip
ATTENTION = {
    "attn_norm": (WIDTH,), "attn_q": (WIDTH, WIDTH), "attn_k": (WIDTH // 2, WIDTH), "attn_v": (WIDTH // 2, WIDTH),
    "attn_output": (WIDTH, WIDTH), "attn_q_norm": (16,), "attn_k_norm": (16,), **FEED,
}  # fmt: skip
COMMON = {"context_length": 1024, "embedding_length": WIDTH, "block_count": 2, "attention.layer_norm_rms_epsilon": 1e-5}
BARE = ("ssm_a", "ssm_d")
"""Tensors whose names end there."""


def write(path, kind, keys, layers, ends):
    """A tiny random file of that architecture, float32."""
    writer, random = gguf.GGUFWriter(path, kind), np.random.default_rng(0)
    writer.add_file_type(0)
    for key, value in keys.items():
        add = {bool: writer.add_bool, float: writer.add_float32, list: writer.add_array}.get(type(value))
        (add or writer.add_uint32)(f"{kind}.{key}", value)
    writer.add_vocab_size(VOCABULARY)
    random_weights._tokenizer(writer, VOCABULARY)
    shapes = {"token_embd.weight": (VOCABULARY, WIDTH), **ends}
    for index, layer in enumerate(layers):
        for name, shape in layer.items():
            shapes[f"blk.{index}.{name}" + ("" if name in BARE or name.endswith(".bias") else ".weight")] = shape
    for name, shape in shapes.items():
        values = np.ones(shape) if "norm" in name else random.normal(0, 0.2, shape)
        writer.add_tensor(name, (-np.abs(values) if name.endswith("ssm_a") else values).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def mamba(folder):
    """Two state-space layers; no head of attention at all."""
    ssm = {"ssm.conv_kernel": KERNEL, "ssm.inner_size": INNER, "ssm.state_size": STATE, "ssm.time_step_rank": RANK}
    keys = {**COMMON, **ssm, "feed_forward_length": 0, "attention.head_count": 0}
    return write(folder / "mamba.gguf", "mamba", keys, [MAMBA, MAMBA], {"output_norm.weight": (WIDTH,)})


def lfm2(folder):
    """A convolution and an attention."""
    heads = {"attention.head_count": 4, "attention.head_count_kv": [0, 2], "rope.freq_base": 10000.0}
    keys = {**COMMON, **heads, "feed_forward_length": INNER, "shortconv.l_cache": 3}
    return write(folder / "lfm2.gguf", "lfm2", keys, [CONVOLUTION, ATTENTION], {"token_embd_norm.weight": (WIDTH,)})


@pytest.mark.parametrize(
    ("make", "states", "position"),
    [(mamba, 4 * 2 * (3 * INNER + INNER * STATE), 0), (lfm2, 4 * 2 * WIDTH, 2 * 2 * 2 * 16)],
)
def test_states_are_counted_beside_keys_and_values(tmp_path, make, states, position):
    """Bytes by hand, and llama.cpp's own copy of one sequence holds them with little besides."""
    engine = load(make(tmp_path))
    header = gguf_file.read(tmp_path / f"{make.__name__}.gguf")
    assert (gguf_states.state_bytes(header), census.cache_bytes_per_token(header)) == (states, position)
    tokens = engine.encode(TEXT)
    for prompt in (tokens, tokens[:5]):
        generation = engine.prefill([prompt, prompt])
        read = list(prompt)
        for _ in range(3):
            best = int(engine.log_probs([*read, 0])[-1].argmax())
            assert generation.step() == [best, best]
            read.append(best)
        held = len(prompt) + 2
        assert generation.fixed_bytes == 2 * states
        assert generation.cache_bytes == 2 * (states + held * position)
        copied = llama_cpp.llama_state_seq_get_size(generation.context.pointer, 0)
        assert 0 <= copied - generation.cache_bytes // 2 < 200 + 16 * held  # which cells they lie in, and the types
        generation.close()
    engine.close()


@pytest.mark.parametrize("make", [mamba, lfm2])
def test_rows_of_a_recurrent_model_are_scored_each_by_itself(tmp_path, make):
    """A state cannot be shared by sequences that go on from it: llama.cpp finds no room for them."""
    engine = load(make(tmp_path))
    tokens = engine.encode(TEXT)
    exact = engine.log_probs(tokens)
    cuts = ((1, 4), (9, 12), (9, 30), (9, 10), (2, len(tokens)))
    scores = engine.score([Row(tuple(tokens[:cut]), tuple(tokens[cut:end])) for cut, end in cuts])
    for (cut, end), score in zip(cuts, scores, strict=True):
        assert score.log_probs == pytest.approx(exact[np.arange(cut - 1, end - 1), tokens[cut:end]], abs=2e-3)
    assert engine.log_probs_stepwise(tokens) == pytest.approx(exact, abs=5e-3)
    engine.close()


def test_an_encoder_is_refused_by_its_header(tmp_path):
    """BERT's file says that its attention is not causal; nothing is loaded."""
    path = write(tmp_path / "bert.gguf", "bert", {**COMMON, "attention.causal": False}, [], {})
    with pytest.raises(Unsupported, match="bert reads each token together with those after it: it predicts none"):
        load(path)
    path = write(tmp_path / "t5.gguf", "t5", COMMON, [], {"enc.blk.0.attn_k.weight": (WIDTH, WIDTH)})
    with pytest.raises(Unsupported, match="t5 has an encoder: this backend reads decoders alone"):
        load(path)
