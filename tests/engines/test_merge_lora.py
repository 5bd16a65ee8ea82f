# SPDX-License-Identifier: Apache-2.0
"""Merged adapters answer as they do beside their base, to rounding, or are refused: tensors, heads, rows, types."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import tiny  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM  # noqa: E402

from bench.catalog.local_model import own_model  # noqa: E402
from bench.catalog.model import Model  # noqa: E402
from bench.engines.contract import LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.engines.weights import adapters, files, merge_check, merge_lora  # noqa: E402
from bench.engines.weights.fingerprints import fingerprints  # noqa: E402
from bench.engines.weights.locate import locate  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.records.cell import Weights  # noqa: E402
from bench.records.provenance import Merge  # noqa: E402
from bench.records.record import Provenance  # noqa: E402

QV = ["q_proj", "v_proj"]
IDS = torch.arange(200)[None]
LOADERS = {"t5": AutoModelForSeq2SeqLM, "flan-t5": AutoModelForSeq2SeqLM, "bert": AutoModelForMaskedLM}
TASKS = {"t5": "SEQ_2_SEQ_LM", "flan-t5": "SEQ_2_SEQ_LM", "bert": None}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Tiny bases by kind, storage type and configuration, each made once."""
    root, made = tmp_path_factory.mktemp("bases"), dict[str, Path]()

    def base(kind: str, dtype: str = "float32", **changes: Any) -> Path:
        name = "-".join([kind, dtype, *map(str, changes.values())])
        if name not in made:
            made[name] = tiny.save(tiny.model(kind, **changes).to(getattr(torch, dtype)), root / name)
        return made[name]

    return base


def tuned(
    kind: str, base: Path, folder: Path, *, rows: int | None = None, seed: int = 1, std: float = 0.2,
    embeddings: bool | str = "auto", **options: Any,
) -> torch.Tensor:  # fmt: skip
    """Write an adapter of random values, its base resized to `rows`; returns the logits of both together."""
    model = LOADERS.get(kind, AutoModelForCausalLM).from_pretrained(base, dtype="auto")
    if rows:
        model.resize_token_embeddings(rows, mean_resizing=False)
    torch.manual_seed(seed)
    settings = {"r": 4, "lora_alpha": 8, "task_type": TASKS.get(kind, "CAUSAL_LM"), "target_modules": QV} | options
    wrapped = peft.get_peft_model(model, peft.LoraConfig(**settings)).eval()
    for parameter in wrapped.parameters():
        if parameter.requires_grad:
            parameter.data.add_(torch.randn_like(parameter) * std)
    wrapped.save_pretrained(folder, save_embedding_layers=embeddings)
    return logits(wrapped)


def logits(model: Any) -> torch.Tensor:
    """What a model says behind each of the first 200 tokens."""
    more = {"decoder_input_ids": IDS} if model.config.is_encoder_decoder else {}
    with torch.inference_mode():
        found: torch.Tensor = model(input_ids=IDS, **more).logits[0]
    return found


def merged(kind: str, base: Path, *parts: Path, objective: str = "causal") -> tuple[Any, list[Mapping[str, Any]]]:
    """The merged model as it is read back from its folder, and what the record will say of it."""
    folder = parts[0].parent / "merged"
    folder.mkdir()
    merge_lora.merge(base, parts, folder, objective)
    told = json.loads((folder / merge_lora.MERGES).read_text())
    assert [Merge.model_validate(one) for one in told]
    return LOADERS.get(kind, AutoModelForCausalLM).from_pretrained(folder, dtype="auto").eval(), told


def edited(folder: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]) -> Path:
    """An adapter with its tensors changed."""
    path = folder / "adapter_model.safetensors"
    save_file(change(load_file(path)), path)
    return folder


