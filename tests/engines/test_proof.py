# SPDX-License-Identifier: Apache-2.0
"""What a causal class proves before it is measured: that it reads to the right, and how it goes on from a state."""

import pytest

pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny
from builders import make_model

from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.transformers import BACKEND
from bench.records.cell import Weights

TEXT = "The lazy dog jumps over 42 quick foxes."
ATTENTION = {
    "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 128, "max_position_embeddings": 512, "head_dim": 16,
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


def load(folder, scheme="fp32"):
    """An engine of local weights, not yet proven."""
    facts = {"model": make_model(), "weights": Weights.LOCAL, "device": "cpu", "path": str(folder)}
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
        ("xlnet", "XLNetLMHeadModel", "fp32"),  # transformers 5.23 cannot run it in 16 bits
    ],
)
def test_a_class_that_reads_both_sides_of_a_token_is_refuted(engines, kind, name, scheme):
    """A causal name is no proof: a key of the config decides what each token sees."""
    words = f"{name} reads each token together with those after it, so it predicts none of them"
    assert engines(kind, scheme).refuted() == words


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
