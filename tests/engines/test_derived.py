# SPDX-License-Identifier: Apache-2.0
"""Adapters, chains and differences merged into their base; what is refused: pickles, foreign code, missing weights."""

import json
import os
import shutil
from types import SimpleNamespace

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

import tiny  # noqa: E402
from builders import make_machine  # noqa: E402
from huggingface_hub import errors  # noqa: E402
from transformers import AutoModelForCausalLM  # noqa: E402

from bench.catalog.entries import read_catalog  # noqa: E402
from bench.catalog.model import Kind, Model  # noqa: E402
from bench.engines.contract import LoadRequest, Unsupported  # noqa: E402
from bench.engines.transformers import BACKEND  # noqa: E402
from bench.engines.weights import adapters, files, merge_delta, merge_lora  # noqa: E402
from bench.engines.weights.locate import locate  # noqa: E402
from bench.errors import UserError  # noqa: E402
from bench.instruments import machine  # noqa: E402
from bench.plan import predict  # noqa: E402
from bench.plan.plan import make_plan  # noqa: E402
from bench.plan.selection import Selection, chosen_models  # noqa: E402
from bench.records.cell import RANDOM_SAYS_NOTHING, Precision, Weights  # noqa: E402

IDS = [5, 80, 31, 200, 7]


def entry(kind, **changes):
    """A catalogue entry of that kind."""
    facts = {"name": "tiny", "display": "tiny", "family": "own", "organisation": "-", "repo": "own/tiny", "kind": kind}
    return Model(**facts | changes)


def local(kind, path, base=None, scheme="fp32", **changes):
    """A request for local folders."""
    return LoadRequest(
        model=entry(kind, **changes),
        weights=Weights.LOCAL,
        scheme=BACKEND.scheme(scheme),
        device="cpu",
        path=",".join(map(str, path)) if isinstance(path, list) else str(path),
        base_path=str(base) if base else None,
    )


def logits(model):
    """What a model says of a few ids."""
    with torch.inference_mode():
        return model(torch.tensor([IDS])).logits[0]


def read(folder):
    """A folder's plain model."""
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The base all of these are added to."""
    return tiny.checkpoint(tmp_path_factory.mktemp("base"), "llama")


def adapter(model, folder, seed, **options):
    """Train nothing: write a LoRA adapter of random values whose configuration names a base that is gone."""
    torch.manual_seed(seed)
    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", **options)
    wrapped = peft.get_peft_model(model, settings)
    for name, parameter in wrapped.named_parameters():
        if "lora_" in name or "modules_to_save" in name:
            torch.nn.init.normal_(parameter, std=0.2)
    wrapped.save_pretrained(folder, save_embedding_layers=False)
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": "gone/nowhere"}))
    return wrapped.eval()


@pytest.mark.parametrize("scheme", ["fp32", "bnb-nf4"])
def test_an_adapter_is_merged_before_its_base_is_quantized(base, tmp_path_factory, monkeypatch, scheme):
    """The merged model is the base with its adapter; every scheme then holds the bytes of a plain model."""
    folder = tmp_path_factory.mktemp("adapter")
    wanted = logits(adapter(read(base), folder, 1))
    engine = BACKEND.load(local("adapter", folder, base, scheme))
    stored = BACKEND.adapt(BACKEND.scheme(scheme), machine.describe("cpu"))
    assert engine.census().total_bytes == predict.weights_bytes(tiny.config("llama"), stored)
    assert engine.census().contradiction(stored) is None
    assert engine.provenance.source == f"tiny-llama + {folder.name}"
    tokenizer = {"base/tokenizer.json", "base/tokenizer_config.json"}
    settings = {"base/config.json", "base/generation_config.json", "1/adapter_config.json"}
    weights = {"base/model.safetensors", "1/adapter_model.safetensors"}
    assert set(engine.provenance.files) == weights | settings | tokenizer
    if scheme == "fp32":
        assert torch.allclose(logits(engine.model), wanted, atol=1e-4)
    monkeypatch.setattr("subprocess.run", None)  # the second time it is there
    assert locate(local("adapter", folder, base, scheme)).folder.is_dir()


def test_a_chain_is_merged_in_order(base, tmp_path):
    """The second adapter was made on the base with the first merged, as StackLLaMA's."""
    first = adapter(read(base), tmp_path / "first", 1).merge_and_unload()
    wanted = logits(adapter(first, tmp_path / "second", 2))
    (tmp_path / "merged").mkdir()
    merge_lora.merge(base, [tmp_path / "first", tmp_path / "second"], tmp_path / "merged")
    assert torch.allclose(logits(read(tmp_path / "merged")), wanted, atol=1e-4)


