# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.onnxruntime.export SOURCE FOLDER`: a checkpoint as an ONNX file at float32, with its proof.

optimum-onnx traces the model. A text of several hundred tokens is then read by the model as transformers has it and by
the file that was written, and `proof.json` says how far the two are apart: an export that is no copy is refused, so
that no quantized file is ever made of one.

The proof cannot see what transformers itself misreads, for both sides read it so. optimum-onnx wants a transformers of
before version 5, which takes a configuration of version 5 and its rotary positions for unscaled ones without a word: so
configurations are written back in its words, and a checkpoint whose tensors do not all find their places is refused.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import Any

from bench.engines.exported import proof
from bench.engines.exported.logits import log_probs
from bench.engines.weights.files import Refused, guarded
from bench.errors import UserError
from bench.processes import temporary_folder

CAUSAL = "text-generation-with-past"
RAW = "model.onnx_data"
"""What torch lays beside a large graph."""


def export(source: Path, folder: Path) -> None:
    """Write the model, configuration, tokenizer and proof into `folder`. Raises Refused, UserError."""
    import onnx
    import torch
    from optimum.exporters.onnx import onnx_export_from_model

    from bench.engines.onnxruntime import files, graph

    kind, told = _require_known(source)
    model = _model(source, kind, told)
    tokenizer = proof.tokenizer_of(source, folder)
    tokens = proof.text_of(tokenizer, getattr(model.config.get_text_config(), "max_position_embeddings", None))
    with torch.inference_mode():
        wanted = log_probs(model(torch.tensor([tokens])).logits[0].float().numpy())
    try:
        onnx_export_from_model(model, folder, task=CAUSAL, do_validation=False)
    except (ValueError, NotImplementedError) as error:
        raise Refused(f"optimum-onnx exports no such {kind}: {error}") from error
    del model
    proof.copy_small(source, folder)
    made = onnx.load(folder / files.MODEL)
    for name in (files.MODEL, RAW):
        (folder / name).unlink(missing_ok=True)
    graph.pick_rows(made)
    files.write(made, folder)
    del made
    prove(folder, tokens, wanted, sees_all=proof.sees_all(told | (told.get("text_config") or {})))


def _require_known(source: Path) -> tuple[str, dict[str, Any]]:
    """The kind of a checkpoint and its configuration, where both libraries have a name for it. Raises Refused."""
    import transformers
    from optimum.exporters.onnx import model_configs  # noqa: F401 - it registers what ONNX has
    from optimum.exporters.tasks import TasksManager

    told: dict[str, Any] = json.loads((source / "config.json").read_text(encoding="utf-8"))
    kind = str(told.get("model_type"))
    if kind not in transformers.CONFIG_MAPPING:
        raise Refused(f"transformers {transformers.__version__} knows no architecture {kind!r}")
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, "onnx", library_name="transformers")
    except KeyError:
        tasks = {}
    if CAUSAL not in tasks:
        version = importlib.metadata.version("optimum-onnx")
        raise Refused(f"optimum-onnx {version} exports no {kind!r} that predicts the next token")
    return kind, told


def _model(source: Path, kind: str, told: dict[str, Any]) -> Any:
    """The model as transformers reads it, in float32, every one of its tensors from the checkpoint."""
    import torch
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(**older(told))
    try:
        model, loaded = AutoModelForCausalLM.from_pretrained(
            source, config=config, dtype=torch.float32, output_loading_info=True
        )
    except SafetensorError as error:
        raise UserError(f"{source} has a damaged weight file ({error})", "download it again") from None
    if lacking := [*loaded["missing_keys"], *loaded["mismatched_keys"]]:
        version = importlib.metadata.version("transformers")
        raise Refused(f"transformers {version} finds no {lacking[0]} in this {kind} (of {len(lacking)} it looks for)")
    return model.eval()


def older(told: dict[str, Any]) -> dict[str, Any]:
    """A configuration of transformers 5 in the words of 4: rotary positions stand in two places there. Raises Refused.

    A part of a configuration that has its own positions for each kind of layer has no such words.
    """
    found = {key: older(value) if key.endswith("_config") and isinstance(value, dict) else value
             for key, value in told.items() if key != "rope_parameters"}  # fmt: skip
    new = told.get("rope_parameters")
    if not isinstance(new, dict):
        return found
    if any(isinstance(value, dict) for value in new.values()):
        raise Refused("it has rotary positions of their own for each kind of layer, which transformers 4 cannot read")
    rest = {key: value for key, value in new.items() if key not in {"rope_theta", "partial_rotary_factor"}}
    found |= {key: new[key] for key in ("rope_theta", "partial_rotary_factor") if key in new}
    if rest.get("rope_type", "default") != "default":
        found["rope_scaling"] = rest
    return found


def prove(folder: Path, tokens: list[int], wanted: Any, *, sees_all: bool) -> None:
    """Read the text with the written file and keep how far it is from transformers. Raises Refused.

    Then with a plain causal mask of ours in place of its own: where that is the same model, the file takes it.
    """
    import onnx

    from bench.engines.onnxruntime import files, graph
    from bench.engines.onnxruntime.reader import Reader
    from bench.engines.onnxruntime.session import opened

    def difference() -> Any:
        reader = Reader(opened(folder / files.MODEL, None))
        return proof.apart(log_probs(reader.read([tokens], range(len(tokens)))), wanted, tokens)

    told = proof.told(difference())
    own = files.graph(folder)
    ours = files.graph(folder)
    told["causal"] = False
    if sees_all and graph.take_mask(ours):
        onnx.save_model(ours, folder / files.MODEL)
        told["causal"] = bool(difference().mean() <= proof.APART)
        if not told["causal"]:
            onnx.save_model(own, folder / files.MODEL)
    proof.keep(folder, told)


if __name__ == "__main__":
    with temporary_folder() as scratch:  # torch makes a folder of its own among the temporary files, and leaves it
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch
        code = guarded(lambda: export(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.exit(code)
