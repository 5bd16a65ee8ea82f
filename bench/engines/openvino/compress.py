# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.openvino.compress SOURCE SCHEME FOLDER`: an exported model with fewer bits a weight.

NNCF rounds weights by their own values, without calibration. Embeddings and the head are 8-bit in both schemes: NNCF
never gives them four.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from bench.engines.openvino.files import MODEL, WEIGHTS, check_written
from bench.engines.weights.files import guarded

GROUP = 64
"""Weights that share a scale at four bits. 576-wide layers are no multiple of 128; where 64 does not divide, 32 may."""


def compress(source: Path, scheme: str, folder: Path) -> None:
    """Write the model of `source` in a scheme into `folder`, with all that lies beside it."""
    import nncf
    import openvino as ov
    from nncf.quantization.advanced_parameters import AdvancedCompressionParameters, GroupSizeFallbackMode

    model = ov.Core().read_model(source / MODEL)
    if scheme == "ov-int8":
        model = nncf.compress_weights(model, mode=nncf.CompressWeightsMode.INT8_ASYM)
    elif scheme == "ov-int4":
        adjusted = AdvancedCompressionParameters(group_size_fallback_mode=GroupSizeFallbackMode.ADJUST)
        model = nncf.compress_weights(
            model, mode=nncf.CompressWeightsMode.INT4_ASYM, ratio=1.0, group_size=GROUP,
            backup_mode=nncf.BackupMode.INT8_ASYM, advanced_parameters=adjusted,
        )  # fmt: skip
    ov.save_model(model, folder / MODEL, compress_to_fp16=scheme == "ov-fp16")
    for path in source.iterdir():
        if path.name not in {MODEL, WEIGHTS}:
            shutil.copy(path, folder / path.name)
    check_written(folder)


if __name__ == "__main__":
    sys.exit(guarded(lambda: compress(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))))