def test_an_adapter_with_more_tokens_gets_a_larger_base(base, tmp_path):
    """As Chinese-LLaMA-Alpaca: its tokenizer has more tokens, its own embeddings and head replace the base's."""
    larger = read(base)
    larger.resize_token_embeddings(323, mean_resizing=False)
    wanted = logits(adapter(larger, tmp_path / "adapter", 3, modules_to_save=["embed_tokens", "lm_head"]))
    tokenizer = tiny.tokenizer(tiny.TEXT)
    tokenizer.add_tokens([f"new{i}" for i in range(323 - len(tokenizer))])
    tokenizer.save_pretrained(tmp_path / "adapter")
    (tmp_path / "merged").mkdir()
    merge_lora.merge(base, [tmp_path / "adapter"], tmp_path / "merged")
    merged = read(tmp_path / "merged")
    assert merged.config.vocab_size == 323
    assert torch.allclose(logits(merged), wanted, atol=1e-4)


def difference(base, folder, rows=1):
    """A tuned model with more rows, and its difference to the base, the added rows whole."""
    tuned = tiny.model("llama", vocab_size=tiny.VOCABULARY + rows)
    torch.manual_seed(9)
    for parameter in tuned.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    wanted = logits(tuned)
    own = read(base).state_dict()
    with torch.no_grad():
        for key, tensor in tuned.state_dict().items():
            tensor[: len(own[key])] -= own[key]
    tiny.save(tuned, folder)
    return wanted


def test_a_difference_is_added_to_its_base_and_added_rows_are_its_own(base, tmp_path):
    """The sum is the tuned model, one row larger than its base."""
    wanted = difference(base, tmp_path / "delta")
    engine = BACKEND.load(local("delta", tmp_path / "delta", base))
    assert engine.vocabulary == tiny.VOCABULARY + 1
    assert torch.allclose(logits(engine.model), wanted, atol=1e-4)


EXACT = {
    "zero": ([[2.0, 4.0], [6.0, 8.0], [0.25, 0.5]], [[1.0, 1.0], [1.0, 1.0], [-1.0, 2.0]]),
    "mean": ([[2.0, 4.0], [6.0, 8.0], [4.25, 5.5]], [[1.0, 1.0], [1.0, 1.0], [0.0, 2.5]]),
}
"""Embedding and head of base + difference; the last row has none in the base."""


@pytest.mark.parametrize("rows", EXACT)
def test_added_rows_are_added_to_what_the_recipe_resizes_to(tmp_path, rows):
    """Stanford's one row is a difference to the mean of the base's rows, FastChat's to zero; others are the same."""
    from safetensors.torch import load_file, save_file

    sides = {
        "base": ([[2.0, 4.0], [6.0, 6.0]], [[1.0, 0.0], [1.0, 1.0]]),
        "delta": ([[0.0, 0.0], [0.0, 2.0], [0.25, 0.5]], [[0.0, 1.0], [0.0, 0.0], [-1.0, 2.0]]),
    }
    for name, (embedding, head) in sides.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps({"model_type": "llama", "dtype": "float32"}))
        tensors = {
            "model.embed_tokens.weight": torch.tensor(embedding),
            "model.norm.weight": torch.tensor([1.0, 2.0]),
            "lm_head.weight": torch.tensor(head),
        }
        save_file(tensors, tmp_path / name / "model.safetensors")
    (tmp_path / "sum").mkdir()
    merge_delta.merge(tmp_path / "base", tmp_path / "delta", tmp_path / "sum", rows)
    found = load_file(tmp_path / "sum" / "model-00001-of-00001.safetensors")
    wanted = EXACT[rows]
    assert (found["model.embed_tokens.weight"].tolist(), found["lm_head.weight"].tolist()) == wanted
    assert found["model.norm.weight"].tolist() == [2.0, 4.0]


