# SPDX-License-Identifier: Apache-2.0
"""What test_backends.py must know of each backend; a new one is one more entry in CONTENDERS.

An entry says how the backend gets the tiny llama of tiny_llama.py, how exact each precision must be, how many bytes
it must count, and how to make its library run out of memory, meet a stranger, and find a broken file.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_llama
from numpy.typing import NDArray

from bench.catalog.model import Model
from bench.engines.contract import LoadRequest
from bench.engines.registry import backend, backend_names
from bench.instruments import machine
from bench.plan import predict
from bench.records.cell import Precision, Scheme, Weights

FP32, FP16, INT8, INT4 = Precision.FP32, Precision.FP16, Precision.INT8, Precision.INT4
GGUF_QUANTIZED = (
    "gguf-q8_0", "gguf-q6_k", "gguf-q5_k_m", "gguf-q4_k_m", "gguf-q4_k_s", "gguf-q4_0", "gguf-q4_1", "gguf-q3_k_m",
    "gguf-iq4_nl", "gguf-iq4_xs", "gguf-q4_k_m-imatrix", "gguf-q3_k_m-imatrix", "gguf-iq4_nl-imatrix",
    "gguf-iq4_xs-imatrix",
)  # fmt: skip
Patch = pytest.MonkeyPatch
SOURCE = Path(__file__).resolve().parent


@dataclass(frozen=True, kw_only=True)
class Contender:
    """One backend and its tiny model."""

    backend: str
    tolerance: Mapping[Precision, float]
    """Nats that the log-probability of a text's token may be off on average, for each precision it has on a CPU."""
    noise: Mapping[Precision, float]
    """Nats by which one engine may differ from itself when the same tokens come in another shape (batch, cache)."""
    rounding: Mapping[str, float]
    """For each scheme that does not look at the whole pass, the mean KL in nats by which the rounding of its type may
    move the tiny model when the same tokens come in a pass of another shape: beside or before others, one by one."""
    write: Callable[[Path], Path]
    """Put the model into an empty folder; returns the path to load."""
    write_loud: Callable[[Path], Path]
    """The same for the tiny model with outliers, `tiny_llama.loud`."""
    reference: Callable[[Sequence[int], Scheme], NDArray[np.float32]]
    """What `log_probs` must give, computed by another way than the engine's."""
    encode: Callable[[str], list[int]]
    """Tokens that an ASCII text must have."""
    stored_bytes: Callable[[Path, Scheme], int]
    """Bytes that the census must find, from the file or the architecture."""
    starve: Callable[[LoadRequest, Patch], None]
    """Make the library's own way of running out of memory happen at the next load."""
    stranger: Callable[[LoadRequest, Path, Patch], LoadRequest]
    """A request for an architecture that the library does not know."""
    broken: Callable[[LoadRequest, Path, Patch], LoadRequest]
    """A request for weights that are damaged: half a file."""
    stored: Collection[str] = ()
    """Schemes of what the tiny model is not, stored so by others or a mixture: they have tests of their own."""
    closing: str | None = tiny_llama.CLOSING
    """A text after which the model itself ends; None if it never does."""
    left_bytes: int = 0
    left_threads: int = 0
    """What its library itself keeps of every model that was loaded, run and closed, in a bare loop too."""
    files: bool = True
    """Whether it reads files, so that a broken one is the user's to mend."""

    def lacks(self) -> str:
        """Why it cannot be tried here, empty if it can."""
        if self.backend not in backend_names():
            return f"there is no backend {self.backend}"
        missing = backend(self.backend).missing()
        return f"{self.backend} lacks {', '.join(missing)}: {backend(self.backend).install}" if missing else ""

    def scheme(self, precision: Precision) -> Scheme:
        """The scheme of a precision on a CPU."""
        found = backend(self.backend).default_scheme(precision, "cpu")
        assert found is not None
        return found

    def request(self, path: Path, precision: Precision, **changes: Any) -> LoadRequest:
        """A request for the model at `path`."""
        model = Model(name="tiny", display="tiny", family="own", organisation="-", kind="open weights", repo="own/tiny")
        asked = LoadRequest(
            model=model, weights=Weights.LOCAL, scheme=self.scheme(precision), device="cpu", path=str(path), threads=1
        )
        return replace(asked, **changes)


def _fake_log_probs(tokens: Sequence[int], scheme: Scheme) -> NDArray[np.float32]:
    """The closed form of the fake's docstring, in float64."""
    temperature = {FP32: 1.0, FP16: 1.0, INT8: 1.05, INT4: 1.25}[scheme.precision]
    z = -(37 * np.arange(257) % 251) / 40 / temperature
    return np.tile(z - np.log(np.exp(z).sum()), (len(tokens) - 1, 1)).astype(np.float32)


