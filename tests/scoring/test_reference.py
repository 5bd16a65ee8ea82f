# SPDX-License-Identifier: Apache-2.0
"""A reference on disk: exact enough, whole or absent, for its own tokens only, and within its limit."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest
from builders import dead_process
from numpy.typing import NDArray

from bench.processes import place, unfinished
from bench.scoring.reference import (
    CODES,
    POWER,
    Reader,
    Writer,
    decode,
    encode,
    kl_divergence,
    negative_log_likelihood,
    prune,
    remove,
)

VOCABULARY = 1000
WINDOWS = [[1, 2, 3, 4], [5, 6, 7], [8, 9, 10, 11, 12]]


def log_softmax(logits: NDArray[np.float64]) -> NDArray[np.float32]:
    shifted = logits - logits.max(axis=-1, keepdims=True)
    result: NDArray[np.float32] = (shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))).astype(np.float32)
    return result


def distributions(scale: float, rows: int = 20, vocabulary: int = VOCABULARY) -> NDArray[np.float32]:
    """Random logits; the larger the scale, the more peaked."""
    return log_softmax(np.random.default_rng(0).normal(0, scale, (rows, vocabulary)))


SCALES = [0.1, 1.0, 3.0, 10.0, 40.0]


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("vocabulary", [257, 50_000])
def test_what_storing_costs_is_far_below_what_is_measured(scale: float, vocabulary: int) -> None:
    """KL between exact and stored distributions stays under 1e-6 nats a token, flat or peaked, both ways round."""
    exact = distributions(scale, vocabulary=vocabulary).astype(np.float64)
    exact -= np.log(np.exp(exact).sum(axis=-1, keepdims=True))
    stored = decode(encode(exact.astype(np.float32))).astype(np.float64)
    assert abs(kl_divergence(exact, stored)).max() < 1e-6  # type: ignore[arg-type]
    assert abs(kl_divergence(stored, exact)).max() < 1e-6  # type: ignore[arg-type]


@pytest.mark.parametrize("scale", SCALES)
def test_a_log_probability_is_off_by_half_a_step_at_most(scale: float) -> None:
    """The step is 4 / 65535 * p^(-1/4), as the module says; renormalising adds less than 1e-5."""
    exact = distributions(scale)
    likely = exact > -30
    error = abs(decode(encode(exact)) - exact)[likely]
    half_step = (POWER / CODES / 2 * np.exp(-exact / POWER))[likely]
    assert (error <= 1.1 * half_step + 1e-5).all()


def test_certainty_and_impossibility_survive() -> None:
    """P = 1 is stored exactly; p = 0 comes back finite and below e^-40."""
    exact = np.full((1, VOCABULARY), -np.inf, dtype=np.float32)
    exact[0, 7] = 0.0
    assert encode(exact).dtype == np.uint16
    stored = decode(encode(exact))
    assert stored[0, 7] == pytest.approx(0.0, abs=1e-6)
    assert np.isfinite(stored).all()
    assert np.delete(stored[0], 7).max() < -40


def test_the_same_distribution_has_no_divergence_and_another_the_known_one() -> None:
    """KL of (1/2, 1/2) from (1/4, 3/4) is ln 2 - ln 3 / 2, and not the other way round."""
    half = np.log(np.array([[0.5, 0.5]], dtype=np.float32))
    quarter = np.log(np.array([[0.25, 0.75]], dtype=np.float32))
    assert kl_divergence(half, half).tolist() == [0.0]
    assert kl_divergence(half, quarter)[0] == pytest.approx(np.log(2) - np.log(3) / 2, abs=1e-6)
    assert kl_divergence(quarter, half)[0] == pytest.approx(0.75 * np.log(3) - np.log(2), abs=1e-6)


def test_each_row_predicts_the_next_token() -> None:
    """Row i is read at token i + 1; the first token is predicted by nothing."""
    log_probs = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert negative_log_likelihood(log_probs, [3, 0, 2, 1]).tolist() == [0.0, -6.0, -9.0]


def write(path: Path, windows: list[list[int]] = WINDOWS) -> list[NDArray[np.float32]]:
    """Write a reference and return the exact distributions."""
    exact = [distributions(3.0, rows=len(window) - 1) + 0 for window in windows]
    with Writer(path, windows, VOCABULARY) as writer:
        for log_probs in exact:
            writer.add(log_probs)
    return exact


def test_every_window_comes_back(tmp_path: Path) -> None:
    """Distributions as stored, likelihoods and top-1 exactly, for windows of different lengths."""
    exact = write(tmp_path / "ref")
    reader = Reader(tmp_path / "ref", WINDOWS)
    for index, (window, log_probs) in enumerate(zip(WINDOWS, exact, strict=True)):
        assert np.array_equal(reader.log_probs(index), decode(encode(log_probs)))
        assert reader.top1(index).tolist() == log_probs.argmax(axis=-1).tolist()
        assert reader.nll(index).tolist() == negative_log_likelihood(log_probs, window).tolist()


def test_adding_returns_what_will_be_read(tmp_path: Path) -> None:
    """So that the error of storing can be measured where it is made."""
    exact = distributions(3.0, rows=3)
    with Writer(tmp_path / "ref", WINDOWS[:1], VOCABULARY) as writer:
        stored = writer.add(exact)
    assert np.array_equal(Reader(tmp_path / "ref", WINDOWS[:1]).log_probs(0), stored)


def test_a_reference_for_other_tokens_is_refused(tmp_path: Path) -> None:
    """One token more, less or different in a window that both have, and nothing is compared."""
    write(tmp_path / "ref")
    for other in ([[1, 2, 3, 5], *WINDOWS[1:]], [[*WINDOWS[0], 1]], [WINDOWS[0][:-1]], []):
        with pytest.raises(ValueError, match="reference ref was written for other tokens"):
            Reader(tmp_path / "ref", other)


def test_fewer_windows_are_compared_as_far_as_both_go(tmp_path: Path) -> None:
    """A budget ended before the last window was written, or before the last was asked for."""
    exact = distributions(3.0, rows=sum(len(window) - 1 for window in WINDOWS[:2]))
    with Writer(tmp_path / "ref", WINDOWS, VOCABULARY) as writer:
        writer.add(exact[: len(WINDOWS[0]) - 1])
        writer.add(exact[len(WINDOWS[0]) - 1 :])
    assert len(Reader(tmp_path / "ref", WINDOWS).windows) == 2
    assert len(Reader(tmp_path / "ref", WINDOWS[:1]).windows) == 1
    assert Reader(tmp_path / "ref", WINDOWS).top1(1).tolist() == exact[len(WINDOWS[0]) - 1 :].argmax(axis=-1).tolist()


def test_an_interrupted_reference_leaves_nothing(tmp_path: Path) -> None:
    """An exception in the middle removes the part, and an older reference stays as it was."""
    exact = write(tmp_path / "ref")

    def interrupted() -> None:
        with Writer(tmp_path / "ref", WINDOWS, VOCABULARY) as writer:
            writer.add(distributions(1.0, rows=3))
            assert len(list(tmp_path.iterdir())) == 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [path.name for path in tmp_path.iterdir()] == ["ref"]
    assert np.array_equal(Reader(tmp_path / "ref", WINDOWS).log_probs(0), decode(encode(exact[0])))


def test_a_reference_has_its_name_only_when_it_is_whole(tmp_path: Path) -> None:
    """No other process can read half of it."""
    with Writer(tmp_path / "ref", WINDOWS[:1], VOCABULARY) as writer:
        writer.add(distributions(1.0, rows=3))
        assert not (tmp_path / "ref").exists()
    assert (tmp_path / "ref").is_dir()


def reference_of(folder: Path, name: str, size: int, age: int) -> Path:
    """A folder of so many bytes, last changed so many seconds before a fixed moment."""
    path = folder / name
    path.mkdir()
    (path / "codes.npy").write_bytes(bytes(size))
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def test_the_oldest_references_go_when_the_folder_is_too_large(tmp_path: Path) -> None:
    """As few as needed, by age and not by name, and never the one just written."""
    for name, age in (("a", 1), ("b", 3), ("c", 2)):
        reference_of(tmp_path, name, 100, age)
    keep = reference_of(tmp_path, "keep", 100, 9)
    prune(tmp_path, keep, limit_bytes=400)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c", "keep"}
    prune(tmp_path, keep, limit_bytes=399)
    assert {path.name for path in tmp_path.iterdir()} == {"a", "c", "keep"}
    prune(tmp_path, keep, limit_bytes=50)
    assert {path.name for path in tmp_path.iterdir()} == {"keep"}


def test_a_reference_being_written_by_another_process_is_not_pruned(tmp_path: Path) -> None:
    """Its folder may be the oldest, and its memory map is in use."""
    part = reference_of(tmp_path, unfinished(Path("other")).name, 100, 9)
    keep = reference_of(tmp_path, "keep", 100, 1)
    prune(tmp_path, keep, limit_bytes=150)
    assert part.is_dir()


def test_anchors_go_last(tmp_path: Path) -> None:
    """An older anchor outlives a newer reference: another engine's session has nothing else to compare with."""
    reference_of(tmp_path, "anchor-old", 100, 9)
    reference_of(tmp_path, "anchor-new", 100, 8)
    reference_of(tmp_path, "newer", 100, 2)
    keep = reference_of(tmp_path, "newest", 100, 1)
    prune(tmp_path, keep, limit_bytes=300)
    assert {path.name for path in tmp_path.iterdir()} == {"anchor-old", "anchor-new", "newest"}
    prune(tmp_path, keep, limit_bytes=200)
    assert {path.name for path in tmp_path.iterdir()} == {"anchor-new", "newest"}