# Tensors that fit.


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            lambda held: {key.replace("model.layers", "model.language_model.layers"): held[key] for key in held},
            r"0 of the 8 tensors of adapter fit its base: no layer for base_model\.model\.model\.language_model\.",
        ),
        (
            lambda held: {key.replace("layers.1", "layers.7"): held[key] for key in held},
            r"4 of the 8 tensors of adapter fit its base: no layer for base_model\.model\.model\.layers\.7\.",
        ),
        (
            lambda held: {key: held[key] for key in held if "layers.1" not in key},
            r"adapter lacks 4 tensors for layers that it names, base_model\.model\.model\.layers\.1\.self_attn\.q_proj",
        ),
        (
            lambda held: {key: held[key] * torch.nan for key in held},
            "adapter beside its base gives no finite outputs: its tensors are damaged",
        ),
    ],
)
@pytest.mark.parametrize("chain", [False, True])
def test_an_adapter_that_fits_in_part_or_nowhere_is_refused(
    bases: Callable[..., Path], tmp_path: Path, change: Any, reason: str, chain: bool
) -> None:
    """It would be the base under another name, alone or as the second of a chain: both counts are told."""
    base = bases("llama")
    tuned("llama", base, tmp_path / "adapter")
    tuned("llama", base, tmp_path / "first", seed=2)
    parts = [tmp_path / "first"] if chain else []
    with pytest.raises(files.Refused, match=reason):
        merged("llama", base, *parts, edited(tmp_path / "adapter", change))


@pytest.mark.parametrize(
    ("kind", "changes", "reason"),
    [
        ("gpt2", {}, r"does not fit its base: Target modules \{.*\} not found in the base model"),
        (
            "llama",
            {"hidden_size": 128},
            r"does not fit its base: size mismatch for base_.*Size\(\[64, 4\]\)",
        ),
        ("llama", {"num_hidden_layers": 3}, "lacks 4 tensors for layers that it names"),
        ("llama", {"num_hidden_layers": 1}, "4 of the 8 tensors of adapter fit its base"),
    ],
)
def test_an_adapter_of_another_base_is_refused_in_one_line(
    bases: Callable[..., Path], tmp_path: Path, kind: str, changes: dict[str, int], reason: str
) -> None:
    """Another architecture, width or depth."""
    tuned("llama", bases("llama"), tmp_path / "adapter")
    with pytest.raises(files.Refused, match=reason) as caught:
        merged(kind, bases(kind, **changes), tmp_path / "adapter")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300


def test_damaged_incomplete_and_headless_adapters_have_their_own_lines(
    bases: Callable[..., Path], tmp_path: Path
) -> None:
    """A file that is none, a table that its configuration names and it lacks, a task without a vocabulary."""
    base, folder = bases("llama"), tmp_path / "adapter"
    tuned("llama", base, folder, modules_to_save=["lm_head"])
    edited(folder, lambda held: {key: held[key] for key in held if "lm_head" not in key})
    with pytest.raises(files.Refused, match=r"adapter lacks base_model\.model\.lm_head\.weight, which its config"):
        merge_lora.merge(base, [folder], tmp_path)
    config = folder / merge_lora.ADAPTER_CONFIG
    config.write_text(json.dumps(json.loads(config.read_text()) | {"task_type": "SEQ_CLS"}))
    with pytest.raises(files.Refused, match="trained for sequence classification: it has no output over the vocab"):
        merge_lora.merge(base, [folder], tmp_path)
    (folder / "adapter_model.safetensors").write_bytes(b"12345")
    with pytest.raises(files.Refused, match="has a damaged weight file"):
        merge_lora.merge(base, [folder], tmp_path)


