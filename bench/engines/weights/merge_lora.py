# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.weights.merge_lora BASE ADAPTER... OBJECTIVE FOLDER`: LoRA merged into a base, one by one.

Nothing is merged that does not fit, and what was merged must answer as it did before: the figures go into the folder's
`merges.json`, which records tell.
"""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.engines.weights.files import Refused, guarded

if TYPE_CHECKING:
    import torch

MERGES = "merges.json"
ADAPTER_CONFIG = "adapter_config.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "spiece.model")
FULL = ("weight", "base_layer.weight", "original_module.weight", "modules_to_save.weight")
"""What the whole of a table is called behind its module's name, in an adapter that brings it."""
PLACES = (".lora_", ".modules_to_save.", ".token_adapter.trainable_tokens_")
"""Parts of the names under which a model holds what an adapter must bring."""
HEADLESS = {"SEQ_CLS": "sequence classification", "TOKEN_CLS": "token classification", "QUESTION_ANS": "extraction"}
"""Tasks of peft whose models have no language head."""


def merge(base: Path, adapters: Sequence[Path], folder: Path, objective: str = "causal") -> None:
    """Write the merged model and its tokenizer into `folder`, at the precision in which the base is stored.

    Raises Refused where base and adapter do not fit, or where the merged model does not answer as the adapter does.
    """
    from transformers import AutoTokenizer

    model = _loaded(base, objective)
    tokenizer = AutoTokenizer.from_pretrained(base)
    merges = []
    for adapter in adapters:
        model, figures = _merged(model, adapter)
        merges.append(figures)
        if any((adapter / name).is_file() for name in TOKENIZERS):
            tokenizer = AutoTokenizer.from_pretrained(adapter)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    (folder / MERGES).write_text(json.dumps(merges), encoding="utf-8")


