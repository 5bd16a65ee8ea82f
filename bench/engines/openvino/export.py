# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.openvino.export SOURCE FOLDER`: a checkpoint as OpenVINO's IR at float32, with its proof.

optimum-intel traces the model; its own tokenizer, where the checkpoint has the file, is taken as it lies, for
transformers makes others of some (5.5.4). A text of several hundred tokens is then read by the model as transformers
has it and by the file that was written, and `proof.json` says how far the two are apart: an export that is no copy is
refused, so that no quantized file is ever made of one.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from bench.engines.exported import proof
from bench.engines.exported.logits import log_probs
from bench.engines.openvino.files import MODEL, check_written
from bench.engines.weights.files import Refused, guarded
from bench.errors import UserError
from bench.processes import temporary_folder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CAUSAL = "text-generation-with-past"


def export(source: Path, folder: Path) -> None:
    """Write IR, configuration, tokenizer and proof into `folder`. Raises Refused, UserError."""
    import torch
    from optimum.exporters.openvino.convert import export_from_model
    from optimum.intel.openvino.configuration import OVConfig
    from safetensors import SafetensorError
    from transformers import AutoConfig, AutoModelForCausalLM

    _require_known(source)
    config = AutoConfig.from_pretrained(source)
    try:
        model = AutoModelForCausalLM.from_pretrained(source, config=config, dtype=torch.float32).eval()
    except SafetensorError as error:
        raise UserError(f"{source} has a damaged weight file ({error})", "download it again") from None
    tokenizer = proof.tokenizer_of(source, folder)
    tokens = proof.text_of(tokenizer, getattr(config.get_text_config(), "max_position_embeddings", None))
    with torch.inference_mode():
        wanted = log_probs(model(torch.tensor([tokens])).logits[0].float().numpy())
    try:
        export_from_model(model, folder, task=CAUSAL, ov_config=OVConfig(dtype="fp32"), stateful=True)
    except (ValueError, NotImplementedError) as error:
        raise Refused(f"optimum-intel exports no such {config.model_type}: {error}") from error
    proof.copy_small(source, folder)
    check_written(folder)
    prove(folder, tokens, wanted)


def _require_known(source: Path) -> None:
    """Refuse an architecture that a library has no name for."""
    import transformers
    from optimum.exporters.openvino import model_configs  # noqa: F401 - it registers what OpenVINO has
    from optimum.exporters.tasks import TasksManager

    kind = json.loads((source / "config.json").read_text(encoding="utf-8")).get("model_type")
    if kind not in transformers.CONFIG_MAPPING:
        raise Refused(f"transformers {transformers.__version__} knows no architecture {kind!r}")
    try:
        tasks = TasksManager.get_supported_tasks_for_model_type(kind, "openvino", library_name="transformers")
    except KeyError:
        tasks = {}
    if CAUSAL not in tasks:
        version = importlib.metadata.version("optimum-intel")
        raise Refused(f"optimum-intel {version} exports no {kind!r} that predicts the next token")


def prove(folder: Path, tokens: list[int], wanted: NDArray[np.float32]) -> None:
    """Read the text with the written file at float32 and keep how far it is from transformers. Raises Refused.

    It is read once as it was exported, and once with the inputs that the engine adds: whether that is the same model
    with a plain causal mask decides whether the engine may give it others.
    """
    from bench.engines.openvino import graph
    from bench.engines.openvino.compiled import EXACT, compiled, core
    from bench.engines.openvino.reader import Reader

    def apart(*, edited: bool) -> NDArray[np.float32]:
        model = core().read_model(folder / MODEL)
        if edited:
            graph.take_mask(model)
        reader = Reader(compiled(model, EXACT, None)[0])
        return proof.apart(log_probs(reader.read([tokens], [])[0]), wanted, tokens)

    told = proof.told(apart(edited=False))
    told["causal"] = bool(apart(edited=True).mean() <= proof.APART)
    proof.keep(folder, told)


if __name__ == "__main__":
    with temporary_folder() as scratch:  # torch makes a folder of its own among the temporary files, and leaves it
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = scratch
        code = guarded(lambda: export(Path(sys.argv[1]), Path(sys.argv[2])))
    sys.exit(code)