# Heads and embeddings that share a table.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("options", "untied"),
    [
        ({"target_modules": ["q_proj", "lm_head"]}, True),
        ({"target_modules": ["q_proj", "embed_tokens"]}, True),
        ({"target_modules": ["embed_tokens", "lm_head"]}, True),
        ({"modules_to_save": ["embed_tokens"]}, True),
        ({"modules_to_save": ["lm_head"]}, True),
        ({"modules_to_save": ["embed_tokens"], "ensure_weight_tying": True}, False),
        ({"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}, None),
        ({"trainable_token_indices": [5, 80]}, False),
        ({}, False),
    ],
)
def test_a_table_that_head_and_embedding_share_is_parted_where_the_adapter_changes_one(
    bases: Callable[..., Path], tmp_path: Path, options: dict[str, Any], untied: bool | None, dtype: str
) -> None:
    """Merged into the shared table, it would change every embedding too. Where it changes both alike they stay one.

    None: in float32 they do; of a 16-bit base peft 0.21 widens the two adapters apart, and they are trained as two.
    """
    untied = dtype != "float32" if untied is None else untied
    base = bases("llama", dtype, tie_word_embeddings=True)
    wanted = tuned("llama", base, tmp_path / "adapter", **options)
    model, (told,) = merged("llama", base, tmp_path / "adapter")
    assert told["untied"] is untied is not model.config.tie_word_embeddings
    shared = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert shared is not untied
    assert torch.allclose(logits(model).float(), wanted.float(), atol=1e-4 if dtype == "float32" else 0.2)
    assert told["moved_nat"] < (1e-9 if dtype == "float32" else 1e-4) < told["adapter_nat"]


def test_a_merge_that_answers_otherwise_is_refused_with_both_figures(
    bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever peft does: merged into the shared table unparted, as it would by itself, the outputs tell."""
    base = bases("llama", tie_word_embeddings=True)
    tuned("llama", base, tmp_path / "adapter", target_modules=["lm_head"])
    monkeypatch.setattr(merge_lora, "_part", lambda _: None)
    line = r"adapter merged does not answer as it does beside its base: 0\.\d+ nats a token away, rounding alone 0$"
    with pytest.raises(files.Refused, match=line):
        merged("llama", base, tmp_path / "adapter")


def test_a_module_that_other_modules_share_is_refused(bases: Callable[..., Path], tmp_path: Path) -> None:
    """T5's `shared` is read through two more names, which peft leaves unadapted beside the base and changes merged."""
    base = bases("flan-t5")
    tuned("flan-t5", base, tmp_path / "adapter", target_modules=["shared"])
    with pytest.raises(files.Refused, match="merged does not answer as it does beside its base"):
        merged("flan-t5", base, tmp_path / "adapter", objective="seq2seq")


# What a merge does in stored types.


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_rounding_is_told_beside_what_the_merge_moves(bases: Callable[..., Path], tmp_path: Path, dtype: str) -> None:
    """float32 has none; in 16 bits the merge moves less than the type itself does, and the adapter much more."""
    base = bases("llama", dtype)
    tuned("llama", base, tmp_path / "adapter")
    model, (told,) = merged("llama", base, tmp_path / "adapter")
    assert str(model.dtype) == f"torch.{dtype}"
    if dtype == "float32":
        assert told["moved_nat"] < 1e-10 and told["rounding_nat"] == 0
    else:
        assert 0 < told["moved_nat"] < told["rounding_nat"] < 1e-3
    assert told["adapter_nat"] > 0.1 and told["tensors"] == 8


def test_widening_computes_in_float32_and_leaves_the_model_as_it_was(bases: Callable[..., Path]) -> None:
    """A bfloat16 model read widely is its float32 copy, digit by digit; a pass that fails half-way undoes it too."""
    model = AutoModelForCausalLM.from_pretrained(bases("llama", "bfloat16"), dtype="auto").eval()
    copy = AutoModelForCausalLM.from_pretrained(bases("llama", "bfloat16"), dtype=torch.float32).eval()
    held = {name: (value.dtype, value.data_ptr()) for name, value in model.named_parameters()}
    wide = merge_check.log_probs(model, tiny.VOCABULARY)
    assert torch.equal(wide, merge_check.log_probs(copy, tiny.VOCABULARY))
    assert not torch.equal(wide, merge_check.log_probs(model, tiny.VOCABULARY, wide=False))
    assert {name: (value.dtype, value.data_ptr()) for name, value in model.named_parameters()} == held
    with pytest.raises(IndexError):
        merge_check.log_probs(model, 2 * tiny.VOCABULARY)
    assert {name: (value.dtype, value.data_ptr()) for name, value in model.named_parameters()} == held


def test_a_divergence_is_the_mean_over_tokens_in_nats() -> None:
    """Between (1/2, 1/2) and (1/4, 3/4): half of ln 2 plus half of ln 2/3; nothing between equals, NaN for NaN."""
    before, after = torch.tensor([[0.5, 0.5]] * 2).log(), torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log()
    assert merge_check.divergence(before.double(), after.double()) == 0.0719  # 0.1438 / 2
    assert merge_check.divergence(after.double(), after.double()) == 0
    found = merge_check.divergence(before.double(), after.double() * torch.nan)
    assert not found <= merge_check.allowed_nat(0.1)
    assert [merge_check.allowed_nat(rounding) for rounding in (0.0, 0.002, torch.nan)] == [1e-5, 0.02, 1e-4]


def test_a_reader_is_told_of_a_parted_head_and_of_a_tuning_lost_to_rounding() -> None:
    """Both with their remedy; an ordinary merge needs no warning."""
    facts = {"adapter_nat": 0.1, "rounding_nat": 0.001, "tensors": 8}
    merges = [Merge(moved_nat=0.009, **facts), Merge(moved_nat=0.011, untied=True, **facts)]

    def told(*of: Merge) -> list[str]:
        found = adapters.caveats(Provenance(source="a + b", stored_as="bfloat16", merges=of))
        return [f"{caveat.kind}: {caveat.text}" for caveat in found]

    assert told(merges[0]) == []
    parted, lost = told(*merges)
    assert parted.startswith("untied_head: ")
    assert "merged into bfloat16 its adapter's answers move by 0.011 nats a token" in lost
    assert lost.endswith("where the adapter moves its base's by 0.1")


# Rows and objectives.


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (323, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (384, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (300, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (323, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
        (300, {"target_modules": ["lm_head"], "embeddings": False}),
    ],
)
def test_an_adapter_with_other_rows_gets_a_base_of_as_many(
    bases: Callable[..., Path], tmp_path: Path, rows: int, options: dict[str, Any], tied: bool
) -> None:
    """More, padded to a round number, or fewer, whether or not its folder holds a tokenizer of that length."""
    base = bases("llama", tie_word_embeddings=tied)
    wanted = tuned("llama", base, tmp_path / "adapter", rows=rows, **options)
    model, _ = merged("llama", base, tmp_path / "adapter")
    assert model.config.vocab_size == len(model.lm_head.weight) == len(model.model.embed_tokens.weight) == rows
    assert torch.allclose(logits(model), wanted, atol=1e-4)


@pytest.mark.parametrize(
    "options", [{"modules_to_save": ["embed_tokens"]}, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}]
)
def test_rows_that_nobody_has_values_for_are_refused(
    bases: Callable[..., Path], tmp_path: Path, options: dict[str, Any]
) -> None:
    """Embeddings or a head that were grown and not saved: their new rows would be random."""
    tuned("llama", bases("llama"), tmp_path / "adapter", rows=323, embeddings=False, **options)
    line = "adapter is made for 323 tokens, its base has 320 rows, and no values for the 3 new ones of lm_head"
    with pytest.raises(files.Refused, match=line):
        merged("llama", bases("llama"), tmp_path / "adapter")


@pytest.mark.parametrize(
    ("kind", "objective", "targets"),
    [
        ("t5", "seq2seq", ["q", "v", "wo"]), ("flan-t5", "seq2seq", ["q", "lm_head"]), ("t5", "seq2seq", ["lm_head"]),
        ("bert", "masked", ["query", "value"]), ("gpt2", "causal", ["c_attn", "lm_head"]),
        ("bloom", "causal", ["lm_head"]),
    ],
)  # fmt: skip
def test_adapters_of_every_objective_are_loaded_by_it(
    bases: Callable[..., Path], tmp_path: Path, kind: str, objective: str, targets: list[str]
) -> None:
    """Sequence-to-sequence and masked models too, and heads that are tied under other names."""
    wanted = tuned(kind, bases(kind), tmp_path / "adapter", target_modules=targets)
    model, _ = merged(kind, bases(kind), tmp_path / "adapter", objective=objective)
    assert torch.allclose(logits(model), wanted, atol=1e-4)


def test_a_base_that_cannot_be_loaded_is_one_line(bases: Callable[..., Path], tmp_path: Path) -> None:
    """Of another objective, of an unknown architecture, with a hole that would be filled at random, damaged."""
    tuned("t5", bases("t5"), tmp_path / "adapter", target_modules=["q"])
    with pytest.raises(files.Refused, match=r"^its base is a t5, of which transformers \S+ has no causal model$"):
        merged("t5", bases("t5"), tmp_path / "adapter")
    base, weights = tmp_path / "base", tmp_path / "base" / "model.safetensors"
    shutil.copytree(bases("llama"), base)
    held = load_file(weights)
    del held["model.layers.1.mlp.up_proj.weight"]
    save_file(held, weights, metadata={"format": "pt"})
    with pytest.raises(files.Refused, match=r"^its base lacks 1 weights of its architecture, model\.layers\.1\.mlp"):
        merge_lora.merge(base, [tmp_path / "adapter"], tmp_path)
    weights.write_bytes(b"12345")
    with pytest.raises(files.Refused, match=r"^its base has a damaged weight file"):
        merge_lora.merge(base, [tmp_path / "adapter"], tmp_path)
    (base / "config.json").write_text(json.dumps({"model_type": "chatglm"}))
    with pytest.raises(files.Refused, match=r"^its base is a chatglm, which transformers \S+ does not know$"):
        merge_lora.merge(base, [tmp_path / "adapter"], tmp_path)


# What the copy in the cache is named by.


def request(adapter: Path, base: Path, scheme: str = "fp32", **changes: Any) -> LoadRequest:
    """A local adapter on a local base."""
    facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "kind": "adapter"}
    return LoadRequest(
        model=Model(**facts | changes),
        weights=Weights.LOCAL,
        scheme=BACKEND.scheme(scheme),
        device="cpu",
        path=str(adapter),
        base_path=str(base),
    )


def test_an_adapter_is_measured_as_merged_and_the_record_tells(
    bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Through the backend and the process that merges: seq2seq, by its entry's objective, with its figures."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    tuned("t5", bases("t5"), tmp_path / "adapter", target_modules=["lm_head"])
    engine = BACKEND.load(request(tmp_path / "adapter", bases("t5"), objective="seq2seq"))
    (told,) = engine.provenance.merges
    assert told.untied and told.tensors == 3 and told.moved_nat < 1e-9 < told.adapter_nat
    assert "untied_head" in {caveat.kind for caveat in engine.caveats}
    assert Provenance.model_validate_json(engine.provenance.model_dump_json()) == engine.provenance
    with pytest.raises(Unsupported, match=r"its base is a t5, of which transformers \S+ has no causal model"):
        locate(request(tmp_path / "adapter", bases("t5")))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize(
    ("rows", "options"),
    [
        (None, {}),
        (None, {"target_modules": ["q_proj", "lm_head"]}),
        (None, {"modules_to_save": ["embed_tokens"]}),
        (None, {"target_modules": ["q_proj", "embed_tokens"], "ensure_weight_tying": True}),
        (None, {"trainable_token_indices": [5, 80]}),
        (384, {"modules_to_save": ["embed_tokens", "lm_head"]}),
        (384, {"target_modules": ["q_proj", "embed_tokens", "lm_head"]}),
    ],
)
def test_the_merged_model_is_predicted_to_the_byte(
    bases: Callable[..., Path], tmp_path: Path, rows: int | None, options: dict[str, Any], tied: bool
) -> None:
    """Rows that an adapter added and a head that is parted count before anything is loaded."""
    base = bases("llama", tie_word_embeddings=tied)
    tuned("llama", base, tmp_path / "adapter", rows=rows, **options)
    model, _ = merged("llama", base, tmp_path / "adapter")
    config = own_model(tmp_path / "adapter", base).architecture
    scheme = BACKEND.scheme("fp32")
    assert config is not None and scheme is not None
    held = {value.data_ptr(): value.numel() * value.element_size() for value in model.parameters()}
    assert predict.weights_bytes(config, scheme) == sum(held.values())


def test_everything_that_decides_a_merge_is_in_the_name_of_its_copy(
    bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each setting of the adapter, the base's configuration, both tokenizers, the objective, the libraries."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    base, adapter = tmp_path / "base", tmp_path / "adapter"
    shutil.copytree(bases("llama"), base)
    tuned("llama", base, adapter)
    asked: list[str] = []

    def note(folder: Path, *_: object) -> Path:
        asked.append(folder.name)
        return Path(shutil.copytree(base, folder, dirs_exist_ok=True))

    monkeypatch.setattr(adapters, "made_once", note)
    marks = []

    def ask(**changes: Any) -> None:
        marks.append(json.dumps(locate(request(adapter, base, **changes)).provenance.files))

    def change(path: Path, **settings: Any) -> None:
        held = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps(held | settings))
        ask()

    ask()
    config = adapter / merge_lora.ADAPTER_CONFIG
    change(config, lora_alpha=128)
    change(config, use_rslora=True)
    change(config, rank_pattern={"q_proj": 2})
    change(config, alpha_pattern={"q_proj": 2})
    change(base / "config.json", rope_theta=5.0)
    change(base / "generation_config.json", eos_token_id=7)
    change(base / "tokenizer_config.json", add_bos_token=True)
    change(adapter / "tokenizer_config.json", add_bos_token=True)
    edited(adapter, lambda held: {key: held[key] + 1 for key in held})
    ask()
    assert len(set(asked)) == len(asked) == len(set(marks)) == 10
    ask(objective="masked")
    monkeypatch.setattr(adapters, "installed", lambda names: dict.fromkeys(names, "9"))
    ask()
    assert len(set(asked)) == len(asked) == 12
    (adapter / "README.md").write_text("a card decides nothing")
    ask()
    assert asked[-1] == asked[-2]


def test_a_base_that_is_quantized_already_takes_no_adapter(bases: Callable[..., Path], tmp_path: Path) -> None:
    """The sum would be rounded to 4 bits again."""
    base = tmp_path / "base"
    shutil.copytree(bases("llama"), base)
    tuned("llama", base, tmp_path / "adapter")
    config = json.loads((base / "config.json").read_text())
    quantized = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (base / "config.json").write_text(json.dumps(config | {"quantization_config": quantized}))
    with pytest.raises(Unsupported, match="its base base is stored as bnb-nf4, to which nothing can be added"):
        locate(request(tmp_path / "adapter", base))


def test_a_tokenizer_that_grew_without_its_model_is_refused_with_both_counts(
    bases: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An adapter's tokenizer of 323 tokens on a base of 320 rows, with no rows for the others."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    tuned("llama", bases("llama"), tmp_path / "adapter")
    tokenizer = tiny.tokenizer(tiny.TEXT)
    tokenizer.add_tokens([f"new{index}" for index in range(323 - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "adapter")
    with pytest.raises(UserError, match="its tokenizer has 323 tokens, the model 320 rows for them"):
        BACKEND.load(request(tmp_path / "adapter", bases("llama")))
    assert "tokenizer.json" in fingerprints(tmp_path / "adapter")