def _loaded(base: Path, objective: str) -> Any:
    """The base by its objective, in the type it is stored in. Nothing that it lacks is made up."""
    import transformers
    from safetensors import SafetensorError

    loaders = {
        "causal": transformers.AutoModelForCausalLM,
        "masked": transformers.AutoModelForMaskedLM,
        "seq2seq": transformers.AutoModelForSeq2SeqLM,
    }
    loader, version = loaders[objective], transformers.__version__
    kind = json.loads((base / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise Refused(f"its base is a {kind}, which transformers {version} does not know")
    if transformers.CONFIG_MAPPING[kind] not in loader._model_mapping:  # noqa: SLF001 - else 2,000 characters say so
        raise Refused(f"its base is a {kind}, of which transformers {version} has no {objective} model")
    try:
        model, found = loader.from_pretrained(base, dtype="auto", output_loading_info=True)
    except SafetensorError as error:
        raise Refused(f"its base has a damaged weight file ({error}): download it again") from error
    lacking = sorted([*found["missing_keys"], *(key for key, *_ in found["mismatched_keys"])])
    if lacking:
        raise Refused(f"its base lacks {len(lacking)} weights of its architecture, {lacking[0]} among them")
    return model


def _merged(model: Any, adapter: Path) -> tuple[Any, dict[str, object]]:
    """The model with one adapter merged, and what that did (`bench.records.provenance.Merge`)."""
    from bench.engines.weights.merge_check import allowed_nat, divergence, log_probs

    tensors = _tensors(adapter)
    _resize(model, adapter, tensors)
    tied, rows = _is_tied(model), _rows(model)
    wrapped = _wrapped(model, adapter, len(tensors))
    before, rounded = log_probs(wrapped, rows), log_probs(wrapped, rows, wide=False)
    if not before.isfinite().all():
        raise Refused(f"{adapter.name} beside its base gives no finite outputs: its tensors are damaged")
    with wrapped.disable_adapter():
        alone = log_probs(wrapped, rows)
    if tied:
        _part(wrapped)  # else what is added to one is added to the other too, or twice to both
    with _fitting(adapter):
        model = wrapped.merge_and_unload(safe_merge=True)
    untied = tied and not _share_again(model)
    moved, rounding = divergence(before, log_probs(model, rows)), divergence(before, rounded)
    if not moved <= allowed_nat(rounding):  # NaN is not
        raise Refused(
            f"{adapter.name} merged does not answer as it does beside its base: {moved:.2g} nats a token away, "
            f"rounding alone {rounding:.2g}"
        )
    figures = {"moved_nat": moved, "adapter_nat": divergence(before, alone), "tensors": len(tensors), "untied": untied}
    return model, {**figures, "rounding_nat": rounding if math.isfinite(rounding) else None}


def _tensors(adapter: Path) -> Mapping[str, torch.Tensor]:
    from peft import load_peft_weights
    from safetensors import SafetensorError

    try:
        found: Mapping[str, torch.Tensor] = load_peft_weights(str(adapter), device="cpu")
    except SafetensorError as error:
        raise Refused(f"{adapter.name} has a damaged weight file ({error}): download it again") from error
    return found


@contextmanager
def _fitting(adapter: Path) -> Iterator[None]:
    """What peft raises where an adapter is not of this base, in one line."""
    try:
        yield
    except KeyError as error:
        raise Refused(f"{adapter.name} lacks {error.args[0]}, which its configuration names") from error
    except (ValueError, RuntimeError) as error:  # the last line names a tensor whose shapes differ
        line = next((text.strip() for text in reversed(str(error).splitlines()) if text.strip()), type(error).__name__)
        line = line.partition(". Please check")[0]
        raise Refused(f"{adapter.name} does not fit its base: {line[:240]}") from error


def _wrapped(model: Any, adapter: Path, count: int) -> Any:
    """The model with the adapter beside it, as peft runs it; every tensor has found its place, and every place its own.

    peft leaves out what it finds no layer for, and fills what it finds no tensor for with zeros: both without an error.
    """
    from peft import PeftModel, load_peft_weights, set_peft_model_state_dict

    task = json.loads((adapter / ADAPTER_CONFIG).read_text(encoding="utf-8")).get("task_type")
    if task in HEADLESS:
        raise Refused(f"{adapter.name} is trained for {HEADLESS[task]}: it has no output over the vocabulary")
    with _fitting(adapter):
        wrapped = PeftModel.from_pretrained(model, adapter, torch_device="cpu")
        mapping = getattr(model, "_checkpoint_conversion_mapping", {})
        read = load_peft_weights(str(adapter), device="cpu", key_mapping=mapping)
        found = set_peft_model_state_dict(wrapped, read)
    strange = sorted(key for key in found.unexpected_keys if not _is_copy(key, read))
    if strange:
        fit = count - len(strange)
        raise Refused(f"{fit} of the {count} tensors of {adapter.name} fit its base: no layer for {strange[0]}")
    held, missing = wrapped.state_dict(), set(found.missing_keys)
    given = {tensor.data_ptr() for key, tensor in held.items() if key not in missing}
    own = [key for key in found.missing_keys if any(part in key for part in PLACES)]
    lacking = [key for key in own if held[key].data_ptr() not in given]  # one that two layers share is stored once
    if lacking:
        raise Refused(f"{adapter.name} lacks {len(lacking)} tensors for layers that it names, {lacking[0]} among them")
    return wrapped


def _is_copy(key: str, read: Mapping[str, torch.Tensor]) -> bool:
    """Whether peft stored this table twice, as it does with embeddings that it saves whole and that were resized."""
    twin = read.get(key.replace(".modules_to_save.default.", ".").replace(".modules_to_save.", "."))
    own = read.get(key.replace(".modules_to_save.default.", ".modules_to_save."))
    return ".modules_to_save." in key and twin is not None and own is not None and bool((twin == own).all())


def _resize(model: Any, adapter: Path, tensors: Mapping[str, torch.Tensor]) -> None:
    """Give embedding and head as many rows as the adapter's tensors have; rows that are new must be its own."""
    rows = _rows(model)
    tables = {name: model.get_submodule(name) for name in _table_names(model)}
    wanted: dict[int, str] = {}
    whole: set[str] = set()
    for name, table in tables.items():
        start = f"base_model.model.{name}."
        for key in (key for key in tensors if key.startswith(start)):
            rest, shape = key.removeprefix(start), tensors[key].shape
            if rest in FULL:
                wanted[shape[0]] = key
                whole.add(name)
            elif rest == "lora_embedding_A":
                wanted[shape[1]] = key
            elif rest == "lora_B.weight" and type(table).__name__ == "Linear":
                wanted[shape[0]] = key
    if len(wanted) > 1:
        raise Refused(f"{adapter.name} has tables of {' and '.join(map(str, sorted(wanted)))} rows: which is right?")
    new = next(iter(wanted), rows)
    if new == rows:
        return
    needed = set(tables) if not _is_tied(model) else whole or set(tables)
    if new > rows and needed - whole:
        lacks = f"and no values for the {new - rows} new ones of {min(needed - whole)}"
        raise Refused(f"{adapter.name} is made for {new} tokens, its base has {rows} rows, {lacks}")
    model.resize_token_embeddings(new, mean_resizing=False)


def _rows(model: Any) -> int:
    return int(model.get_input_embeddings().weight.shape[0])


def _table_names(model: Any) -> list[str]:
    """Names of the input embedding and, where there is one, of the output head."""
    tables = [model.get_input_embeddings(), model.get_output_embeddings()]
    return [name for name, module in model.named_modules() if any(module is table for table in tables)]


def _is_tied(model: Any) -> bool:
    """Whether embedding and output head share one table."""
    head = model.get_output_embeddings()
    return head is not None and head.weight.data_ptr() == model.get_input_embeddings().weight.data_ptr()


def _part(wrapped: Any) -> None:
    """Give the head a table of its own with the values of the one it shared, beneath whatever peft put around it."""
    from torch import nn

    head = wrapped.base_model.model.get_output_embeddings()
    while inside := [name for name in ("base_layer", "original_module") if hasattr(head, name)]:
        head = getattr(head, inside[0])
    head.weight = nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def _share_again(model: Any) -> bool:
    """Let head and embedding share their table again if it is the same, else let the configuration say otherwise."""
    head, table = model.get_output_embeddings(), model.get_input_embeddings().weight
    same = bool(head.weight.shape == table.shape and (head.weight == table).all())
    if same:
        head.weight = table
    for config in (model.config, model.config.get_text_config()):
        config.tie_word_embeddings = same
    return same


if __name__ == "__main__":
    base, *adapters, objective, folder = sys.argv[1:]
    sys.exit(guarded(lambda: merge(Path(base), [Path(a) for a in adapters], Path(folder), objective)))
