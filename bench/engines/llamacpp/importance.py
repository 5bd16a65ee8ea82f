# SPDX-License-Identifier: Apache-2.0
"""`python -m bench.engines.llamacpp.importance SOURCE TARGET THREADS`: the importance matrix of one GGUF.

For every matrix of a layer, the mean square of each of its inputs while the project's calibration text is read: what
llama.cpp's own `imatrix` program collects, in the same way, by the callback that its library offers for every step of
a pass. A mixture's experts have a row each, of the tokens that were sent to them. Written as `.npz`, by tensor name.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.engines.llamacpp import library
from bench.engines.weights.gptq import WINDOW_TOKENS, WINDOWS, calibration_text

F32, I32 = 0, 26
"""ggml_type (ggml.h)."""
FEWEST = 16
"""Rows of a product below which llama.cpp's program leaves it out: those of a few tokens say little."""


class Tensor(ctypes.Structure):
    """struct ggml_tensor (ggml.h) of the pinned version; a test holds the two together."""

    _fields_ = (
        ("type", ctypes.c_int), ("buffer", ctypes.c_void_p), ("ne", ctypes.c_int64 * 4), ("nb", ctypes.c_size_t * 4),
        ("op", ctypes.c_int), ("op_params", ctypes.c_int32 * 16), ("flags", ctypes.c_int32),
        ("src", ctypes.c_void_p * 10), ("view_src", ctypes.c_void_p), ("view_offs", ctypes.c_size_t),
        ("data", ctypes.c_void_p), ("name", ctypes.c_char * 64), ("extra", ctypes.c_void_p),
        ("padding", ctypes.c_char * 8),
    )  # fmt: skip


class Importance:
    """Sums of squares by tensor, and how many rows they are of."""

    def __init__(self) -> None:
        from llama_cpp._ggml import libggml

        self.sums: dict[str, NDArray[np.float64]] = {}
        self.counts: dict[str, NDArray[np.int64]] = {}
        self.library: Any = libggml
        self.library.ggml_op_name.restype = ctypes.c_char_p
        self.library.ggml_nbytes.restype = ctypes.c_size_t
        self.library.ggml_nbytes.argtypes = (ctypes.c_void_p,)
        self.library.ggml_backend_tensor_get.argtypes = (
            ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_size_t,
        )  # fmt: skip
        self.error: Exception | None = None

    def heard(self, pointer: int, asks: bool, _: object) -> bool:
        """One step of a pass: whether its inputs are wanted, then the inputs. False ends the pass."""
        try:
            tensor = Tensor.from_address(pointer)
            kind = self.library.ggml_op_name(tensor.op)
            if asks:
                return self._wants(kind, tensor)
            self._take(kind, tensor)
        except Exception as error:  # noqa: BLE001 - a callback that raises would be ignored
            self.error = self.error or error
            return False
        return True

    def _wants(self, kind: bytes, tensor: Tensor) -> bool:
        if kind not in {b"MUL_MAT", b"MUL_MAT_ID"} or not tensor.src[0] or not tensor.src[1]:
            return False
        weights, inputs = (Tensor.from_address(tensor.src[index]) for index in (0, 1))
        if not weights.name.startswith(b"blk.") or inputs.type != F32:
            return False
        return kind == b"MUL_MAT_ID" or inputs.ne[1] >= FEWEST

    def _take(self, kind: bytes, tensor: Tensor) -> None:
        weights, inputs = Tensor.from_address(tensor.src[0]), self._read(tensor.src[1])
        name, experts = weights.name.decode(), int(weights.ne[2])
        columns = inputs.shape[-1]
        sums = self.sums.setdefault(name, np.zeros((experts, columns)))
        counts = self.counts.setdefault(name, np.zeros(experts, np.int64))
        squares = inputs[0].astype(np.float64) ** 2  # tokens, experts used (or one for all), columns
        if kind == b"MUL_MAT_ID":
            chosen = self._read(tensor.src[2])[0, 0]  # tokens, experts used
            for slot in range(chosen.shape[1]):
                np.add.at(sums, chosen[:, slot], squares[:, slot % squares.shape[1]])
                np.add.at(counts, chosen[:, slot], 1)
        else:
            for index, matrix in enumerate(squares):
                sums[index % experts] += matrix.sum(0)
                counts[index % experts] += len(matrix)

    def _read(self, pointer: int) -> NDArray[Any]:
        """A tensor's values, wherever they lie, its dimensions in numpy's order."""
        tensor = Tensor.from_address(pointer)
        data = np.empty(self.library.ggml_nbytes(pointer), np.uint8)
        self.library.ggml_backend_tensor_get(pointer, data.ctypes.data, 0, data.nbytes)
        kind = {F32: np.float32, I32: np.int32}[tensor.type]
        shape, strides = tuple(tensor.ne)[::-1], tuple(tensor.nb)[::-1]
        return np.ndarray(shape, kind, data, 0, strides)

    def means(self) -> dict[str, NDArray[np.float32]]:
        """Mean squares by tensor, experts one behind the other; 1 for an expert that no token was sent to."""
        found = {}
        for name, sums in self.sums.items():
            counts = self.counts[name][:, None]
            found[name] = np.where(counts, sums / np.maximum(counts, 1), 1.0).astype(np.float32).reshape(-1)
        return found


def windows(vocab: Any) -> list[list[int]]:
    """Windows of the calibration text, spread evenly over it."""
    import llama_cpp

    data = calibration_text().encode()
    tokens = (llama_cpp.llama_token * len(data))()
    special = False
    count = llama_cpp.llama_tokenize(vocab, data, len(data), tokens, len(data), special, special)
    whole = max(1, count // WINDOW_TOKENS)
    starts = [index * whole // min(WINDOWS, whole) * WINDOW_TOKENS for index in range(min(WINDOWS, whole))]
    return [list(tokens[start : min(start + WINDOW_TOKENS, count)]) for start in starts]


def collect(source: str, threads: int) -> dict[str, NDArray[np.float32]]:
    """The matrix of a file. Raises RuntimeError with the library's own words."""
    import llama_cpp

    library.open_library()
    found = Importance()
    model = llama_cpp.llama_model_load_from_file(source.encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError(next(iter(library.LOG.errors()), "the file cannot be loaded"))
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = WINDOW_TOKENS
    params.n_threads = params.n_threads_batch = library.threads(threads)
    params.cb_eval = llama_cpp.ggml_backend_sched_eval_callback(found.heard)
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise RuntimeError(library.LOG.last_error() or "no context can be made")
    for window in windows(llama_cpp.llama_model_get_vocab(model)):
        with_data = True
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), with_data)
        tokens = (llama_cpp.llama_token * len(window))(*window)
        code = llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(tokens, len(window)))
        if found.error or code:
            raise RuntimeError(str(found.error or library.LOG.last_error() or f"llama_decode returned {code}"))
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return found.means()


def main() -> int:
    """Collect and write; errors go to stderr."""
    try:
        found = collect(sys.argv[1], int(sys.argv[3]))
    except RuntimeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    with Path(sys.argv[2]).open("wb") as file:
        np.savez(file, allow_pickle=False, **found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