def test_a_difference_is_merged_as_its_entry_says(base, tmp_path, monkeypatch):
    """The catalogue's rule reaches the process that merges, and another rule is another folder of the cache."""
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))
    difference(base, tmp_path / "delta")
    rows = {}
    for rule in EXACT:
        located = locate(local("delta", tmp_path / "delta", base, added_rows=rule))
        rows[rule] = read(located.folder).get_input_embeddings().weight[tiny.VOCABULARY]
    mean = read(base).get_input_embeddings().weight.mean(0)
    assert torch.allclose(rows["mean"] - rows["zero"], mean, atol=1e-6)
    assert len(list((tmp_path / "cache" / "weights").iterdir())) == 2


def test_the_catalogue_s_differences_follow_their_makers():
    """Stanford's script resizes to the mean, FastChat's to zero."""
    found = {model.name: model.added_rows for model in read_catalog() if model.kind is Kind.DELTA and not model.reason}
    assert found.pop("alpaca-7b") == "mean"
    assert set(found.values()) == {"zero"} and any(name.startswith("vicuna") for name in found)


def test_a_difference_never_loads_alone(base, tmp_path):
    """It would load as a plain model and be nonsense; without its base it is refused, wherever it comes from."""
    difference(base, tmp_path / "delta")
    with pytest.raises(UserError, match="is a difference and nothing without its base; pass --base FOLDER"):
        BACKEND.load(local("delta", tmp_path / "delta"))
    with pytest.raises(UserError, match="is an adapter and nothing without its base"):
        adapters.merged(local("adapter", tmp_path / "delta"))


def test_a_difference_to_another_base_is_refused(tmp_path):
    """A tensor that the base does not have says so by name."""
    tiny.checkpoint(tmp_path, "gpt2")
    tiny.checkpoint(tmp_path, "llama")
    with pytest.raises(files.Refused, match="this difference belongs to another model"):
        merge_delta.merge(tmp_path / "tiny-llama", tmp_path / "tiny-gpt2", tmp_path)


@pytest.mark.parametrize(
    ("config", "reason"),
    [({"peft_type": "ADAPTION_PROMPT"}, "ADAPTION_PROMPT: only LoRA adapters"), ({}, "only LoRA adapters")],
)
def test_other_kinds_of_adapters_are_unsupported(base, tmp_path, config, reason):
    """LLaMA-Adapter's prefix tokens are no LoRA."""
    (tmp_path / "adapter_config.json").write_text(json.dumps(config))
    with pytest.raises(Unsupported, match=reason):
        locate(local("adapter", tmp_path, base))


class Payload:
    """What a hostile checkpoint holds: a call that leaves a mark."""

    def __init__(self, mark):
        self.mark = str(mark)

    def __reduce__(self):
        return os.mkdir, (self.mark,)


def test_a_pickle_that_holds_more_than_tensors_is_refused_unread(base, tmp_path):
    """The call inside never happens, and the outcome is one line; a plain pickle loads."""
    folder = tmp_path / "pickled"
    shutil.copytree(base, folder)
    weights = read(base).state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")
    assert BACKEND.load(local("open weights", folder)).census().total_bytes
    torch.save(weights | {"extra": Payload(tmp_path / "mark")}, folder / "pytorch_model.bin")
    with pytest.raises(Unsupported, match="a pickle that holds more than tensors: refused"):
        BACKEND.load(local("open weights", folder))
    assert not (tmp_path / "mark").exists()


