# SPDX-License-Identifier: Apache-2.0
"""A reference's full-vocabulary distributions on disk, compact enough to keep and exact enough to compare with.

A probability p is stored as the 16-bit code round(65535 * p^(1/4)). In log-probability that is a step of
4 / 65535 * p^(-1/4): 6e-5 nats at p = 1, 7e-4 at p = e^-10, so the error is small exactly where KL divergence puts
its weight. Rows are renormalised on reading. `divergence` measures the error where the reference is written.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from bench.processes import is_unfinished, left_behind, put, unfinished

Floats = NDArray[np.float32]
POWER = 4
CODES = 65535
CACHE_LIMIT_BYTES = 8 * 1024**3
"""When the folder grows beyond this, the oldest references go, and anchors last: 17 anchors of the standard profile
at 49,152 tokens of vocabulary (451 MB each), 3 at 262,144. Those of the run itself always stay."""


def encode(log_probs: Floats) -> NDArray[np.uint16]:
    """Codes of log-probabilities (nats)."""
    codes: NDArray[np.uint16] = np.rint(np.exp(log_probs / POWER) * CODES).astype(np.uint16)
    return codes


def decode(codes: NDArray[np.uint16]) -> Floats:
    """Log-probabilities (nats) of codes along the last axis, renormalised; code 0 stands for half a step."""
    table = POWER * np.log(np.maximum(np.arange(CODES + 1), 0.5) / CODES)
    log_probs: Floats = table.astype(np.float32)[codes]
    log_probs -= np.log(np.exp(log_probs).sum(axis=-1, keepdims=True))
    return log_probs


def kl_divergence(reference: Floats, other: Floats) -> Floats:
    """KL(reference || other) in nats along the last axis of two arrays of log-probabilities."""
    result: Floats = (np.exp(reference) * (reference - other)).sum(axis=-1)
    return result


def negative_log_likelihood(log_probs: Floats, tokens: Sequence[int]) -> Floats:
    """Nats of each next token: row i of `log_probs` predicts tokens[i + 1]."""
    result: Floats = -np.take_along_axis(log_probs, np.asarray(tokens)[1:, None], axis=-1)[:, 0]
    return result


class Writer:
    """Writes one reference file, whole or not at all: a folder `NAME` with codes, top-1, likelihoods and tokens.

    `about` is kept beside them; references in `keep` are not deleted to make room. Raises OSError when the disk is
    too full, before anything is computed.
    """

    def __init__(
        self,
        path: Path,
        windows: Sequence[Sequence[int]],
        vocabulary: int,
        *,
        about: Mapping[str, object] = MappingProxyType({}),
        keep: Collection[Path] = (),
    ) -> None:
        self.path, self.windows, self.about, self.keep = path, windows, about, keep
        self.part = unfinished(path)
        self.part.mkdir(parents=True, exist_ok=True)
        rows = sum(len(window) - 1 for window in windows)
        codes = self.part / "codes.npy"
        try:
            self.codes = np.lib.format.open_memmap(codes, mode="w+", dtype=np.uint16, shape=(rows, vocabulary))
            reserve(codes)
        except OSError:
            remove(self.part)
            raise
        self.row = 0
        self.top1: list[NDArray[np.int64]] = []
        self.nll: list[Floats] = []
        self.texts: Sequence[str] = ()
        """Of each window, where somebody who reads text alone is to be compared; kept if there are any."""
        self.error: list[float] = []
        """Mean |KL(exact || stored)| of each window, nats: what storing costs."""

    def __enter__(self) -> Self:
        return self

    def add(self, log_probs: Floats) -> Floats:
        """Store the next window's distributions; returns them as they will be read back."""
        window = self.windows[len(self.nll)]
        codes = encode(log_probs)
        self.codes[self.row : self.row + len(codes)] = codes
        self.row += len(codes)
        self.top1.append(log_probs.argmax(axis=-1))
        self.nll.append(negative_log_likelihood(log_probs, window))
        stored = decode(codes)
        self.error.append(float(abs(kl_divergence(log_probs, stored)).mean()))
        return stored

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.codes.flush()
            top1, nll = np.concatenate(self.top1), np.concatenate(self.nll)
            np.savez(self.part / "exact.npz", top1=top1, nll=nll, error=np.array(self.error))
            written = self.windows[: len(self.nll)]  # a budget may end before the last; the rest of the codes is empty
            (self.part / "tokens.json").write_text(json.dumps([list(w) for w in written]))
            if self.texts:
                (self.part / "texts.json").write_text(json.dumps(list(self.texts[: len(written)])))
            (self.part / "about.json").write_text(json.dumps(dict(self.about)))
            replace(self.path, self.part)
            prune(self.path.parent, self.path, *self.keep)
        else:
            remove(self.part)


