# SPDX-License-Identifier: Apache-2.0
"""What a causal class proves before it is measured: that it reads to the right, and how it goes on from a state."""

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402
from builders import make_model  # noqa: E402

from bench.engines.contract import LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.instruments import machine  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

TEXT = "The lazy dog jumps over 42 quick foxes."
ATTENTION = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "max_position_embeddings": 512, "head_dim": 16,
}  # fmt: skip
ENCODER = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
    "max_position_embeddings": 256,
}  # fmt: skip
CLASSES = {
    "llama": ("LlamaForCausalLM", ATTENTION),
    "mixtral": ("MixtralForCausalLM", {**ATTENTION, "num_local_experts": 4}),
    "roberta decoder": ("RobertaForCausalLM", {
        "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 66, "is_decoder": True, "pad_token_id": 1,
    }),
    "gemma both ways": ("Gemma3ForCausalLM", {**ATTENTION, "use_bidirectional_attention": True}),
    "xlnet": ("XLNetLMHeadModel", {"d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128}),
    "xlm": ("XLMWithLMHeadModel", {"emb_dim": 64, "n_layers": 2, "n_heads": 4}),
    "xlm causal": ("XLMWithLMHeadModel", {"emb_dim": 64, "n_layers": 2, "n_heads": 4, "causal": True}),
    "bamba": ("BambaForCausalLM", {**ATTENTION, "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 16,
                                   "mamba_d_state": 8, "mamba_n_groups": 1}),
    "minimax": ("MiniMaxForCausalLM", {**ATTENTION, "layer_types": ["linear_attention", "full_attention"],
                                       "num_local_experts": 2, "num_experts_per_tok": 1, "block_size": 16}),
    "recurrent gemma": ("RecurrentGemmaForCausalLM", {
        "hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 1,
        "intermediate_size": 128, "lru_width": 64, "attention_window_size": 32,
    }),
    "rwkv": ("RwkvForCausalLM", {"hidden_size": 64, "num_hidden_layers": 2}),
}  # fmt: skip
"""Classes that read to the right, and both ways; that count positions themselves, or must be told; that keep their
state to themselves; that mix up a batch."""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """Loaded tiny models, made on first use, each proven once."""
    base, made = tmp_path_factory.mktemp("proof"), {}

    def get(kind, scheme="fp32"):
        if (kind, scheme) not in made:
            model = tiny.of_class(*CLASSES[kind])
            made[kind, scheme] = load(tiny.save(model, base / kind / scheme), scheme)
        return made[kind, scheme]

    return get


def load(folder, scheme="fp32", objective="causal"):
    """An engine of local weights, not yet proven."""
    facts = {"model": make_model(objective=objective), "weights": Weights.LOCAL, "device": "cpu", "path": str(folder)}
    return BACKEND.load(LoadRequest(scheme=BACKEND.scheme(scheme), **facts))


def greedy(engine, prompt, count):
    """The likeliest continuation, the whole text read for each token."""
    read = list(prompt)
    for _ in range(count):
        read.append(int(engine.log_probs([*read, 0])[-1].argmax()))
    return read[len(prompt) :]


@pytest.mark.parametrize(
    ("kind", "name", "scheme"),
    [
        *(("gemma both ways", "Gemma3ForCausalLM", scheme) for scheme in ("fp32", "bf16", "bnb-int8")),
        *(("xlm", "XLMWithLMHeadModel", scheme) for scheme in ("fp32", "bf16", "bnb-int8")),
        ("xlnet", "XLNetLMHeadModel", "fp32"),
    ],
)
def test_a_class_that_reads_both_sides_of_a_token_is_refuted(engines, kind, name, scheme):
    """A causal name is no proof: a key of the config decides what each token sees."""
    words = f"{name} reads each token together with those after it, so it predicts none of them"
    assert engines(kind, scheme).refuted() == words


@pytest.mark.parametrize("scheme", ["bf16", "fp16", "bnb-int8", "bnb-nf4"])
@pytest.mark.parametrize(
    ("name", "sizes", "objective", "left"),
    [
        ("XLNetLMHeadModel", CLASSES["xlnet"][1], "causal", "mask_emb, q, k and 7 more"),
        ("DebertaForMaskedLM", {**ENCODER, "pos_att_type": ["c2p", "p2c"], "relative_attention": True}, "masked",
         "q_bias, v_bias"),
        ("DebertaForMaskedLM", ENCODER, "masked", "q_bias, v_bias"),
    ],
)  # fmt: skip
def test_a_class_that_mixes_two_types_is_unsupported_with_the_reason(tmp_path, name, sizes, objective, left, scheme):
    """It declares some parameters as float32, and the library's loader leaves them so: at fp32 it is measured."""
    folder = tiny.save(tiny.of_class(name, sizes), tmp_path / "m")
    kind = "float16" if scheme == "fp16" else "bfloat16"
    words = f"{name} does not compute in {kind}: its parameters {left} stay float32"
    with pytest.raises(Unsupported) as raised:
        load(folder, scheme, objective)
    assert str(raised.value).endswith(words)
    load(folder, "fp32", objective)


@pytest.mark.skipif("avx512_bf16" not in machine.describe("cpu").cpu_flags, reason="packed on such CPUs alone")
def test_a_4_bit_layer_whose_rows_cannot_be_packed_is_unsupported_by_name(tmp_path):
    """State-space models have such layers; bitsandbytes ends their first pass with an assertion."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "state_size": 8}  # 4 for the step, 8 for each of two states
    folder = tiny.save(tiny.of_class("MambaForCausalLM", sizes), tmp_path / "m")
    words = "bitsandbytes packs 4-bit matrices by 32 rows on this CPU: backbone.layers.0.mixer.x_proj has 20"
    with pytest.raises(Unsupported, match=words):
        load(folder, "bnb-nf4")


TWO_KINDS = {"zamba2": ("Zamba2ForCausalLM", {
    **{key: value for key, value in ATTENTION.items() if key != "head_dim"}, "num_key_value_heads": 4,
    "mamba_d_state": 8, "n_mamba_heads": 8, "layers_block_type": ["mamba", "hybrid"],
}), "nemotron_h": ("NemotronHForCausalLM", {
    **ATTENTION, "layers_block_type": ["mamba", "attention"], "mamba_num_heads": 8, "mamba_head_dim": 16,
    "ssm_state_size": 8, "n_groups": 1,
})}  # fmt: skip


@pytest.mark.parametrize("kind", sorted(TWO_KINDS))
def test_a_class_whose_steps_are_held_where_it_reads_and_not_where_it_generates_says_so(tmp_path, kind):
    """That alone is the difference: with a least step of nothing, going on gives what one pass over the text gives."""
    name, sizes = TWO_KINDS[kind]
    found = {}
    for least in (0.001, 1e-30):
        made = tiny.of_class(name, {**sizes, "time_step_min": least})
        for part, parameter in made.named_parameters():
            if part.endswith("dt_bias"):
                torch.nn.init.constant_(parameter, -9.0)  # steps of about 0.0001
        engine = load(tiny.save(made, tmp_path / str(least)))
        assert engine.refuted() is None
        tokens = engine.encode(TEXT)
        apart = float(abs(engine.log_probs(tokens) - engine.log_probs_stepwise(tokens)).max())
        found[least] = (apart, [caveat.text for caveat in engine.caveats if caveat.kind == "unequal_steps"])
    said = f"transformers' {name} takes time steps of {{}} or more where it reads a text, and any where it generates"
    assert found[0.001][0] > 0.004 and found[1e-30][0] < 2e-4
    assert [texts for _, texts in found.values()] == [[said.format("0.001")], [said.format("1e-30")]]


def test_limits_that_a_config_sets_are_told_and_none_are_not(tmp_path):
    """Mamba2's class has none of its own."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "num_heads": 8, "head_dim": 16, "n_groups": 1}
    told = {}
    for limit in ((0.0, float("inf")), (0.001, 0.1)):
        made = tiny.of_class("Mamba2ForCausalLM", {**sizes, "time_step_limit": limit})
        engine = load(tiny.save(made, tmp_path / str(limit[1])))
        engine.refuted()
        told[limit] = [caveat.text for caveat in engine.caveats]
    name, where = "transformers' Mamba2ForCausalLM", "where it reads a text, and any where it generates"
    assert list(told.values())[1:] == [[f"{name} takes time steps from 0.001 to 0.1 {where}"]]
    assert told[0.0, float("inf")] == []


@pytest.mark.parametrize("scheme", ["fp32", "bf16", "bnb-int8"])
@pytest.mark.parametrize("kind", ["llama", "mixtral", "roberta decoder", "xlm causal"])
def test_a_class_that_reads_to_the_right_is_not(engines, kind, scheme):
    """Experts and 8-bit outliers see the whole pass, which rounds and does not tell."""
    engine = engines(kind, scheme)
    assert engine.refuted() is None
    assert engine.most_sequences is None
    assert not engine.forward.places


@pytest.mark.parametrize("scheme", ["fp32", "bf16", "bnb-int8"])
@pytest.mark.parametrize("kind", ["bamba", "minimax"])
def test_positions_are_told_where_a_class_counts_from_the_beginning_again(engines, kind, scheme):
    """Its keys are carried, and the next token would stand at position 0."""
    engine = engines(kind, scheme)
    assert engine.refuted() is None
    assert engine.forward.places
    if scheme == "fp32":
        prompt = engine.encode(TEXT)
        generation = engine.prefill([prompt, prompt])
        assert [generation.step() for _ in range(6)] == [[token] * 2 for token in greedy(engine, prompt, 6)]
        assert engine.log_probs_stepwise(prompt) == pytest.approx(engine.log_probs(prompt), abs=2e-4)


def test_a_state_that_a_class_keeps_to_itself_is_carried_and_counted(engines):
    """RecurrentGemma fills a cache that it does not give back, and holds its states in its own modules."""
    engine = engines("recurrent gemma")
    assert engine.refuted() is None
    assert engine.caveats == ()
    prompt = engine.encode(TEXT)
    widths = []
    hook = engine.model.register_forward_pre_hook(lambda module, args: widths.append(args[0].shape[1]))
    generation = engine.prefill([prompt])
    steps = [generation.step()[0] for _ in range(6)]
    hook.remove()
    assert widths == [len(prompt), 1, 1, 1, 1, 1]
    states = 2 * (64 * 3 + 64) * 4  # of two recurrent layers: last inputs of a convolution of 4, and the recurrence
    window = 31  # of one attention layer with one head of keys and values
    assert generation.fixed_bytes == states
    assert generation.cache_bytes == states + min(len(prompt) + 5, window) * 2 * 16 * 4
    generation.close()
    assert steps == greedy(engine, prompt, 6)
    assert engine.log_probs_stepwise(prompt) == pytest.approx(engine.log_probs(prompt), abs=2e-4)


def test_a_class_that_mixes_up_a_batch_generates_one_sequence_at_a_time(engines):
    """RWKV in transformers 5.23 is right for one row and wrong for two, so two are refused and one is not."""
    engine = engines("rwkv")
    assert engine.refuted() is None
    assert engine.most_sequences == 1
    prompt = engine.encode(TEXT)
    with pytest.raises(Unsupported, match="RwkvForCausalLM mixes up sequences that generate together: 1 at a time"):
        engine.prefill([prompt, prompt])
    generation = engine.prefill([prompt])
    assert [generation.step()[0] for _ in range(6)] == greedy(engine, prompt, 6)


def test_a_class_that_goes_wrong_from_what_it_carries_reads_the_whole_text(tmp_path):
    """As a class whose cache is lost on the way: its tokens are right, its speed has a warning."""
    engine = load(tiny.checkpoint(tmp_path, "llama"))

    def forgets(module, args, options):
        return args, options | {"past_key_values": None}

    engine.model.register_forward_pre_hook(forgets, with_kwargs=True)
    assert engine.refuted() is None
    words = "goes wrong where it goes on from what it carries, so nothing is carried: each token reads the whole text"
    assert [caveat.text for caveat in engine.caveats] == [f"transformers' LlamaForCausalLM {words} again"]
    prompt = engine.encode(TEXT)
    generation = engine.prefill([prompt])
    assert [generation.step()[0] for _ in range(4)] == greedy(engine, prompt, 4)
    assert generation.cache_bytes == 0


def test_a_class_that_carries_nothing_says_so(tmp_path):
    """GPT-1 reads the whole text for each token: its speed needs the warning. One with a cache does not."""
    found = {}
    for kind in ("openai-gpt", "gpt2"):
        engine = load(tiny.checkpoint(tmp_path, kind))
        assert engine.refuted() is None
        found[kind] = [(caveat.kind, caveat.text) for caveat in engine.caveats]
    words = "carries nothing from token to token: each token reads the whole text again"
    assert found == {"gpt2": [], "openai-gpt": [("no_cache", f"transformers' OpenAIGPTLMHeadModel {words}")]}
