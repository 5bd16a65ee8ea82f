# SPDX-License-Identifier: Apache-2.0
"""How far quantization moved the output distribution, compared with this model's own 16-bit row on this device.

`windows` windows of `window_tokens` tokens of the project's probe text, taken from its registers in turn (or of a text
of the caller's, one after the other), are scored token by token in float32. The reference (same model, weights,
backend and device at the reference scheme) leaves its full-vocabulary distributions in a cache of this machine; every
other scheme is compared with them over the same tokens: KL(reference || this) in nats for each predicted token
(`kld_nat`), by how much the probability of the true token changed (`true_token_change`, per token), whether the most
probable token is the same (`same_top1`, per window), and the negative log-likelihood of the text under both
(`nll_nat`, `reference_nll_nat`, per window), from which the ln perplexity ratio with its paired error comes on reading.

Every row measures its own noise floor beside it (`suites/noise_floor.py`): its first windows read again together, and
token by token. A distance of that size is what another batch does, or generating. A quantized row that can take its
weights back to float32 also measures how far those alone are from the reference.

One fp32 row of the model is the anchor of all engines (`bench.scoring.anchor`). It leaves its distributions too. Every
other cell that finds them for the very same tokens stores its distance from them: KL(fp32 || this) for each token
(`anchor_kld_nat`) and the same top-1 (`anchor_same_top1`, per window). The 16-bit row has been measured before the
anchor is written, so the fp32 cell computes that row's distance from its stored distributions
(`anchor_reference_kld_nat`; the share of the same top-1 is its own `same_top1`, which is symmetric).

A checkpoint that its maker published in 8 or 4 bits alone has no 16-bit row, so the cell is `unsupported` and says so.

A masked model is compared where tokens are blanked, each token but a window's first once, every eighth at a time; a
sequence-to-sequence model on the second half of each window, its encoder given the first.

Two windows are measured whatever the budget, and each further one only where the cell's share of it holds what the last
took. A reference that was cut has fewer windows, and the rows compared with it have as many. What was left out is a
warning, and the label `windows_asked` stands beside what there is.

The cache holds 16-bit codes of p^(1/4), see `bench.scoring.reference`; what that costs is measured when the reference
is written, as `store_error_nat`: the KL between the exact distributions and the stored ones. A distance of less than a
hundred times that gets a warning. Logits that are not finite end the cell.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from pydantic import JsonValue

from bench.engines.contract import NotFinite, Unsupported
from bench.errors import UserError
from bench.processes import is_unfinished
from bench.records.cell import REFERENCE
from bench.records.record import NO_WIDER_WEIGHTS, Caveat, Measurement, Unit
from bench.scoring.anchor import NotPaired, about, label, open_anchor
from bench.suite import SuiteRun, Work, measured
from suites import noise_floor, probe

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from bench.scoring.reference import Reader, Writer

VERSION = 2
TEXT: dict[str, JsonValue] = {"text": "probe", "text_sha256": probe.text_sha256()}
PROFILES: dict[str, dict[str, JsonValue]] = {
    "smoke": {"windows": 6, "window_tokens": 64, **TEXT},
    "standard": {"windows": 18, "window_tokens": 256, **TEXT},
    "full": {"windows": 96, "window_tokens": 256, **TEXT},
}
LEAST_WINDOWS = probe.MIN_WINDOWS
"""Windows that are measured whatever the budget."""
STORE_SHARE = 0.01
"""A distance of which the store's own error is more than this share is marked."""


class MissingReference(Exception):
    """The reference's distributions are not in the cache."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every window once, the first ones again together, and a few tokens one by one."""
    again = min(settings["windows"], noise_floor.BATCH)
    decoded = 0 if settings.get("objective") == "masked" else noise_floor.DECODED_WINDOWS * (noise_floor.DECODED - 1)
    tokens = (settings["windows"] + again) * settings["window_tokens"]
    return Work(prefill_tokens=tokens, decode_tokens=decoded, compared_tokens=tokens)


def least(settings: Mapping[str, Any]) -> Work:
    """The first windows, read again as the noise floor asks."""
    return work({**settings, "windows": min(settings["windows"], LEAST_WINDOWS)})


def done(settings: Mapping[str, Any], measurements: Sequence[Measurement]) -> Work:
    """The windows that have a likelihood, and those that were read again."""
    count = {m.name: len(m.values) for m in measurements}
    windows = count.get("nll_nat", 0) + count.get("floor_nat", 0)
    decoded = count.get("floor_decode_nat", 0) * (noise_floor.DECODED - 1)
    tokens = windows * settings["window_tokens"]
    return Work(prefill_tokens=tokens, decode_tokens=decoded, compared_tokens=tokens)


