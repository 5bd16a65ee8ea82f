# SPDX-License-Identifier: Apache-2.0
"""What models carry from token to token: states of recurrent and convolution layers beside keys and values."""

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import tiny  # noqa: E402
from builders import make_cell, make_model  # noqa: E402

from bench.catalog import hybrid  # noqa: E402
from bench.catalog.config import UnknownArchitecture  # noqa: E402
from bench.catalog.local_model import own_model  # noqa: E402
from bench.engines.contract import LoadRequest, Row  # noqa: E402
from bench.engines.transformers import BACKEND, tree_scoring  # noqa: E402
from bench.instruments import Reading  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.plan.takers import cache_bytes  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.suite import Loading, SuiteRun, Work  # noqa: E402
from suites import memory, throughput  # noqa: E402

TEXT = "The lazy dog jumps over 42 quick foxes."
BYTES = 4
"""Of a value: everything here is float32."""
ATTENTION = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "max_position_embeddings": 512,
}  # fmt: skip
MAMBA = {"mamba_d_state": 8, "use_mamba_kernels": False}
CLASSES = {
    "mamba": ("MambaForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
    "mamba2": ("Mamba2ForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8,
                                     "head_dim": 16, "n_groups": 1}),
    "rwkv": ("RwkvForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2}),
    "xlstm": ("xLSTMForCausalLM", {"hidden_size": 128, "num_hidden_layers": 2, "num_blocks": 2, "num_heads": 4}),
    "lfm2": ("Lfm2ForCausalLM", {**ATTENTION, "layer_types": ["conv", "full_attention"]}),
    "jamba": ("JambaForCausalLM", {**ATTENTION, **MAMBA, "num_experts": 2, "attn_layer_period": 2,
                                   "attn_layer_offset": 1, "mamba_dt_rank": 4}),
    "qwen3_next": ("Qwen3NextForCausalLM", {
        **ATTENTION, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"], "num_experts": 2,
        "num_experts_per_tok": 1, "moe_intermediate_size": 32, "shared_expert_intermediate_size": 32,
        "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 16,
    }),
}  # fmt: skip
"""One class for each thing that is carried, and each name of it."""
KEYS = 2 * 2 * 16
"""Elements of keys and values of one position in the one attention layer of a hybrid here."""
FIXED = {
    "mamba": 2 * (128 * 4 + 128 * 8),
    "mamba2": 2 * ((128 + 2 * 8) * 4 + 8 * 16 * 8),
    "rwkv": 5 * 64 * 2,
    "xlstm": 2 * 4 * (16 * 32 + 16 + 1),
    "lfm2": 64 * 3,
    "jamba": 128 * 4 + 128 * 8,
    "qwen3_next": (2 * 2 * 16 + 4 * 16) * 4 + 4 * 16 * 16,
}
"""By hand, the elements of all states of one sequence: last inputs of convolutions, and recurrent states."""
GROWS = {"lfm2": KEYS, "jamba": KEYS, "qwen3_next": KEYS}


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Loaded tiny models, made on first use."""
    base, made = tmp_path_factory.mktemp("carried"), {}

    def get(kind):
        if kind not in made:
            model = tiny.of_class(*CLASSES[kind])
            made[kind] = BACKEND.load(asked(tiny.save(model, base / kind)))
            assert made[kind].refuted() is None
            assert made[kind].caveats == ()
        return made[kind]

    return get


def asked(folder):
    """A request for local weights in float32 on the CPU."""
    scheme = BACKEND.scheme("fp32")
    return LoadRequest(model=make_model(), weights=Weights.LOCAL, scheme=scheme, device="cpu", path=str(folder))


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_generating_goes_on_from_what_was_carried(engines, kind):
    """Each step reads one token and gives what reading the whole text gives; so do steps and parts of a score."""
    engine, widths = engines(kind), []
    hook = engine.model.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
    tokens = engine.encode(TEXT)
    copies = engine.most_sequences or 2
    generation = engine.prefill([tokens] * copies)
    steps = [generation.step() for _ in range(6)]
    generation.close()
    hook.remove()
    assert widths == [len(tokens), 1, 1, 1, 1, 1]
    read = list(tokens)
    for step in steps:
        best = int(engine.log_probs([*read, 0])[-1].argmax())
        assert step == [best] * copies
        read.append(best)
    whole = engine.log_probs(tokens)
    assert engine.log_probs_stepwise(tokens) == pytest.approx(whole, abs=2e-4)
    row = Row(tuple(tokens[:3]), tuple(tokens[3:]))
    wanted = whole[np.arange(2, len(tokens) - 1), tokens[3:]]
    (score,) = engine.score([row])
    assert score.log_probs == pytest.approx(wanted, abs=2e-4)


@pytest.mark.parametrize("kind", sorted(CLASSES))
def test_a_long_row_goes_through_what_is_carried_in_parts(engines, kind, monkeypatch):
    """Where all logits at once would fill the memory, the next part goes on from the one before."""
    engine = engines(kind)
    tokens = tuple(engine.encode(TEXT))
    whole = engine.log_probs(tokens)
    monkeypatch.setattr(tree_scoring, "LOGITS", 7 * tiny.VOCABULARY)
    (score,) = engine.score([Row(tokens[:3], tokens[3:])])
    assert score.log_probs == pytest.approx(whole[np.arange(2, len(tokens) - 1), tokens[3:]], abs=2e-4)


@pytest.mark.parametrize("kind", sorted(FIXED))
def test_every_tensor_that_is_carried_counts_and_states_do_not_grow(engines, kind):
    """Bytes by hand: states of one size from the first token on, keys and values for each position beside them."""
    engine = engines(kind)
    for length, batch in ((5, 1), (9, engine.most_sequences or 3)):
        prompt = engine.encode(TEXT)[:length]
        generation = engine.prefill([prompt] * batch)
        for _ in range(3):
            generation.step()
        assert generation.fixed_bytes == BYTES * batch * FIXED[kind]
        held = length + 2
        assert generation.cache_tokens == held
        assert generation.cache_bytes == generation.fixed_bytes + BYTES * batch * held * GROWS.get(kind, 0)
        generation.close()


def run_of(engine, suite, tmp_path, **settings):
    """One cell of a tiny engine, to be answered by a real suite."""
    cell = make_cell(suite)
    cell = cell.model_copy(update={"settings": {**cell.settings, **settings}})
    zero = Reading(total_bytes=0)
    loading = Loading(seconds=1.0, baseline=zero, peak=zero, ready=zero, loaded=zero)
    tools = BACKEND.instruments("cpu")
    return SuiteRun(cell=cell, engine=engine, instruments=tools, loading=loading, cache=tmp_path)


@pytest.mark.parametrize(("kind", "grows"), [("lfm2", KEYS), ("mamba2", 0)])
def test_the_memory_suite_tells_states_from_what_grows(engines, kind, grows, tmp_path):
    """The bytes held are all of it; those for each token are what grows."""
    run = run_of(engines(kind), "memory", tmp_path, prompt_tokens=20, decode_tokens=4)
    (found,) = [m for m in memory.measure(run) if m.name == "kv_bytes"]
    assert found.values == (BYTES * (FIXED[kind] + 23 * grows),)
    assert found.labels == {"tokens": 23, "fixed_bytes": BYTES * FIXED[kind]} | ({"kept_in": "fp32"} if grows else {})


@pytest.mark.parametrize(("kind", "grows"), [("lfm2", KEYS), ("mamba2", 0)])
def test_a_decode_step_reads_every_state_whole(engines, kind, grows, tmp_path):
    """The bytes of a step are the weights, the states, and keys and values at half of the generation."""
    times = {"batch": 2, "repeats": 2, "repeats_max": 2, "warmup_min": 1, "warmup_max": 1, "points": []}
    run = run_of(engines(kind), "throughput", tmp_path, prompt_tokens=20, decode_tokens=4, **times)
    found = {m.name: m for m in throughput.measure(run)}
    assert found["position_bytes"].values == (BYTES * 2 * grows,)
    assert found["position_bytes"].labels["fixed_bytes"] == BYTES * 2 * FIXED[kind]
    held = BYTES * 2 * (FIXED[kind] + 22 * grows)
    assert found["read_bytes_per_step"].values == (engines(kind).census().read_bytes(2) + held,)
    assert "fixed_bytes" not in found["read_bytes_per_step"].labels


def test_a_class_that_carries_nothing_says_so(tmp_path):
    """GPT-1 reads the whole text for each token: its speed needs the warning. One that carries a cache does not."""
    caveats = {}
    for kind in ("openai-gpt", "gpt2"):
        caveats[kind] = BACKEND.load(asked(tiny.checkpoint(tmp_path, kind))).caveats
    assert caveats["gpt2"] == ()


PREDICTED = {
    **CLASSES,
    "falcon_mamba": ("FalconMambaForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8}),
    "zamba": ("ZambaForCausalLM", {
        **ATTENTION, "num_hidden_layers": 4, "num_key_value_heads": 4, "attn_layer_period": 2, "attn_layer_offset": 0,
        "mamba_d_state": 8, "mamba_dt_rank": 4,
    }),
    "zamba2": ("Zamba2ForCausalLM", {
        **ATTENTION, "num_key_value_heads": 4, "mamba_d_state": 8, "n_mamba_heads": 8,
        "layers_block_type": ["mamba", "hybrid"],
    }),
    "bamba": ("BambaForCausalLM", {
        **ATTENTION, "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8, "attn_layer_indices": [1],
    }),
    "falcon_h1": ("FalconH1ForCausalLM", {
        **ATTENTION, "mamba_n_heads": 8, "mamba_d_head": 12, "mamba_d_ssm": 96, "mamba_d_state": 8,
    }),
    "nemotron_h": ("NemotronHForCausalLM", {
        **ATTENTION, "head_dim": 16, "layers_block_type": ["mamba", "attention", "mlp"], "mamba_num_heads": 8,
        "mamba_head_dim": 16, "ssm_state_size": 8, "n_groups": 2,
    }),
    "granitemoehybrid": ("GraniteMoeHybridForCausalLM", {
        **ATTENTION, "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 16, "mamba_d_state": 8,
        "num_local_experts": 2, "num_experts_per_tok": 1, "shared_intermediate_size": 64,
    }),
    "qwen3_5_text": ("Qwen3_5ForCausalLM", {
        **ATTENTION, "head_dim": 16, "layer_types": ["linear_attention", "full_attention"], "linear_num_key_heads": 2,
        "linear_num_value_heads": 4, "linear_key_head_dim": 16, "linear_value_head_dim": 8,
    }),
    "lfm2_moe": ("Lfm2MoeForCausalLM", {
        **ATTENTION, "layer_types": ["conv", "full_attention"], "num_experts": 2, "num_experts_per_tok": 1,
        "moe_intermediate_size": 32,
    }),
    "recurrent_gemma": ("RecurrentGemmaForCausalLM", {
        **ATTENTION, "num_hidden_layers": 3, "lru_width": 64, "attention_window_size": 8,
    }),
}  # fmt: skip
"""A tiny model of every family of `bench.catalog.hybrid`."""


@pytest.mark.parametrize("scheme", ["fp32", "bf16"])
@pytest.mark.parametrize("kind", sorted(hybrid.FAMILIES))
def test_what_is_carried_is_predicted_to_the_byte(kind, scheme, tmp_path):
    """From the config alone: states, last inputs in the model's type, keys and values of attention layers alone."""
    folder = tiny.save(tiny.of_class(*PREDICTED[kind]), tmp_path / kind)
    engine = BACKEND.load(replace(asked(folder), scheme=BACKEND.scheme(scheme)))
    assert engine.refuted() is None
    config = own_model(folder).architecture
    prompt = engine.encode(TEXT)[:9]
    for batch in (1, 3):
        generation = engine.prefill([prompt] * batch)
        for _ in range(3):
            generation.step()
        held = predict.cache_bytes(config, BACKEND.scheme(scheme), generation.cache_tokens, batch)
        assert (generation.cache_tokens, generation.cache_bytes) == (11, held)
        generation.close()
    asked_of = {"prompt_tokens": 9, "decode_tokens": 2}
    found = predict.predict(
        own_model(folder), BACKEND.scheme(scheme), "cpu", asked_of, Work(prefill_tokens=0, decode_tokens=0)
    )
    assert found.kv_bytes == predict.cache_bytes(config, BACKEND.scheme(scheme), 11)
    assert cache_bytes(own_model(folder), 11, BACKEND.scheme(scheme).other_bytes) == found.kv_bytes


@pytest.mark.parametrize("kind", sorted(hybrid.FAMILIES))
def test_a_key_left_out_takes_the_default_of_its_class(kind):
    """Sizes and kinds of layers of an empty config are those of transformers' own; LFM2 MoE's class has no layers."""
    config, empty = transformers.AutoConfig.for_model(kind), {"model_type": kind}
    listed = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None)
    if kind == "lfm2_moe":
        assert listed is None
        with pytest.raises(UnknownArchitecture, match="lfm2_moe: 'layer_types' in its config"):
            hybrid.carried(empty)
        return
    carried = hybrid.carried(empty)
    told = {key: getattr(config, key, value) for key, value in hybrid.DEFAULTS[kind].items()}
    assert carried == hybrid.carried(empty | told)
    attention = {"full_attention", "sliding_attention", "hybrid", "attention"}
    assert carried.attention == sum(name in attention for name in listed)
    recurrent = {"linear_attention", "conv", "hybrid", "mamba"}
    assert carried.recurrent == sum(name in recurrent for name in listed)
