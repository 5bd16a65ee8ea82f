# SPDX-License-Identifier: Apache-2.0
"""How far quantization moved the output distribution, against this model's own 16-bit row on this device.

`windows` windows of `window_tokens` tokens of the project's probe text, taken from its registers in turn, are scored
token by token in float32. The reference (same model, weights, backend and device at the reference scheme) leaves its
full-vocabulary distributions in a cache of this machine; every other scheme is compared with them over the same
tokens: KL(reference || this) in nats for each predicted token (`kld_nat`), whether the most probable token is the
same (`same_top1`, per window), and the negative log-likelihood of the text under both (`nll_nat`,
`reference_nll_nat`, per window), from which the ln perplexity ratio with its paired error comes on reading.

A masked model is compared where tokens are blanked, each token but a window's first once, every eighth at a time; a
sequence-to-sequence model on the second half of each window, its encoder given the first.

The cache holds 16-bit codes of p^(1/4), see `bench.reference`; what that costs is measured where the reference is
written, as `store_error_nat`: the KL between the exact distributions and the stored ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.record import Measurement, Unit
from bench.suite import SuiteRun, Work, measured
from suites import probe

VERSION = 1
PROFILES = {
    "smoke": {"windows": 6, "window_tokens": 64},
    "standard": {"windows": 18, "window_tokens": 256},
    "full": {"windows": 96, "window_tokens": 256},
}


class MissingReference(Exception):
    """The reference's distributions are not in the cache."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every window once."""
    return Work(prefill_tokens=settings["windows"] * settings["window_tokens"], decode_tokens=0)


def measure(run: SuiteRun) -> list[Measurement]:
    """Write the reference if this is it, else compare with it."""
    assert run.reference is not None
    engine, length = run.engine, run.settings["window_tokens"]
    windows = probe.windows(engine.encode, run.settings["windows"], length)
    predicted = length // 2 if run.settings.get("objective") == "seq2seq" else length - 1
    labels = {
        "window_tokens": predicted,
        "registers": [register for register, _ in windows],
        "text_sha256": probe.text_sha256(),
        "reference": run.reference.name,
    }
    tokens = [window for _, window in windows]
    return _write(run, tokens, labels) if run.is_reference else _compare(run, tokens, labels)


def _write(run: SuiteRun, windows: list[list[int]], labels: dict[str, Any]) -> list[Measurement]:
    from bench.reference import Writer, kl_divergence, negative_log_likelihood

    assert run.reference is not None
    nll, error = [], []
    targets = [window[-labels["window_tokens"] - 1 :] for window in windows]
    with Writer(run.reference, targets, run.engine.vocabulary) as writer:
        for index, window in enumerate(windows):
            run.phase("window", index, len(windows))
            exact = run.engine.log_probs(window)
            stored = writer.add(exact)
            nll.append(float(negative_log_likelihood(exact, targets[index]).mean()))
            error.append(float(abs(kl_divergence(exact, stored)).mean()))
    return [
        measured("nll_nat", Unit.NAT, nll, counter="float32 log-softmax", labels=labels),
        measured("store_error_nat", Unit.NAT, error, digits=4, counter="KL(exact || stored)", labels=labels),
    ]


def _compare(run: SuiteRun, windows: list[list[int]], labels: dict[str, Any]) -> list[Measurement]:
    from bench.reference import Reader, kl_divergence, negative_log_likelihood

    assert run.reference is not None
    if not run.reference.exists():
        raise MissingReference("the 16-bit reference of this model has not been measured on this machine")
    targets = [window[-labels["window_tokens"] - 1 :] for window in windows]
    reader = Reader(run.reference, targets)
    kld: list[float] = []
    top1, nll, reference_nll = [], [], []
    for index, window in enumerate(windows):
        run.phase("window", index, len(windows))
        log_probs = run.engine.log_probs(window)
        kld += kl_divergence(reader.log_probs(index), log_probs).tolist()
        top1.append(float((log_probs.argmax(axis=-1) == reader.top1(index)).mean()))
        nll.append(float(negative_log_likelihood(log_probs, targets[index]).mean()))
        reference_nll.append(float(reader.nll(index).mean()))
    method = "KL(reference || this), full vocabulary, float32"
    return [
        measured("kld_nat", Unit.NAT, kld, digits=4, counter=method, labels=labels),
        measured("same_top1", Unit.FRACTION, top1, counter="arg max", labels=labels),
        measured("nll_nat", Unit.NAT, nll, counter="float32 log-softmax", labels=labels),
        measured("reference_nll_nat", Unit.NAT, reference_nll, counter="float32 log-softmax", labels=labels),
    ]
