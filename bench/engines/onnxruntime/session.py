# SPDX-License-Identifier: Apache-2.0
"""How a file is opened: each choice by name, and the library's ways of running out of memory."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import onnxruntime as ort
import psutil

from bench.engines.contract import DoesNotFit
from bench.instruments.memory import ProcessMemory

NO_MEMORY = re.compile(r"bad.?alloc|failed to allocate|not enough memory", re.IGNORECASE)
ERRORS_ALONE = 3


def cores() -> int:
    """Threads of the library's own choice: one a core."""
    return psutil.cpu_count(logical=False) or psutil.cpu_count() or 1


def opened(path: Path, threads: int | None, *, widened: bool = False) -> Any:
    """A session on the CPU.

    Buffers are not planned once a shape (`enable_mem_pattern`): every step has a shape of its own. `widened`: weights
    are taken to float32 once, while the file is opened, where the library would do so at every pass.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads or cores(), 1
    options.enable_mem_pattern = False
    options.log_severity_level = ERRORS_ALONE
    if widened:
        options.add_session_config_entry("session.disable_quant_qdq", "1")
    with fits("load"):
        return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


@contextmanager
def fits(phase: str) -> Iterator[None]:
    """Turn ONNX Runtime's ways of running out of memory into DoesNotFit."""
    try:
        yield
    except MemoryError as error:
        raise DoesNotFit(phase) from error
    except Exception as error:
        if not NO_MEMORY.search(str(error)):
            raise
        raise DoesNotFit(phase, None, ProcessMemory().capacity_bytes()) from error