class Reader:
    """Reads one reference file: as many of the windows asked for as it holds, from the first on.

    Raises ValueError when it was written for other tokens.
    """

    def __init__(self, path: Path, windows: Sequence[Sequence[int]]) -> None:
        written = json.loads((path / "tokens.json").read_text())
        windows = windows[: len(written)]
        if not windows or written[: len(windows)] != [list(w) for w in windows]:
            raise ValueError(f"reference {path.name} was written for other tokens")
        self.path, self.windows = path, windows
        self.codes: NDArray[np.uint16] = np.load(path / "codes.npy", mmap_mode="r")
        exact = np.load(path / "exact.npz")
        self._top1, self._nll = exact["top1"], exact["nll"]
        self.error_nat = float(exact["error"].mean())
        """Mean |KL(exact || stored)| over the windows: distances of less than a hundred times that are blurred."""
        self.ends = np.cumsum([0, *(len(window) - 1 for window in windows)])

    @property
    def about(self) -> dict[str, object]:
        """What its writer said of it."""
        told: dict[str, object] = json.loads((self.path / "about.json").read_text())
        return told

    def _rows(self, index: int) -> slice:
        return slice(int(self.ends[index]), int(self.ends[index + 1]))

    def log_probs(self, index: int) -> Floats:
        """Log-probabilities of window `index`, shape (tokens - 1, vocabulary)."""
        return decode(np.asarray(self.codes[self._rows(index)]))

    def kl_divergence(self, index: int, log_probs: Floats) -> Floats:
        """KL(stored || log_probs) of window `index` in nats; exactly 0 where these would be stored the same."""
        rows, window = self._rows(index), self.windows[index]
        if np.array_equal(negative_log_likelihood(log_probs, window), self._nll[rows]) and np.array_equal(
            encode(log_probs), self.codes[rows]
        ):
            return np.zeros(len(log_probs), dtype=np.float32)
        return kl_divergence(self.log_probs(index), log_probs)

    def top1(self, index: int) -> NDArray[np.int64]:
        """Most probable token at each position of window `index`."""
        result: NDArray[np.int64] = self._top1[self._rows(index)]
        return result

    def nll(self, index: int) -> Floats:
        """Exact negative log-likelihood of each next token of window `index`, nats."""
        result: Floats = self._nll[self._rows(index)]
        return result


def read_texts(path: Path) -> list[tuple[str, Floats]]:
    """Each window's text and the negative log-likelihoods (nats) of its tokens after the first.

    Empty where the reference has kept no texts: older ones have none.
    """
    try:
        texts: list[str] = json.loads((path / "texts.json").read_text())
    except FileNotFoundError:
        return []
    reader = Reader(path, json.loads((path / "tokens.json").read_text()))
    return [(text, reader.nll(index)) for index, text in enumerate(texts)]


def replace(path: Path, part: Path) -> None:
    """Put a finished reference where another may lie, which goes at once and whole: nobody reads half of it.

    Two processes may do so together. The name holds the cell, the versions and the weights, so whoever comes second
    keeps what the first has put there.
    """
    old = unfinished(path.with_name(f"{path.name}-old"))
    with contextlib.suppress(FileNotFoundError):
        path.rename(old)
    put(part, path)
    remove(old)


def remove(path: Path) -> None:
    """Delete a reference, or what is left of one."""
    shutil.rmtree(path, ignore_errors=True)


def reserve(path: Path) -> None:
    """Take a file's blocks from the disk now: a full disk is an OSError here and a SIGBUS in a memory map later."""
    if hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)


def prune(folder: Path, *keep: Path, limit_bytes: int = CACHE_LIMIT_BYTES) -> None:
    """Delete the oldest references, anchors last, until the folder is within its limit; never `keep` nor a live part.

    Anchors go last because another engine's session, hours later, has nothing else to be compared with.
    """
    sizes = {p: _size(p) for p in folder.iterdir() if p.is_dir() and not being_written(p)}
    for path in sorted(sizes, key=lambda p: (p.name.startswith("anchor-"), _changed(p))):
        if sum(sizes.values()) > limit_bytes and path not in keep:
            remove(path)
            del sizes[path]


def _size(folder: Path) -> int:
    with contextlib.suppress(FileNotFoundError):  # another process prunes too
        return sum(file.stat().st_size for file in folder.iterdir())
    return 0


def _changed(folder: Path) -> float:
    with contextlib.suppress(FileNotFoundError):
        return folder.stat().st_mtime
    return 0.0


def being_written(path: Path) -> bool:
    """Whether this is the unfinished folder of a process that may still run."""
    return is_unfinished(path) and not left_behind(path)