def measure(run: SuiteRun) -> list[Measurement]:
    """Write the reference if this is it, else compare with it."""
    assert run.reference is not None
    length = run.settings["window_tokens"]
    windows = _windows(run)
    run.caveats += probe.tokenizer_caveats(run)
    predicted = length // 2 if run.settings.get("objective") == "seq2seq" else length - 1
    labels = {
        "window_tokens": predicted,
        "registers": [register for register, _ in windows],
        "text_sha256": run.settings["text_sha256"],
        "reference": run.reference.name,
    }
    tokens = [window for _, window in windows]
    return _write(run, tokens, labels) if run.is_reference else _compare(run, tokens, labels)


def _rounds(run: SuiteRun, windows: list[list[int]]) -> Iterator[tuple[int, list[int]]]:
    """The windows by number, as many as the cell's share of the budget holds."""
    clock, lasted = run.instruments.clock, 0.0
    ahead = 1 + noise_floor.RESERVE
    for index, window in enumerate(windows):
        if index >= LEAST_WINDOWS and run.spent(ahead * lasted):
            run.cut(f"divergence: {index} of {len(windows)} windows")
            return
        run.phase("window", index, len(windows))
        start = clock.now()
        yield index, window
        lasted = clock.now() - start


def _of_first(windows: int, labels: dict[str, Any]) -> dict[str, Any]:
    """The labels of what was measured in so many windows, where that may be fewer than were asked for."""
    asked = labels.get("windows_asked", len(labels["registers"]))
    if windows == asked:
        return labels
    return {**labels, "registers": labels["registers"][:windows], "windows_asked": asked}


def _targets(windows: list[list[int]], labels: dict[str, Any]) -> list[list[int]]:
    """Of each window the tokens that are predicted, and the one before them."""
    return [window[-labels["window_tokens"] - 1 :] for window in windows]


def _windows(run: SuiteRun) -> list[tuple[str, list[int]]]:
    count, length = run.settings["windows"], run.settings["window_tokens"]
    if run.settings["text"] == "probe":
        return probe.windows(run.engine.encode, count, length)
    return probe.file_windows(
        Path(run.files["text"]), run.settings["text_sha256"], run.engine.encode, count=count, length=length
    )


def _log_probs(run: SuiteRun, index: int, window: list[int]) -> NDArray[np.float32]:
    """Of one window. Raises NotFinite."""
    import numpy as np

    found = run.engine.log_probs(window)
    wrong = np.flatnonzero(~np.isfinite(found).all(axis=-1))
    if len(wrong):
        cell = run.cell
        raise NotFinite(
            f"NaN or infinite logits at {cell.precision} ({cell.scheme}): window {index + 1}, token {wrong[0] + 1},"
            f" and {len(wrong)} of its {len(found)} positions"
        )
    return found