def test_everything_that_a_run_needs_is_kept(tmp_path: Path) -> None:
    """Its reference and its anchor together, even where both are larger than the limit."""
    both = [reference_of(tmp_path, name, 100, 9) for name in ("reference", "anchor-1")]
    prune(tmp_path, *both, limit_bytes=10)
    assert len(list(tmp_path.iterdir())) == 2
    other = reference_of(tmp_path, "other", 10, 99)
    with Writer(tmp_path / "new", WINDOWS[:1], VOCABULARY, keep=both) as writer:
        writer.add(distributions(1.0, rows=3))
    assert other.is_dir()  # far below the real limit


def test_what_a_dead_process_left_is_pruned(tmp_path: Path) -> None:
    """A killed worker's part is nobody's any more."""
    part = reference_of(tmp_path, f"other.part-{place()}-{dead_process()}", 100, 1)
    keep = reference_of(tmp_path, "keep", 100, 9)
    prune(tmp_path, keep, limit_bytes=150)
    assert not part.exists()


def test_a_reference_says_what_it_is_of(tmp_path: Path) -> None:
    """What its writer told comes back word for word."""
    with Writer(tmp_path / "ref", WINDOWS[:1], VOCABULARY, about={"files": {"a": "1:b"}}) as writer:
        writer.add(distributions(1.0, rows=3))
    assert Reader(tmp_path / "ref", WINDOWS[:1]).about == {"files": {"a": "1:b"}}


