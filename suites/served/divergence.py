# SPDX-License-Identifier: Apache-2.0
"""How far a server that is launched here is from the model's own fp32 row on this machine, as far as servers show it.

No server shows whole distributions, so there is no KL. One that shows the log-probability of every token of a text, and
has proven it (`bench.engines.abilities.ScoresTexts`), gets the very texts of the windows that the fp32 row of
`suites/divergence.py` has read, and is compared with what that row has kept: the negative log-likelihood of each window
under both (`nll_nat`, `anchor_nll_nat`, from which the ln perplexity ratio with its paired error comes on reading) and,
token by token, by how much the probability of the true token changed (`anchor_true_token_change`).

A window counts where the server splits its text into as many tokens as the fp32 row has read, and reads it behind
nothing, as that row does: a server that puts a beginning token before every text is not compared. Windows that begin or
end within a character, or that are split otherwise, are left out, and a warning says how many.

An API shows none of this, so there it is not applicable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import JsonValue

from bench.engines.abilities import ScoresTexts, TextNotShown
from bench.engines.contract import Unsupported
from bench.errors import UserError
from bench.records.record import Caveat, Measurement, Unit
from bench.suite import TextRun, Work, measured
from suites import divergence

VERSION = 2
PROFILES = {name: dict[str, JsonValue]() for name in divergence.PROFILES}
LAUNCHED = divergence.PROFILES
HALF = "\ufffd"
"""Stands in a text for a character of which a window has a part."""


def work(settings: Mapping[str, Any]) -> Work:
    """Every window once."""
    return Work(prefill_tokens=settings.get("windows", 0) * settings.get("window_tokens", 0), decode_tokens=0)


def measure(run: TextRun) -> list[Measurement]:
    """Score the fp32 row's texts, or say why not."""
    engine = run.engine
    if run.anchor is None or not isinstance(engine, ScoresTexts):
        raise Unsupported("not applicable: a served model does not show its distributions")
    if reason := engine.unproven():
        raise Unsupported(f"not applicable: {reason}")
    windows = _windows(run)
    nll: list[float] = []
    fp32: list[float] = []
    change: list[float] = []
    registers = 0
    for index, (text, theirs) in enumerate(windows):
        run.phase("window", index, len(windows))
        own = None if HALF in text else _log_probs(engine, text, len(theirs) + 1)
        if own is None:
            continue
        registers += 1
        nll.append(-sum(own) / len(own))
        fp32.append(float(theirs.mean()))
        change += _changes(own, theirs)
    if registers < divergence.LEAST_WINDOWS:
        raise Unsupported(
            f"only {registers} of {len(windows)} windows are split into as many tokens as the fp32 row has"
        )
    if registers < len(windows):
        what = "the server splits them otherwise, or does not show how"
        text = f"{len(windows) - registers} of {len(windows)} windows are left out: {what}"
        run.caveats.append(Caveat(kind="not_measured", text=text))
    labels = {"window_tokens": len(windows[0][1]), "text_sha256": run.settings["text_sha256"]}
    method, apart = "the server's log-probabilities of the text", "p(this) - p(fp32) of the text's next token"
    return [
        measured("nll_nat", Unit.NAT, nll, counter=method, labels=labels),
        measured("anchor_nll_nat", Unit.NAT, fp32, counter="float32 log-softmax", labels=labels),
        measured("anchor_true_token_change", Unit.FRACTION, change, digits=4, counter=apart, labels=labels),
    ]


def _windows(run: TextRun) -> list[Any]:
    """Text and fp32 likelihoods of each window. Raises UserError where nothing is there to be compared with."""
    from bench.scoring.reference import read_texts

    assert run.anchor is not None
    if windows := read_texts(run.anchor) if run.anchor.is_dir() else []:
        return windows
    raise UserError(
        "no fp32 row of this model on this machine to measure from",
        f"first: bench run --model {run.cell.model} --backend transformers --precision fp32 --suite divergence",
    )


def _log_probs(engine: ScoresTexts, text: str, count: int) -> list[float] | None:
    """Of the tokens after the first, None where the text is split into another number of them, or is not shown.

    Raises Unsupported where the first has a value: something stood before it.
    """
    try:
        tokens = engine.scored(text)
    except TextNotShown:  # of a character that is cut into several tokens, a server shows none as it stands
        return None
    if tokens and tokens[0].log_prob is not None:
        raise Unsupported("the server puts a beginning token before every text, and the fp32 row has read none there")
    found = [token.log_prob for token in tokens[1:] if token.log_prob is not None]
    return found if len(tokens) == count and len(found) == count - 1 else None


def _changes(own: list[float], theirs: Any) -> list[float]:
    """Probability of each true token less what it is at fp32."""
    import numpy as np

    return [float(value) for value in np.exp(own) - np.exp(-theirs)]
