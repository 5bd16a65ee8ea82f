# SPDX-License-Identifier: Apache-2.0
"""GGUF models through llama.cpp, in the types that its own quantizer makes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from types import MappingProxyType

from bench.catalog.config import Config
from bench.catalog.local_model import Format
from bench.catalog.model import Model
from bench.engines.abilities import ROWS
from bench.engines.contract import Backend, Engine, Footprint, LoadRequest, Unsupported
from bench.engines.llamacpp import gguf_layout
from bench.engines.llamacpp.quantizer import MATRIX
from bench.instruments import Instruments
from bench.records.cell import Cell, Precision, Scheme, Weights
from bench.records.record import Provenance
from bench.records.surroundings import Machine

FALLBACK = "rows that are no multiple of 256 fall back to blocks of 32"
NO_MATRIX = "made without an importance matrix"
WITH_MATRIX = "made with an importance matrix of this project's calibration text"


def _scheme(kind: str, precision: Precision, bits: float, method: str) -> Scheme:
    """A type of llama.cpp's quantizer whose `bits` count all that its layers hold."""
    return Scheme(name=f"gguf-{kind}", precision=precision, bits=bits, method=method)


def _blocks(kind: str, precision: Precision, bits: float, method: str) -> Scheme:
    """The same in blocks of 32 with a float16 scale, which comes on top of `bits`."""
    return Scheme(
        name=f"gguf-{kind}", precision=precision, bits=bits, group=32, group_bytes=2, method=f"{kind.upper()}: {method}"
    )


def _scheme_with_matrix(scheme: Scheme) -> Scheme:
    method = scheme.method.replace(f"; {NO_MATRIX}", "")
    return scheme.model_copy(update={"name": f"{scheme.name}{MATRIX}", "method": f"{method}; {WITH_MATRIX}"})


INT8, INT4 = Precision.INT8, Precision.INT4
PLAIN_SCHEMES = (
    Scheme(name="gguf-f32", precision=Precision.FP32, bits=32, other_bytes=4, method="float32; cache float16"),
    Scheme(name="gguf-f16", precision=Precision.FP16, bits=16, method="float16, norms and biases float32"),
    _blocks("q8_0", INT8, 8, "blocks of 32 with a float16 scale, embeddings and head too"),
    # 6.56 in Q6_K itself, up to 8 where small models fall back to Q8_0
    _scheme("q6_k", INT8, 7, f"Q6_K: 6.56 bits a weight in blocks of 256; {FALLBACK} (Q8_0)"),
    # 4.5 in Q4_K, some layers Q6_K: 4.8 for 7B, up to 5.9 where small models fall back to Q5_0 and Q8_0
    _scheme(
        "q4_k_m", INT4, 5, f"Q4_K_M: Q4_K with Q6_K in some value and down projections and the head; {FALLBACK}"
    ),
    # 5.5 in Q5_K, some layers Q6_K: 5.7 for 7B, more where small models fall back to Q5_1 and Q8_0
    _scheme(
        "q5_k_m", INT4, 6,
        f"Q5_K_M: Q5_K, some value and down projections and the head Q6_K; {NO_MATRIX}; {FALLBACK}",
    ),
    # 4.5 in Q4_K, few layers Q5_K: 4.6 for 7B, 5.5 in Q5_0
    _scheme("q4_k_s", INT4, 5, f"Q4_K_S: Q4_K, the first value and down projections Q5_K; {NO_MATRIX}; {FALLBACK}"),
    # 3.4 in Q3_K, a third of it Q4_K: 3.9 for 7B, 4.5 in Q4_0
    _scheme(
        "q3_k_m", INT4, 4, f"Q3_K_M: Q3_K, value, down and attention output projections wider; {NO_MATRIX}; {FALLBACK}"
    ),
    _blocks("iq4_nl", INT4, 4, f"16 unevenly spaced values, blocks of 32 with a float16 scale; {NO_MATRIX}"),
    _scheme(
        "iq4_xs", INT4, 4.25, f"IQ4_XS: 16 unevenly spaced values, 4.25 bits in blocks of 256; {NO_MATRIX}; {FALLBACK}"
    ),
    _blocks("q4_0", INT4, 4, "blocks of 32 with a float16 scale; the head Q6_K or Q8_0"),
    # 4.25 in the experts, the rest 8.5
    _scheme("mxfp4", INT4, 4.5, "MXFP4: a mixture's experts in 4-bit floats, blocks of 32 with a scale; the rest Q8_0"),
    # 5 with both scales
    _blocks("q4_1", INT4, 4.5, "blocks of 32 with a float16 scale and minimum; the head Q6_K or Q8_0"),
)  # fmt: skip
SCHEMES = (
    *PLAIN_SCHEMES,
    *(_scheme_with_matrix(scheme) for scheme in PLAIN_SCHEMES if scheme.name in gguf_layout.WITH_MATRIX),
)
DEFAULTS = {
    Precision.FP32: "gguf-f32",
    Precision.FP16: "gguf-f16",
    Precision.INT8: "gguf-q8_0",
    Precision.INT4: "gguf-q4_k_m",
}
BUILDS = {"cuda": "-DGGML_CUDA=on", "mps": "-DGGML_METAL=on"}
"""How llama-cpp-python is built for a device: at its installation, by CMAKE_ARGS."""


