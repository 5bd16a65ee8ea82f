# SPDX-License-Identifier: Apache-2.0
"""GPTQ by optimum, calibrated on this project's own text, and checkpoints that their makers quantized already.

A quantized checkpoint is made once by a process of its own (`gptq_make`) and cached whole or not at all; every load
then reads it as any other one. Records keep the provenance of the weights it was made from, because that is what the
16-bit row beside it was loaded from; what it was calibrated on is a warning that every record of it carries.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from dataclasses import replace

from bench.catalog.model import Objective
from bench.engines.contract import LoadRequest, Unsupported
from bench.engines.weights.files import Located, made_once
from bench.engines.weights.stored import BITSANDBYTES, COMPRESSED, stored_scheme
from bench.errors import UserError
from bench.instruments.distributions import is_installed
from bench.instruments.machine import installed
from bench.paths import ROOT, cache_folder
from bench.records.cell import digest
from bench.records.record import Caveat

BITS = {"gptq-int8": 8, "gptq-int4": 4}
STORED = ("gptq-int8", "gptq-int4", "awq-int4")
"""Schemes in which a checkpoint may come."""
LIBRARIES = ("optimum", "gptqmodel")
MAKERS = ("torch", "transformers", "tokenizers")
"""Others whose versions decide what is made."""
MAKING = 2
"""Raised when `gptq_make` makes something else of the same files."""
GROUPS = (128, 64)
"""Weights that share a scale: the first that divides the inputs of every layer."""
REMEDY = "run it in its own environment: `nox -s bench-gptq`"
PROBE = ROOT / "suites" / "data" / "probe"
TAILS = {"encyclopaedic": 30_000, "dialogue": 26_000, "instructions": 30_000, "code": 30_000}
"""Characters of each register of the probe text after which calibration begins.

Calibrating on the text that is scored would be cheating. Divergence scores windows from the beginning of each
register, about 16 of 256 tokens at the largest profile, which ends before these places for every tokenizer of up to
5 characters a token (the default model's makes 3.5 to 4.4 of these); a test holds the two to that.
"""
WINDOWS, WINDOW_TOKENS = 32, 256


def calibration_text() -> str:
    """The tails of the registers, a blank line between them."""
    return "\n\n".join((PROBE / f"{name}.txt").read_text(encoding="utf-8")[start:] for name, start in TAILS.items())


def calibration_sha256() -> str:
    """First 12 hexadecimal digits of its hash."""
    return hashlib.sha256(calibration_text().encode()).hexdigest()[:12]


def ready(located: Located, request: LoadRequest) -> Located:
    """The weights stored as the scheme needs them; they are quantized here first if the scheme is GPTQ.

    Raises Unsupported where the weights are stored in another scheme, UserError where the libraries are missing.
    """
    scheme, folder = request.scheme.name, located.folder
    if folder is None:
        if scheme in (*STORED, *COMPRESSED):
            raise Unsupported(f"{scheme} is made from real weights and text: there is nothing to calibrate here")
        return located
    stored = stored_scheme(folder)
    if stored == scheme:
        _require(scheme)
        return replace(located, provenance=located.provenance.model_copy(update={"stored_as": stored}))
    if stored is not None:
        known = stored in (*STORED, *BITSANDBYTES, *COMPRESSED)
        remedy = f"ask for --scheme {stored}" if known else "no scheme here is stored so"
        raise Unsupported(f"its weights are stored as {stored}: {remedy}")
    if scheme not in BITS:
        if scheme in (*STORED, *COMPRESSED):
            raise Unsupported(f"{scheme} loads checkpoints that are stored so; this one's weights are not quantized")
        return located
    if request.model.objective is not Objective.CAUSAL:
        raise Unsupported(f"optimum's GPTQ quantizes causal models, this one is {request.model.objective}")
    _require(scheme)
    target = cache_folder() / "weights" / f"{scheme}-{digest(_made_from(located, scheme))}"
    made_once(target, "gptq_make", [folder, str(BITS[scheme])])
    return Located(target, located.provenance)


def _made_from(located: Located, scheme: str) -> list[object]:
    """All that decides what is made: the files and, of a copy in the cache, the name that says how it was made."""
    assert located.folder is not None
    copy = located.folder.name if located.folder.parent == cache_folder() / "weights" else None
    versions = {name: importlib.metadata.version(name) for name in LIBRARIES} | installed(MAKERS)
    calibration = [calibration_sha256(), WINDOWS, WINDOW_TOKENS, GROUPS]
    return [located.provenance.files, copy, scheme, calibration, MAKING, versions]


def _require(scheme: str) -> None:
    for name in LIBRARIES if scheme in STORED else ():
        if not is_installed(name):
            raise UserError(f"{scheme} needs {name}", REMEDY)


def caveats(located: Located, request: LoadRequest) -> tuple[Caveat, ...]:
    """A caveat that names the calibration text, for the records of a checkpoint that was quantized here."""
    if request.scheme.name not in BITS or located.folder is None or located.folder.parent != cache_folder() / "weights":
        return ()
    return (calibrated("GPTQ was calibrated"),)


def calibrated(what: str) -> Caveat:
    """That something was made on the calibration text, which is named."""
    where = ", ".join(f"{name}[{start}:]" for name, start in TAILS.items())
    text = f"{WINDOWS} windows of {WINDOW_TOKENS} tokens of this project's probe text ({where}; sha256 "
    return Caveat(
        kind="calibrated",
        text=f"{what} on at most {text}{calibration_sha256()}), none of which is scored",
        advice="text of the same kind is scored: other text may lose more",
    )