def _fault(kind: str) -> Callable[..., Any]:
    """Ask the fake for a fault while loading."""

    def ask(request: LoadRequest, *rest: Any) -> LoadRequest:
        rest[-1].setenv("BENCH_FAKE_FAULT", f"{kind}@load")
        return request

    return ask


def _checkpoint(folder: Path) -> Path:
    return tiny_llama.write_checkpoint(folder / "tiny")


def _llama_log_probs(tokens: Sequence[int], scheme: Scheme) -> NDArray[np.float32]:
    return tiny_llama.log_probs(tokens)


def _torch_bytes(path: Path, scheme: Scheme) -> int:
    stored = backend("transformers").adapt(scheme, machine.describe("cpu"))
    return predict.weights_bytes(tiny_llama.config(), stored)


def _torch_starves(request: LoadRequest, patch: Patch) -> None:
    """The CPU allocator's own words, at the call that would have said them."""
    from transformers import PreTrainedModel

    def refuse(*args: Any, **options: Any) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 123456 bytes.")

    patch.setattr(PreTrainedModel, "from_pretrained", refuse)


def _copied(request: LoadRequest, folder: Path) -> Path:
    """The request's folder or file, copied where it may be damaged."""
    source = Path(str(request.path))
    copy = folder / source.name
    shutil.copytree(source, copy) if source.is_dir() else shutil.copy(source, copy)
    return copy


def _unknown_config(request: LoadRequest, folder: Path, patch: Patch) -> LoadRequest:
    copy = _copied(request, folder)
    (copy / "config.json").write_text('{"model_type": "vit"}')
    return replace(request, path=str(copy))


