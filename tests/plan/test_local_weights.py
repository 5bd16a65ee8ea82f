# SPDX-License-Identifier: Apache-2.0
"""Weights on this machine: the wrong engine is answered with the right command, and two of a name are two models."""

import json
import shlex

import pytest
from builders import make_machine, make_model, make_record, make_versions

from bench.catalog import architecture
from bench.catalog.gguf_model import header_in
from bench.catalog.local_model import gguf_config, own_model
from bench.engines.registry import backend
from bench.errors import UserError
from bench.instruments.machine import installed
from bench.plan.local_weights import told_apart
from bench.plan.plan import make_plan
from bench.plan.selection import Selection
from bench.plan.takers import takers
from bench.records.cell import Precision, Weights, digest

MACHINE = make_machine()
CONFIG = {
    "model_type": "llama", "vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 1,
    "num_attention_heads": 2,
}  # fmt: skip


def hub_folder(folder, values=b"some values", **config):
    """A folder in Hub layout, its weights any bytes: nothing here loads them."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG | config))
    (folder / "model.safetensors").write_bytes(values)
    return folder


def gguf(path, experts=0):
    """A GGUF of float32 tensors, a mixture if it has experts."""
    pytest.importorskip("gguf", reason="writes GGUF files with the package gguf")
    from gguf_files import shapes, write

    more = {"llama__expert_count": experts, "llama__expert_used_count": 2} if experts else {}
    return write(path, shapes(experts=experts), **more)


def local(path, backend="transformers", **changes):
    """A selection of local weights."""
    facts = {"backends": (backend,), "weights": Weights.LOCAL, "path": str(path), "suites": ("memory",)}
    return Selection(**(facts | changes))


def refusal(selection, models=()):
    """The one line that planning ends with."""
    with pytest.raises(UserError) as caught:
        make_plan(selection, models, MACHINE)
    return str(caught.value)


def test_a_gguf_given_to_transformers_gets_the_command_that_works(tmp_path):
    """A file and a folder of them, before anything starts."""
    path = gguf(tmp_path / "m.gguf")
    for place in (path, tmp_path):
        line = refusal(local(place))
        assert line.startswith(f"{place} is GGUF, and no folder in Hub layout, which is all that backend transformers")
        assert line.endswith(f"; bench run --backend llamacpp --weights local={place}")
    assert make_plan(local(path, "llamacpp"), [], MACHINE).cells


def test_a_folder_in_hub_layout_given_to_llamacpp_gets_the_command_that_works(tmp_path):
    """The default engine needs no option."""
    folder = hub_folder(tmp_path / "tuned")
    assert refusal(local(folder, "llamacpp")) == (
        f"{folder} is no GGUF, which is all that backend llamacpp reads; bench run --weights local={folder}"
    )
    assert refusal(local(folder, "llamacpp", models=("tiny",)), [make_model()]).endswith(f"local={folder}")
    assert make_plan(local(folder), [], MACHINE).cells


def test_a_folder_that_holds_both_is_read_by_either_engine(tmp_path):
    """As many repositories are published."""
    folder = hub_folder(tmp_path / "both")
    gguf(folder / "m.gguf")
    for name in ("transformers", "llamacpp"):
        assert make_plan(local(folder, name), [], MACHINE).cells


def test_a_server_is_given_no_weights(tmp_path):
    """They would be ignored without a word."""
    folder = hub_folder(tmp_path / "tuned")
    assert refusal(local(folder, "api")) == (
        f"backend api asks a server and loads no weights; leave --weights out, or: bench run --weights local={folder}"
    )


def test_what_is_no_model_at_all_says_what_one_is(tmp_path):
    """Neither a config.json nor a GGUF, or a text that happens to be a file."""
    (tmp_path / "notes.txt").write_text("no model")
    for place, what in ((tmp_path, "no model folder"), (tmp_path / "notes.txt", "no model")):
        assert refusal(local(place)) == (
            f"{place} is {what}; give a folder in Hub layout (with its config.json), or a GGUF file"
        )


def test_a_command_may_be_pasted_whatever_the_path(tmp_path):
    """Blanks and quotes in a folder's name do not break it."""
    path = gguf(tmp_path / "my model's.gguf")
    assert shlex.split(refusal(local(path)).partition("; ")[2])[-1] == f"local={path}"


def test_a_gguf_without_its_suffix_is_one(tmp_path):
    """Its first bytes say so: files of a cache have digests for names."""
    path = gguf(tmp_path / "m.gguf").rename(tmp_path / "sha256-0123")
    assert refusal(local(path)).endswith(f"bench run --backend llamacpp --weights local={path}")


def test_a_place_given_as_a_name_gets_the_command_that_works(tmp_path, monkeypatch):
    """Folder or file, by any path; one that is written as a repository could be either and both are told."""
    monkeypatch.chdir(tmp_path)
    hub_folder(tmp_path / "org" / "tuned")
    gguf(tmp_path / "m.gguf")
    said = "--model takes names, and {} is a place on this machine; bench run {}--weights local={}"
    folder = tmp_path / "org" / "tuned"
    for name, option in ((f"{folder}", ""), ("./org/tuned", ""), ("m.gguf", "--backend llamacpp ")):
        assert refusal(Selection(models=(name,))) == said.format(name, option, name)
    assert refusal(Selection(models=("org/tuned",))) == (
        "org/tuned is a model on this machine, and may be a repository of the Hub; for the folder: bench run --weights "
        "local=org/tuned; for the repository: --weights hub --model org/tuned"
    )
    assert make_plan(Selection(models=("org/tuned",), weights=Weights.HUB), [], MACHINE).cells
    assert refusal(Selection(models=("./nowhere",))).startswith("no folder or file ./nowhere; give one that exists")
    assert make_plan(Selection(models=("org/elsewhere",)), [], MACHINE).cells