class Distances:
    """How far one engine's distributions are from stored ones, window by window."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader
        self.kld: list[float] = []
        """Nats of each predicted token."""
        self.top1: list[float] = []
        """Share of the same most probable token, of each window."""

    def add(self, index: int, log_probs: NDArray[np.float32]) -> None:
        """Compare the distributions of window `index`, unless a budget ended before what is stored reached it."""
        if index >= len(self.reader.windows):
            return
        self.kld += self.reader.kl_divergence(index, log_probs).tolist()
        self.top1.append(float((log_probs.argmax(axis=-1) == self.reader.top1(index)).mean()))

    def warn(self, run: SuiteRun, of: str) -> None:
        """Warn about a distance that is too small for the precision of the stored reference."""
        distance, error = abs(mean(self.kld)), self.reader.error_nat
        if distance and error > STORE_SHARE * distance:
            run.caveats.append(
                Caveat(
                    kind="store_error",
                    text=f"KL from the {of} is {distance:.2g} nats, what storing that row costs {error:.2g}",
                    advice="read it as an upper bound: it is within a hundred times the stored reference's own error",
                )
            )

    def measurements(self, prefix: str, method: str, labels: dict[str, Any]) -> list[Measurement]:
        """Both, as stored."""
        labels = _of_first(len(self.top1), labels)
        return [
            measured(f"{prefix}kld_nat", Unit.NAT, self.kld, digits=4, counter=method, labels=labels),
            measured(f"{prefix}same_top1", Unit.FRACTION, self.top1, counter="arg max", labels=labels),
        ]


def _write(run: SuiteRun, windows: list[list[int]], labels: dict[str, Any]) -> list[Measurement]:
    from bench.scoring.reference import Writer, negative_log_likelihood

    assert run.reference is not None
    targets = _targets(windows, labels)
    anchor, floor = _anchor(run, targets), noise_floor.NoiseFloor(run, labels)
    nll = []
    keep = [run.anchor] if run.anchor else []
    with Writer(run.reference, targets, run.engine.vocabulary, keep=keep) as writer:
        for index, window in _rounds(run, windows):
            exact = _log_probs(run, index, window)
            writer.add(exact)
            floor.add(window, exact)
            nll.append(float(negative_log_likelihood(exact, targets[index]).mean()))
            if anchor:
                anchor.add(index, exact)
    labels, windows = _of_first(len(nll), labels), windows[: len(nll)]
    return [
        measured("nll_nat", Unit.NAT, nll, counter="float32 log-softmax", labels=labels),
        measured("store_error_nat", Unit.NAT, writer.error, digits=4, counter="KL(exact || stored)", labels=labels),
        *floor.measure(),
        *_from_anchor(run, anchor, labels),
    ]


def _compare(run: SuiteRun, windows: list[list[int]], labels: dict[str, Any]) -> list[Measurement]:
    import numpy as np

    from bench.scoring.reference import Reader, kl_divergence, negative_log_likelihood

    assert run.reference is not None
    if not run.reference.exists():
        if run.engine.provenance.is_stored_in(run.cell.scheme):
            raise Unsupported(NO_WIDER_WEIGHTS)
        if run.reference_reason:
            raise UserError(f"its 16-bit row left no distributions: {run.reference_reason}", "")
        same_question = f"{run.reference.name.rpartition('-')[0]}-*"
        if any(not is_unfinished(path) for path in run.reference.parent.glob(same_question)):
            raise UserError(
                "the 16-bit reference on this machine was measured from other files than these",
                f"measure both now: --precision {REFERENCE},{run.cell.precision}",
            )
        raise MissingReference("the 16-bit reference of this model has not been measured on this machine")
    targets = _targets(windows, labels)
    own, anchor = Distances(Reader(run.reference, targets)), _anchor(run, targets)
    held = len(own.reader.windows)
    floor = noise_floor.NoiseFloor(run, labels)
    if held < len(windows):
        run.cut(f"divergence: {held} of {len(windows)} windows, for the 16-bit row has no more")
    nll, reference_nll = [], []
    back: list[float] = []
    change: list[float] = []
    with _anchor_writer(run, targets) as writer:
        for index, window in _rounds(run, windows[:held]):
            log_probs = _log_probs(run, index, window)
            own.add(index, log_probs)
            floor.add(window, log_probs)
            this, theirs = negative_log_likelihood(log_probs, targets[index]), own.reader.nll(index)
            nll.append(float(this.mean()))
            reference_nll.append(float(theirs.mean()))
            change += (np.exp(-this) - np.exp(-theirs)).tolist()
            if anchor:
                anchor.add(index, log_probs)
            if writer:
                writer.add(log_probs)
                back += kl_divergence(log_probs, own.reader.log_probs(index)).tolist()
    labels = _of_first(len(nll), labels)
    own.warn(run, "16-bit row")
    found = own.measurements("", "KL(reference || this), full vocabulary, float32", labels)
    method = "p(this) - p(reference) of the text's next token"
    found += [
        measured("true_token_change", Unit.FRACTION, change, digits=4, counter=method, labels=labels),
        measured("nll_nat", Unit.NAT, nll, counter="float32 log-softmax", labels=labels),
        measured("reference_nll_nat", Unit.NAT, reference_nll, counter="float32 log-softmax", labels=labels),
    ]
    if back:
        named = {**labels, "anchor": label(about(run.cell, run.engine.provenance))}
        method = "KL(this || reference), full vocabulary, float32"
        found.append(measured("anchor_reference_kld_nat", Unit.NAT, back, digits=4, counter=method, labels=named))
    found += [*floor.measure(), *noise_floor.of_weights(run, windows[: len(nll)], own.reader, own.kld, labels)]
    return found + _from_anchor(run, anchor, labels)


def _anchor(run: SuiteRun, windows: list[list[int]]) -> Distances | None:
    """The anchor to compare with, or None: there is none, this cell writes it, or (with a caveat) it does not match."""
    if run.is_anchor or run.anchor is None or not run.anchor.exists():
        return None
    this = about(run.cell, run.engine.provenance)
    try:
        return Distances(open_anchor(run.anchor, windows, run.engine.vocabulary, this))
    except NotPaired as reason:
        run.caveats.append(
            Caveat(
                kind="anchor_not_paired",
                text=f"not compared with the fp32 reference: {reason}",
                advice="read its distance from its own 16-bit row, and accuracy, instead",
            )
        )
        return None


@contextlib.contextmanager
def _anchor_writer(run: SuiteRun, windows: list[list[int]]) -> Iterator[Writer | None]:
    """Writes the anchor if this cell is it."""
    if not run.is_anchor or run.anchor is None:
        yield None
        return
    from bench.scoring.reference import Writer

    assert run.reference is not None
    told = about(run.cell, run.engine.provenance)
    with Writer(run.anchor, windows, run.engine.vocabulary, about=told, keep=[run.reference]) as writer:
        writer.texts = [run.engine.decode(window) for window in windows]  # for servers, which read nothing else
        yield writer


def _from_anchor(run: SuiteRun, anchor: Distances | None, labels: dict[str, Any]) -> list[Measurement]:
    if anchor is None:
        return []
    anchor.warn(run, "fp32 row")
    named = {**labels, "anchor": label(anchor.reader.about)}
    return anchor.measurements("anchor_", "KL(fp32 || this), full vocabulary, float32", named)