def footprint(
    config: Config, scheme: Scheme, prompt: int, decode: int, settings: Mapping[str, object] = MappingProxyType({})
) -> Footprint:
    """Bytes of a cell, tensor by tensor."""
    return gguf_layout.footprint(config, scheme.name, prompt, decode, settings)


def refuses(model: Model, weights: Weights) -> str | None:
    """Why this model can never be loaded from that source."""
    from bench.engines.llamacpp import locate

    return locate.refuses(model, weights)


def refuses_kv(model: Model, kv: str) -> str | None:
    """Why keys and values of this model cannot be kept so, None if they can."""
    return gguf_layout.refuses_kv(model.architecture, kv)


def attention(machine: Machine, kv: str | None) -> str:
    """`flash` or `plain`: the faster of the two on this device, once a run has tried them; flash for quantized values.

    Plain attention cannot read these.
    """
    from bench.engines.llamacpp import attending as ways

    return ways.FLASH if kv and kv.rpartition("/")[2] != "fp16" else ways.chosen(machine)


def try_attention(machine: Machine) -> str:
    """Time both ways on this device, keep the faster, and say which it is."""
    from bench.engines.llamacpp import attending

    return attending.try_ways(machine)


def load(request: LoadRequest) -> Engine:
    """Load with llama.cpp."""
    from bench.engines.llamacpp.engine import LlamaEngine

    return LlamaEngine(request)


def command(model: Model, provenance: Provenance, cell: Cell) -> str | None:
    """llama.cpp's own program, where the file that was measured still lies."""
    from bench.engines.llamacpp import locate

    return locate.command(model, provenance, cell)


def serve(model: Model, provenance: Provenance, cell: Cell) -> str | None:
    """llama.cpp's own server, where the file that was measured still lies."""
    from bench.engines.llamacpp import locate

    return locate.serve(model, provenance, cell)


def prepare(request: LoadRequest) -> None:
    """Find, make or write the file, open the library, and see whether its kernels run here."""
    from bench.engines.llamacpp import library, locate

    locate.locate(request)
    library.open_library()
    if request.device == "cpu":
        library.repacking_works()
    _require_device(request.device)
    importlib.import_module("bench.engines.llamacpp.engine")  # its libraries belong to the memory baseline


def _require_device(device: str) -> None:
    import llama_cpp

    if device != "cpu" and not llama_cpp.llama_supports_gpu_offload():
        raise Unsupported(
            f"this llama-cpp-python was built for the CPU alone; for {device}: "
            f'CMAKE_ARGS="{BUILDS[device]}" pip install --force-reinstall --no-cache-dir --no-binary :all: '
            "--no-deps llama-cpp-python==0.3.36"
        )


def instruments(device: str) -> Instruments:
    """The host's clock (every call returns when the device is done) and the device's memory.

    Apple's GPU shares the host's memory, so the process's own is the figure there.
    """
    from bench.instruments.clock import HostClock
    from bench.instruments.memory import ProcessMemory
    from bench.instruments.nvml import NvmlMemory

    return Instruments(HostClock(), NvmlMemory() if device == "cuda" else ProcessMemory())


BACKEND = Backend(
    name="llamacpp",
    summary="GGUF models through llama.cpp",
    schemes=SCHEMES,
    defaults=dict.fromkeys(("cpu", "cuda", "mps"), DEFAULTS),
    requires=("llama_cpp_python", "lm_eval", "gguf"),
    versions=("numpy", "datasets"),
    attention=attention,
    try_attention=try_attention,
    refuses_kv=refuses_kv,
    install='pip install -e ".[llamacpp]" (needs a C++ compiler; ten minutes)',
    load=load,
    prepare=prepare,
    instruments=instruments,
    footprint=footprint,
    refuses=refuses,
    reads=Format.GGUF,
    builds_random=True,
    command=command,
    serve=serve,
    answers=ROWS,
)