def test_a_mixture_is_predicted_by_its_tensors_under_any_name(tmp_path):
    """As its own entry and as the file of a catalogue entry; its cache by its header too."""
    path = gguf(tmp_path / "m.gguf", experts=8)
    for models, named in (([], ()), ([make_model(architecture=None)], ("tiny",))):
        asked = local(path, "llamacpp", schemes=("gguf-f32",), models=named)
        (planned,) = make_plan(asked, models, MACHINE).cells
        layer = 256 * (256 + 128 + 128 + 256) + 8 * 256 + 8 * 3 * 512 * 256 + 2 * 256
        assert planned.predicted.weights_bytes == 4 * (2 * layer + 2 * 320 * 256 + 256)
        tokens = planned.cell.settings["prompt_tokens"] + planned.cell.settings["decode_tokens"]
        assert planned.predicted.kv_bytes == 2 * 2 * 2 * 64 * 2 * tokens
        assert planned.pace is None or planned.pace.prefill_s > 0


def test_who_can_take_a_file_is_told_by_what_lies_there(tmp_path):
    """A GGUF is none of transformers' business, and its needs come from its own header."""
    path = gguf(tmp_path / "m.gguf", experts=8)
    found = takers(own_model(path), Weights.LOCAL, str(path), MACHINE)
    refused = {one.engine: one.reason for one in found if one.precision == "all"}
    assert refused == dict.fromkeys(
        ("onnxruntime", "openvino", "transformers"), "it reads a folder in Hub layout, and this is a GGUF file"
    )
    (fp32,) = (one for one in found if one.scheme == "gguf-f32")
    assert fp32.weights_bytes == header_in(gguf_config(path)).stored["F32"]
    assert set(fp32.needs) == {512}  # the positions that its header allows


def test_what_does_not_fit_is_found_before_loading(tmp_path):
    """A mixture was planned as a dense model, a fifth of its bytes: `fits`."""
    path = gguf(tmp_path / "m.gguf", experts=8)
    asked = local(path, "llamacpp", schemes=("gguf-f32",))
    made = make_plan(asked, [], MACHINE, free_bytes=80 << 20)
    assert made.cells == () and made.left_out[0].reason.startswith("does not fit: predicted")


def test_two_checkpoints_of_one_folder_name_are_two_questions(tmp_path):
    """Every training run has a `checkpoint-100`; a record of one does not settle the other's cell."""
    one = hub_folder(tmp_path / "run1" / "checkpoint-100")
    two = hub_folder(tmp_path / "run2" / "checkpoint-100", b"other values")
    first, second = (make_plan(local(path), [], MACHINE).cells[0].cell for path in (one, two))
    assert first.model == second.model == "checkpoint-100"
    assert first.key != second.key and first.load_key != second.load_key
    here = installed(backend("transformers").requires)
    record = make_record(first, versions=make_versions(**here))
    assert make_plan(local(one, missing=True), [], MACHINE, [record]).settled == 1
    assert make_plan(local(two, missing=True), [], MACHINE, [record]).settled == 0
    assert local(one).key != local(two).key  # an interrupted run of one is not gone on with by the other
    copied = hub_folder(tmp_path / "elsewhere" / "checkpoint-100")
    assert make_plan(local(copied), [], MACHINE).cells[0].cell == first


@pytest.mark.parametrize("changed", ["weights", "config", "tokenizer", "adapter", "base"])
def test_everything_that_decides_the_answers_tells_weights_apart(tmp_path, changed):
    """Weights, configuration, tokenizer, and the base that an adapter is added to."""
    base, adapter = hub_folder(tmp_path / "a" / "base"), tmp_path / "a" / "adapter"
    other, second = hub_folder(tmp_path / "b" / "base"), tmp_path / "b" / "adapter"
    for folder in (adapter, second):
        folder.mkdir()
        (folder / "adapter_config.json").write_text('{"lora_alpha": 8}')
        (folder / "adapter_model.safetensors").write_bytes(b"an adapter")
    before = told_apart(str(adapter), str(base))
    assert told_apart(str(second), str(other)) == before
    if changed == "adapter":
        (second / "adapter_config.json").write_text('{"lora_alpha": 16}')
    else:
        name = {"weights": "model.safetensors", "config": "config.json", "tokenizer": "tokenizer.json"}
        (other / name.get(changed, "model.safetensors")).write_text("{}")
    assert told_apart(str(second), str(other)) != before


def test_weights_with_a_name_of_their_own_keep_the_keys_of_their_records():
    """A catalogue entry's cell has no fingerprint, and its key is that of older records."""
    asked = Selection(backends=("fake",), models=("tiny",), precisions=(Precision.FP16,), suites=("memory",))
    (planned,) = make_plan(asked, [make_model()], MACHINE).cells
    told = planned.cell.model_dump(mode="json")
    assert told.pop("fingerprint") is None
    assert planned.cell.key == digest(told)


def test_a_folder_that_holds_both_is_predicted_by_what_an_engine_reads(tmp_path):
    """By its config.json for transformers, by the header for llama.cpp: they need not even agree."""
    folder = hub_folder(tmp_path / "both")
    gguf(folder / "m.gguf", experts=8)
    ours = make_plan(local(folder, schemes=("fp32",)), [], MACHINE).cells[0].predicted.weights_bytes
    theirs = make_plan(local(folder, "llamacpp", schemes=("gguf-f32",)), [], MACHINE).cells[0].predicted.weights_bytes
    assert ours == 4 * architecture.parameters(CONFIG)
    assert theirs == header_in(gguf_config(folder)).stored["F32"]
