# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.llamacpp.quantize SOURCE TARGET TYPE THREADS`: one GGUF written as another file type."""

from __future__ import annotations

import ctypes
import sys


def quantize(source: str, target: str, number: int, threads: int) -> int:
    """llama.cpp's own quantizer, without an importance matrix; returns its exit code, its errors go to stderr."""
    import llama_cpp

    from bench.engines.llamacpp import library

    library.open_library()
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype = number
    params.nthread = threads
    params.allow_requantize = True
    code = int(llama_cpp.llama_model_quantize(source.encode(), target.encode(), ctypes.byref(params)))
    if code:
        sys.stderr.write((library.LOG.last_error() or f"llama_model_quantize returned {code}") + "\n")
    return code


if __name__ == "__main__":
    sys.exit(quantize(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