def test_a_hostile_adapter_or_difference_is_refused_by_the_process_that_merges(base, tmp_path, capsys):
    """Its exit code and last line become the reason."""
    folder = tmp_path / "delta"
    difference(base, folder)
    (folder / "model.safetensors").unlink()
    torch.save({"x": Payload(tmp_path / "mark")}, folder / "pytorch_model.bin")
    assert files.guarded(lambda: merge_delta.merge(base, folder, tmp_path)) == files.REFUSED
    adapter(read(base), tmp_path / "adapter", 1)
    (tmp_path / "adapter" / "adapter_model.safetensors").unlink()
    torch.save({"x": Payload(tmp_path / "mark")}, tmp_path / "adapter" / "adapter_model.bin")
    assert files.guarded(lambda: merge_lora.merge(base, [tmp_path / "adapter"], tmp_path)) == files.REFUSED
    assert capsys.readouterr().err.count("a weight file is a pickle that holds more than tensors: refused") == 2
    assert not (tmp_path / "mark").exists()


def test_weights_that_a_checkpoint_lacks_are_not_made_up(base, tmp_path):
    """Transformers would fill them with random values and go on."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(base, tmp_path / "holes")
    weights = load_file(base / "model.safetensors")
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, tmp_path / "holes" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks 1 weights of its architecture, model\.layers\.1\.mlp\.up_proj\.weight"):
        BACKEND.load(local("open weights", tmp_path / "holes"))


OWN_CODE = """
from transformers import LlamaConfig, LlamaForCausalLM

class OwnConfig(LlamaConfig):
    model_type = "own-llama"

class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig
"""


def test_a_repository_s_own_code_runs_only_where_entry_and_user_agree(base, tmp_path):
    """Not allowed, not pinned, not consented to: each its own line; with all three it loads."""
    folder = tmp_path / "own"
    shutil.copytree(base, folder)
    (folder / "own.py").write_text(OWN_CODE)
    config = json.loads((folder / "config.json").read_text())
    config |= {
        "model_type": "own-llama",
        "auto_map": {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"},
    }
    (folder / "config.json").write_text(json.dumps(config))
    refusals = [
        ({}, "which its catalogue entry does not allow to run"),
        ({"remote_code": True}, "its catalogue entry pins no revision of it"),
        ({"remote_code": True, "revision": "abc"}, "at abc: pass --trust-remote-code"),
    ]
    for changes, reason in refusals:
        with pytest.raises(Unsupported, match=reason):
            BACKEND.prepare(local("open weights", folder, **changes))
    request = local("open weights", folder, remote_code=True, revision="abc")
    trusting = LoadRequest(**vars(request) | {"trust_remote_code": True})
    BACKEND.prepare(trusting)
    assert type(BACKEND.load(trusting).model).__name__ == "OwnModel"


def test_an_architecture_of_another_era_is_unsupported_by_name(base, tmp_path):
    """ChatGLM-6B's configuration, without code that may run."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "chatglm"}))
    shutil.copy(base / "model.safetensors", tmp_path)
    with pytest.raises(Unsupported, match="knows no architecture 'chatglm'"):
        BACKEND.prepare(local("open weights", tmp_path))


def http(kind, status):
    """An error as the Hub's client raises it."""
    response = SimpleNamespace(status_code=status, headers={}, request=None)
    return kind("refused", response=response)


