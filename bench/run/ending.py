# SPDX-License-Identifier: Apache-2.0
"""What an exception in a worker means: a finding with its reason, or a fault of ours with its traceback."""

from __future__ import annotations

import errno
import os
import re
import signal
import subprocess
import traceback

from bench.engines.abilities import ProvesItself
from bench.engines.contract import DoesNotFit, Engine, NotFinite, Stopped, Unsupported
from bench.errors import UserError
from bench.instruments import container
from bench.records.cell import Scheme
from bench.records.record import Ending, Outcome
from bench.run.assemble import out_of_memory

GPU_FULL = re.compile(r"CUDA (?:driver )?error: out of memory|_STATUS_ALLOC_FAILED|hipErrorOutOfMemory")
"""How the driver and its libraries say that the card is full, where the framework does not say it by a class."""
GPU_BROKEN = re.compile(r"CUDA error|CUDA driver error|HIP error")
"""After such an error the driver refuses whatever this process asks next."""


def require_proof(engine: Engine, scheme: Scheme) -> None:
    """Refuse an engine that is not of its precision, or whose figures would mean nothing.

    Raises UnprovenPrecision, Unsupported.
    """
    census = engine.census()
    if wrong := census.contradiction(scheme):
        raise Unsupported(wrong) if census.because else UnprovenPrecision(wrong)
    if isinstance(engine, ProvesItself) and (refuted := engine.refuted()):
        raise Unsupported(refuted)


class UnprovenPrecision(Exception):
    """The census contradicts the precision that was asked for."""


def _memory(error: Exception, during: str, kills_before: int | None) -> DoesNotFit | None:
    """What ran out where an exception says that memory did, None where it says something else."""
    if isinstance(error, DoesNotFit | Stopped):  # what a server says is no news of this machine's memory
        return error if isinstance(error, DoesNotFit) else None
    if isinstance(error, MemoryError) or os.strerror(errno.ENOMEM) in str(error):
        return DoesNotFit(during)
    if GPU_FULL.search(str(error)):
        return DoesNotFit(f"{during}, on the GPU")
    killed = _killed_for_memory(error, kills_before)
    return DoesNotFit(f"{during}: the kernel killed what it had started") if killed else None


def _killed_for_memory(error: BaseException | None, kills_before: int | None) -> bool:
    """Whether a process that was started here, a converter say, died of SIGKILL while the kernel counted a kill."""
    while error is not None:
        if isinstance(error, subprocess.CalledProcessError) and error.returncode == -signal.SIGKILL:
            kills = container.oom_kills()
            return kills is not None and kills_before is not None and kills > kills_before
        error = error.__cause__
    return False


def poisons(outcome: Outcome) -> bool:
    """Whether nothing more can be measured in this process: the next cell needs a new one."""
    return outcome.ending is Ending.FAILED and GPU_BROKEN.search(outcome.reason) is not None


FULL = "the disk of the cache or of temporary files has no space left"
ROOM = "free space and files there (`bench cache --clear all`, df -i), or set BENCH_CACHE and TMPDIR"


def ending(error: Exception, during: str = "work", kills_before: int | None = None) -> Outcome:
    """How an exception ends a cell. A finding has a reason; a bug also keeps its traceback.

    `kills_before` is how often the kernel had killed for lack of memory as the worker began, None if it does not tell.
    """
    if (memory := _memory(error, during, kills_before)) is not None:
        return out_of_memory(memory)
    if isinstance(error, Stopped):
        return Outcome(ending=Ending.STOPPED, reason=str(error))
    if isinstance(error, Unsupported):
        return Outcome(ending=Ending.UNSUPPORTED, reason=str(error))
    full = any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT))
    if full or isinstance(error, UserError | NotFinite):
        return Outcome(ending=Ending.FAILED, reason=f"{FULL} during {during}; {ROOM}" if full else str(error))
    reason = " ".join(f"{type(error).__name__}: {error}".split())
    return Outcome(ending=Ending.FAILED, reason=reason[:300], detail=traceback.format_exc())