def _half_checkpoint(request: LoadRequest, folder: Path, patch: Patch) -> LoadRequest:
    copy = _copied(request, folder)
    file = copy / "model.safetensors"
    os.truncate(file, file.stat().st_size // 2)
    return replace(request, path=str(copy))


def _gguf(folder: Path) -> Path:
    return tiny_llama.write_gguf(folder / "tiny.gguf")


def _gguf_bytes(path: Path, scheme: Scheme) -> int:
    """Bytes of all tensors of the file that the scheme was made into: the only one of its width in the cache."""
    from gguf import GGUFReader

    made = [path, *Path(os.environ["BENCH_CACHE"]).rglob("*.gguf")]
    sizes = {sum(int(t.n_bytes) for t in GGUFReader(file).tensors) for file in made}
    parameters = sum(int(value.size) for value in tiny_llama.weights().values())
    return min(sizes, key=lambda size: abs(8 * size / parameters - scheme.bits))


def _llama_starves(request: LoadRequest, patch: Patch) -> None:
    """A machine without memory."""
    patch.setattr("bench.instruments.memory.ProcessMemory.capacity_bytes", lambda self: 1)


def _unknown_gguf(request: LoadRequest, folder: Path, patch: Patch) -> LoadRequest:
    return replace(request, path=str(tiny_llama.write_gguf(folder / "stranger.gguf", architecture="nonsense")))


def _half_gguf(request: LoadRequest, folder: Path, patch: Patch) -> LoadRequest:
    copy = _copied(request, folder)
    os.truncate(copy, copy.stat().st_size // 2)
    return replace(request, path=str(copy))


def _ir_bytes(path: Path, scheme: Scheme) -> int:
    """Bytes of the weight file that the scheme was exported into: every constant once, and nothing else."""
    name = {"ov-bf16": "ov-fp16"}.get(scheme.name, scheme.name)
    sizes = {p.stat().st_size for p in Path(os.environ["BENCH_CACHE"]).rglob(f"*-{name}/openvino_model.bin")}
    (size,) = sizes
    return size


def _onnx_bytes(path: Path, scheme: Scheme) -> int:
    """Bytes of all tensors of the file that the scheme was made into, as onnx reads them."""
    import onnx
    from onnx import numpy_helper

    def counted(file: Path) -> int:
        graph = onnx.load(file).graph
        constants = [part.t for node in graph.node if node.op_type == "Constant" for part in node.attribute]
        return sum(int(numpy_helper.to_array(tensor).nbytes) for tensor in [*graph.initializer, *constants])

    name = {"ort-int4-acc1": "ort-int4-acc4"}.get(scheme.name, scheme.name)
    (size,) = {counted(file) for file in Path(os.environ["BENCH_CACHE"]).rglob(f"*-{name}/model.onnx")}
    return size


CONTENDERS = (
    Contender(
        backend="fake",
        tolerance={FP32: 1e-5, FP16: 1e-5, INT8: 1e-5, INT4: 1e-5},
        noise=dict.fromkeys((FP32, FP16, INT8, INT4), 1e-5),
        rounding=dict.fromkeys(("fake-fp32", "fake-fp16", "fake-int8", "fake-int4"), 0.0),
        write=lambda folder: folder / "no-file",
        write_loud=lambda folder: folder / "no-file",
        reference=_fake_log_probs,
        encode=lambda text: list(text.encode()),
        stored_bytes=lambda path, scheme: {FP32: 34_000_000, FP16: 18_000_000, INT8: 10_000_000, INT4: 6_000_000}[
            scheme.precision
        ],
        starve=_fault("memory"),
        stranger=_fault("unsupported"),
        broken=_fault("error"),
        closing=None,
        files=False,
    ),
    Contender(
        backend="transformers",
        tolerance={FP32: 1e-4, FP16: 0.07, INT8: 0.2, INT4: 1.2},
        noise={FP32: 1e-3, FP16: 0.4, INT8: 0.4, INT4: 0.4},  # bfloat16 has eight bits
        rounding={"fp32": 1e-6, "fp16": 1e-4}
        | dict.fromkeys(("bf16", "native16", "bnb-nf4", "torchao-int8"), 1e-3),  # NF4 beside bfloat16
        write=_checkpoint,
        write_loud=lambda folder: tiny_llama.write_checkpoint(folder / "loud", tiny_llama.loud()),
        reference=_llama_log_probs,
        encode=tiny_llama.encode,
        stored_bytes=_torch_bytes,
        starve=_torch_starves,
        stranger=_unknown_config,
        broken=_half_checkpoint,
        stored=("awq-int4", "ct-w4a16", "ct-w8a16", "ct-w8a8"),
    ),
    Contender(
        backend="llamacpp",
        tolerance={FP32: 0.01, FP16: 0.01, INT8: 0.1, INT4: 1.2},  # the cache of keys and values is float16
        noise={FP32: 0.05, FP16: 0.05, INT8: 0.4, INT4: 0.4},  # activations are quantized beside quantized weights
        rounding={"gguf-f32": 1e-5, "gguf-f16": 1e-5}  # keys and values are float16
        | dict.fromkeys(GGUF_QUANTIZED, 5e-3),  # 8-bit activations
        write=_gguf,
        write_loud=lambda folder: tiny_llama.write_gguf(folder / "loud.gguf", made=tiny_llama.loud()),
        reference=_llama_log_probs,
        encode=tiny_llama.encode,
        stored_bytes=_gguf_bytes,
        starve=_llama_starves,
        stranger=_unknown_gguf,
        broken=_half_gguf,
        stored=("gguf-mxfp4",),
    ),
    Contender(
        backend="openvino",
        left_bytes=1_300_000,  # 2026.4.1: 1.1 MB and a thread
        left_threads=1,
        tolerance={FP32: 1e-4, FP16: 0.01, INT8: 0.1, INT4: 1.2},  # the cache of keys and values is float16
        noise={FP32: 1e-3, FP16: 0.05, INT8: 0.4, INT4: 0.4},  # activations may be rounded beside quantized weights
        rounding={"ov-fp32": 1e-6, "ov-fp16": 1e-5, "ov-bf16": 1e-2, "ov-int8": 5e-3, "ov-int4": 5e-3},
        write=_checkpoint,
        write_loud=lambda folder: tiny_llama.write_checkpoint(folder / "loud", tiny_llama.loud()),
        reference=_llama_log_probs,
        encode=tiny_llama.encode,
        stored_bytes=_ir_bytes,
        starve=_llama_starves,
        stranger=_unknown_config,
        broken=_half_checkpoint,
    ),
    Contender(
        backend="onnxruntime",
        tolerance={FP32: 1e-4, FP16: 0.01, INT8: 0.2, INT4: 1.2},
        noise={FP32: 1e-3, FP16: 1e-3, INT8: 1.0, INT4: 0.4},  # activations are rounded, at int8 by the whole pass
        rounding={"ort-fp32": 1e-6, "ort-fp16": 1e-6, "ort-int4-acc4": 5e-3, "ort-int4-acc1": 1e-6},
        write=_checkpoint,
        write_loud=lambda folder: tiny_llama.write_checkpoint(folder / "loud", tiny_llama.loud()),
        reference=_llama_log_probs,
        encode=tiny_llama.encode,
        stored_bytes=_onnx_bytes,
        starve=_llama_starves,
        stranger=_unknown_config,
        broken=_half_checkpoint,
    ),
)