@pytest.mark.parametrize(
    ("error", "finding", "line"),
    [
        (http(errors.GatedRepoError, 403), Unsupported, r"gated: accept the licence of own/tiny on the Hub"),
        (http(errors.RepositoryNotFoundError, 404), Unsupported, "the Hub has no own/tiny: gone, renamed, or private"),
        (http(errors.DisabledRepoError, 403), Unsupported, "the Hub has disabled own/tiny"),
        (http(errors.RevisionNotFoundError, 404), UserError, "own/tiny has no revision v9; correct `revision`"),
        (errors.LocalEntryNotFoundError("nothing"), UserError, r"cannot be reached \(LocalEntryNotFoundError\)"),
        (errors.OfflineModeIsEnabled("off"), UserError, r"cannot be reached \(OfflineModeIsEnabled\)"),
        (http(errors.HfHubHTTPError, 500), UserError, r"cannot be reached \(HfHubHTTPError\)"),
    ],
)
def test_each_way_the_hub_says_no_is_one_line(monkeypatch, error, finding, line):
    """What no second try would change is a finding; the rest is the user's to mend."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.snapshot_download", refuse)
    request = LoadRequest(
        model=entry("open weights", revision="v9"), weights=Weights.HUB, scheme=BACKEND.scheme("fp32"), device="cpu"
    )
    with pytest.raises(finding, match=line) as caught:
        locate(request)
    assert "\n" not in str(caught.value)


def test_an_adapter_on_the_hub_takes_the_base_of_its_entry(base, tmp_path, monkeypatch):
    """Both repositories are asked for by the catalogue's names, never by the adapter's own configuration."""
    adapter(read(base), tmp_path / "adapter", 1)
    asked, folders = [], {"own/tiny": tmp_path / "adapter", "own/base": base}

    def snapshot(repo, revision=None, allow_patterns=None):
        asked.append((repo, revision))
        return str(folders[repo])

    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot)
    monkeypatch.setenv("BENCH_CACHE", str(tmp_path / "cache"))  # what is no merge must not lie where merges are kept
    monkeypatch.setattr(adapters, "made_once", lambda folder, module, arguments: shutil.copytree(base, folder))
    monkeypatch.setattr(adapters, "provenance", lambda _, *of, **more: files.provenance(base, *of, **more))
    request = LoadRequest(
        model=entry("adapter", base_model="base"), weights=Weights.HUB, scheme=BACKEND.scheme("fp32"), device="cpu",
        base=entry("open weights", name="base", repo="own/base", revision="abc"),
    )  # fmt: skip
    found = locate(request).provenance
    assert (found.source, found.revision) == ("own/base + own/tiny", f"{base.name} + adapter")  # as snapshots are named
    assert asked == [("own/base", "abc"), ("own/tiny", None)]


def test_a_local_adapter_is_described_by_its_base(base, tmp_path):
    """`--weights local=ADAPTER --base FOLDER` needs no catalogue; without --base it is one line."""
    adapter(read(base), tmp_path / "adapter", 1)
    with pytest.raises(UserError, match="is an adapter and nothing without its base; pass --base FOLDER"):
        chosen_models(Selection(weights=Weights.LOCAL, path=str(tmp_path / "adapter")), [])
    selection = Selection(weights=Weights.LOCAL, path=str(tmp_path / "adapter"), base=str(base))
    (model,) = chosen_models(selection, [])
    assert (model.kind, model.architecture["model_type"]) == (Kind.ADAPTER, "llama")
    made = make_plan(selection, [], make_machine())
    assert {planned.cell.source for planned in made.cells} == {"adapter on tiny-llama"}
    assert {planned.base_path for planned in made.cells} == {str(base)}


def test_random_weights_are_planned_for_memory_and_speed_alone():
    """Quality and divergence are left out with their reason; a model of unknown architecture wholly."""
    known = entry("gated", architecture=tiny.config("llama"))
    unknown = entry("open weights", name="other", architecture={"model_type": "chatglm"})
    made = make_plan(Selection(models=("*",), weights=Weights.RANDOM), [known, unknown], make_machine())
    assert {(p.cell.model, p.cell.suite, p.cell.source) for p in made.cells} == {
        ("tiny", "memory", "random"),
        ("tiny", "throughput", "random"),
    }
    assert {(left.model, left.what, left.reason) for left in made.left_out} == {
        ("tiny", "divergence", RANDOM_SAYS_NOTHING),
        ("tiny", "quality", RANDOM_SAYS_NOTHING),
        ("other", "*", "its architecture is not known, so it cannot be built"),
    }


def test_objective_and_template_are_part_of_the_question():
    """A masked model's cells say so; a template is in quality's settings, so that its key differs."""
    plain, framed = entry("open weights"), entry("open weights", template="alpaca", objective="masked")

    def settings(model):
        made = make_plan(Selection(models=("tiny",), precisions=(Precision.FP16,)), [model], make_machine())
        return {planned.cell.suite: planned.cell.settings for planned in made.cells}

    assert {key for found in settings(plain).values() for key in found} & {"objective", "template"} == set()
    assert {name: found["objective"] for name, found in settings(framed).items()} == dict.fromkeys(
        ("memory", "throughput", "divergence", "quality"), "masked"
    )
    assert settings(framed)["quality"]["template"] == "alpaca"