def test_a_full_disk_is_found_before_anything_is_computed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An OSError that says so, and no half file; a memory map on a full disk would die of SIGBUS instead."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    with pytest.raises(OSError, match="No space left"):
        Writer(tmp_path / "ref", WINDOWS, VOCABULARY)
    assert list(tmp_path.iterdir()) == []


def test_two_that_write_one_reference_leave_one(tmp_path: Path) -> None:
    """It holds one cell at the same weights and versions: whoever comes second keeps what is there or replaces it."""
    exact = distributions(3.0, rows=3)
    writers = [Writer(tmp_path / "ref", WINDOWS[:1], VOCABULARY) for _ in range(2)]
    writers[1].part = writers[0].part.rename(tmp_path / "ref.part-000000-1")  # as another process would call it
    writers[0].part.mkdir()
    for writer in writers:
        with writer:
            writer.add(exact)
    assert [path.name for path in tmp_path.iterdir()] == ["ref"]
    assert Reader(tmp_path / "ref", WINDOWS[:1]).top1(0).tolist() == exact.argmax(axis=-1).tolist()


def test_a_reference_that_was_put_there_in_the_very_moment_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both found none and both rename: the second finds the first one's, which is the same, and fails no cell."""
    exact = distributions(3.0, rows=3)
    rename = Path.rename

    def first(self: Path, target: Path) -> Path:
        if self.name.startswith("ref.part"):
            monkeypatch.undo()
            write(tmp_path / "ref", WINDOWS[:1])
            (tmp_path / "ref" / "first").touch()
        return rename(self, target)

    with Writer(tmp_path / "ref", WINDOWS[:1], VOCABULARY) as writer:
        writer.part = rename(writer.part, tmp_path / "ref.part-000000-1")
        writer.add(exact)
        monkeypatch.setattr(Path, "rename", first)
    assert [path.name for path in tmp_path.iterdir()] == ["ref"]
    assert (tmp_path / "ref" / "first").exists()
    Reader(tmp_path / "ref", WINDOWS[:1])


def test_removing_what_is_not_there_is_no_error(tmp_path: Path) -> None:
    """The result is the same."""
    remove(tmp_path / "nothing")
    assert list(tmp_path.iterdir()) == []
