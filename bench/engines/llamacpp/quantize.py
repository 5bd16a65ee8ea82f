# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.llamacpp.quantize SOURCE TARGET TYPE THREADS [MATRIX]`: one GGUF as another file type."""

from __future__ import annotations

import ctypes
import sys
from typing import Any


def quantize(source: str, target: str, number: int, threads: int, matrix: str | None = None) -> int:
    """llama.cpp's own quantizer, with that importance matrix; returns its exit code, its errors go to stderr."""
    import llama_cpp

    from bench.engines.llamacpp import library

    library.open_library()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = number
    params.nthread = threads
    params.allow_requantize = True
    held = _matrix(matrix) if matrix else None  # the library reads it while it quantizes
    if held:
        params.imatrix = held[0]
    code = int(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
    if code:
        sys.stderr.write((library.LOG.last_error() or f"llama_model_quantize returned {code}") + "\n")
    return code


def _matrix(path: str) -> tuple[Any, list[Any]]:
    """What the library takes, ended by an entry without a name, and the values that it points to."""
    import llama_cpp
    import numpy as np

    with np.load(path) as file:
        values = {name: np.ascontiguousarray(file[name]) for name in file.files}
    made = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
    for entry, (name, value) in zip(made, values.items(), strict=False):
        entry.name, entry.size = name.encode(), value.size
        entry.data = value.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
    return made, list(values.values())


if __name__ == "__main__":
    sys.exit(quantize(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:]))
