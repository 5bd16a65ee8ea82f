# SPDX-License-Identifier: Apache-2.0
"""A backend whose every figure is known: the whole harness runs on it anywhere, and must give these figures back.

Tokens are bytes; each next token is drawn from one fixed distribution whatever came before, softmax(z / T) with z(b) =
-((37 b) mod 251) / 40, so log-likelihoods, perplexities and KL divergences have closed forms. The scheme
`fake-int8-pass` looks at the whole pass: its T is 1 + r / 10 times as high, where r is what is left of the sum of all
tokens that the pass reads when it is divided by 13. Time is virtual and memory is arithmetic.
`BENCH_FAKE_FAULT=kind@point[:scheme][#n]` makes it misbehave, with #n the n-th time only, for tests of the runner: kind
is crash, kill, hang, hoard, leak, garbage, error, memory, unsupported, nan (no logit is a number from there on) or wide
(16 bits a weight, whatever was asked for); point is load, census, prefill, log_probs or score; hoard takes real memory,
so that a real limit kills, leak keeps a megabyte each time. `BENCH_FAKE_STORED=scheme` makes its weights ones that
their maker quantized: any other scheme is unsupported then. `BENCH_FAKE_NOISE=share:seed` makes every duration longer
or shorter by up to that share, drawn evenly.
"""

from __future__ import annotations

import math
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.engines.contract import Backend, DoesNotFit, LoadRequest, Row, Score, Unsupported, check_context
from bench.engines.fake.instruments import ArithmeticMemory, NoisyClock
from bench.instruments import Instruments
from bench.instruments.clock import VirtualClock
from bench.records.cell import Precision, Scheme
from bench.records.census import Census
from bench.records.record import Caveat, Provenance
from bench.records.surroundings import ROOF_METHOD, Roof

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

VOCABULARY = 257
END = 256
"""The token after all bytes."""
LINEAR_WEIGHTS = 8_000_000
OTHER_BYTES = 2_000_000
EMBEDDING_BYTES = 500_000
"""Of the other bytes: looked up, not read for each token."""
CACHE_BYTES_PER_TOKEN = 1_000
WORKSPACE_BYTES = 3_000_000
HOARD_BYTES = 10**9
LEAK_BYTES = 1_000_000


@dataclass(frozen=True, kw_only=True)
class Truth:
    """What the suites must find for one scheme."""

    temperature: float
    load_s: float
    prefill_tokens_per_s: float
    decode_tokens_per_s: float


SCHEMES = (
    Scheme(name="fake-fp32", precision=Precision.FP32, bits=32, other_bytes=4, method="known figures"),
    Scheme(name="fake-fp16", precision=Precision.FP16, bits=16, method="known figures"),
    Scheme(name="fake-int8", precision=Precision.INT8, bits=8, method="known figures"),
    Scheme(
        name="fake-int8-pass", precision=Precision.INT8, bits=8, whole_pass=True, method="known figures of each pass"
    ),
    Scheme(name="fake-int4", precision=Precision.INT4, bits=4, method="known figures"),
)
TRUTH = {
    "fake-fp32": Truth(temperature=1.0, load_s=4.0, prefill_tokens_per_s=1000.0, decode_tokens_per_s=20.0),
    "fake-fp16": Truth(temperature=1.0, load_s=2.0, prefill_tokens_per_s=2000.0, decode_tokens_per_s=40.0),
    "fake-int8": Truth(temperature=1.05, load_s=1.0, prefill_tokens_per_s=1600.0, decode_tokens_per_s=50.0),
    "fake-int8-pass": Truth(temperature=1.05, load_s=1.0, prefill_tokens_per_s=1600.0, decode_tokens_per_s=50.0),
    "fake-int4": Truth(temperature=1.25, load_s=0.5, prefill_tokens_per_s=1250.0, decode_tokens_per_s=80.0),
}
ROOF = Roof(
    method=ROOF_METHOD, engine="known", copy_bytes_per_s=(1e9,), read_bytes_per_s={"fp32": (9e8,), "bf16": (3e8,)},
    matrix_per_s={"fp32": (1e11,), "bf16": (5e10,), "int8": (2e11,)}, lacking={"fp16": "not known"},
)  # fmt: skip
COMPUTE = {"fake-fp32": "fp32", "fake-fp16": "bf16", "fake-int8": "int8", "fake-int8-pass": "int8", "fake-int4": "bf16"}
_DEFAULTS = {scheme.precision: scheme.name for scheme in SCHEMES if not scheme.whole_pass}


def weights_bytes(scheme: Scheme) -> int:
    """Bytes the census must find."""
    return round(LINEAR_WEIGHTS * (scheme.bits or 0) / 8) + OTHER_BYTES


def _clock(asked: str) -> VirtualClock:
    share, _, seed = asked.partition(":")
    return NoisyClock(float(share), int(seed or 0)) if share else VirtualClock()


_CLOCK, _MEMORY = _clock(os.environ.get("BENCH_FAKE_NOISE", "")), ArithmeticMemory()
_REACHED: Counter[str] = Counter()
"""How often this process has come to the point of a fault."""


def instruments(device: str) -> Instruments:
    """The virtual clock and memory of this process."""
    return Instruments(_CLOCK, _MEMORY)


class FakeGeneration:
    """Always the most probable byte."""

    def __init__(self, engine: FakeEngine, batch: int, tokens: int, suppress: Collection[int]) -> None:
        self.engine, self.batch, self.cache_tokens, self.first = engine, batch, tokens, True
        allowed = [token for token in range(VOCABULARY) if token not in suppress]
        self.token = max(allowed, key=lambda token: engine.unigram[token])
        _MEMORY.use(self.cache_bytes + WORKSPACE_BYTES)

    @property
    def cache_bytes(self) -> int:
        """A known count for each position."""
        return self.cache_tokens * self.batch * CACHE_BYTES_PER_TOKEN

    def step(self) -> list[int]:
        """One more token for each sequence, after the known time."""
        if not self.first:
            check_context(self.cache_tokens + 1, self.engine.context_length)
            _CLOCK.advance(1 / self.engine.truth.decode_tokens_per_s)
            self.cache_tokens += 1
            _MEMORY.use(self.batch * CACHE_BYTES_PER_TOKEN)
        self.first = False
        return [self.token] * self.batch

    @property
    def finite(self) -> bool:
        """Whether the one logit it chooses is a number."""
        return math.isfinite(self.engine.unigram[self.token])

    def close(self) -> None:
        """Give the cache and workspace back."""
        _MEMORY.use(-self.cache_bytes - WORKSPACE_BYTES)


class FakeEngine:
    """One "loaded" fake."""

    vocabulary = VOCABULARY
    context_length = 4096
    prefix_token = END
    end_tokens = frozenset({END})
    threads: int | None = 1
    caveats: tuple[Caveat, ...] = ()

    def __init__(self, request: LoadRequest) -> None:
        import numpy as np

        self.scheme, self.truth = request.scheme, TRUTH[request.scheme.name]
        logits = -(37 * np.arange(VOCABULARY) % 251) / 40 / self.truth.temperature
        self.unigram: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
        self._misbehave("load")
        self.provenance = Provenance(source="fake", files={"none": "0:0"}, stored_as=_stored(self.scheme.name))
        _MEMORY.use(weights_bytes(self.scheme))
        _CLOCK.advance(self.truth.load_s)

    def _misbehave(self, point: str) -> None:
        if _misbehave(point, self.scheme.name) == "nan":
            self.unigram = self.unigram * float("nan")

    def encode(self, text: str, *, special: bool = False) -> list[int]:
        """UTF-8 bytes."""
        return list(text.encode())

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of the bytes, end tokens left out."""
        return bytes(t for t in tokens if t < END).decode(errors="replace")

    def prefill(self, prompts: Sequence[Sequence[int]], *, suppress: Collection[int] = ()) -> FakeGeneration:
        """Read the prompts in the known time."""
        self._misbehave("prefill")
        tokens = len(prompts[0])
        check_context(tokens, self.context_length)
        _CLOCK.advance(tokens * len(prompts) / self.truth.prefill_tokens_per_s)
        return FakeGeneration(self, len(prompts), tokens, suppress)

    def log_probs(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """The same distribution at every position, after the known time."""
        self._misbehave("log_probs")
        check_context(len(tokens) - 1, self.context_length)
        _CLOCK.advance(len(tokens) / self.truth.prefill_tokens_per_s)
        return self._rows(len(tokens) - 1, tokens[:-1])

    def log_probs_together(self, rows: Sequence[Sequence[int]]) -> Iterator[NDArray[np.float32]]:
        """As `log_probs`, all read in one pass."""
        self._misbehave("log_probs")
        read = [token for row in rows for token in row[:-1]]
        for row in rows:
            yield self._rows(len(row) - 1, read)

    def log_probs_stepwise(self, tokens: Sequence[int]) -> NDArray[np.float32]:
        """As `log_probs`, one token a pass."""
        import numpy as np

        return np.concatenate([self._rows(1, [token]) for token in tokens[:-1]])

    def _rows(self, count: int, read: Sequence[int]) -> NDArray[np.float32]:
        """The distribution of a pass over these tokens, `count` times over."""
        import numpy as np

        return np.tile(self._of_pass(read), (count, 1))

    def _of_pass(self, read: Sequence[int]) -> NDArray[np.float32]:
        import numpy as np

        if not self.scheme.whole_pass:
            return self.unigram
        logits = self.unigram / (1 + sum(read) % 13 / 10)
        found: NDArray[np.float32] = (logits - np.log(np.exp(logits).sum())).astype(np.float32)
        return found

    def score(self, rows: Sequence[Row], done: Callable[[int], None] = lambda finished: None) -> list[Score]:
        """Sums of the known distribution, each row after the known time."""
        self._misbehave("score")
        best = int(self.unigram.argmax())
        scores = []
        for index, row in enumerate(rows):
            check_context(len(row.context) + len(row.continuation) - 1, self.context_length)
            _CLOCK.advance((len(row.context) + len(row.continuation)) / self.truth.prefill_tokens_per_s)
            own = self._of_pass((row.context + row.continuation)[:-1])
            log_probs = tuple(float(own[token]) for token in row.continuation)
            scores.append(Score(log_probs, all(token == best for token in row.continuation)))
            done(index + 1)
        return scores

    def census(self) -> Census:
        """The known bytes."""
        wide = _misbehave("census", self.scheme.name) == "wide"
        quantized = LINEAR_WEIGHTS if self.scheme.quantizes and not wide else 0
        return Census(
            bytes_by_storage={self.scheme.name: weights_bytes(self.scheme) - OTHER_BYTES, "other": OTHER_BYTES},
            linear_weights=LINEAR_WEIGHTS, linear_quantized=quantized,
            linear_bits=16.0 if wide else self.scheme.bits or 0.0, kernels={"FakeLinear": 1},
            embedding_bytes=EMBEDDING_BYTES, compute=COMPUTE[self.scheme.name],
        )  # fmt: skip

    def close(self) -> None:
        """Give the weights back."""
        _MEMORY.use(-weights_bytes(self.scheme))


def _stored(scheme: str) -> str | None:
    """The scheme in which the weights are said to be stored, None if in none. Raises Unsupported if in another."""
    stored = os.environ.get("BENCH_FAKE_STORED")
    if stored and stored != scheme:
        raise Unsupported(f"its weights are stored as {stored}")
    return stored or None


def _misbehave(point: str, scheme: str) -> str:
    """Do what is asked for at this point; returns the kind where that is the engine's own to show, else nothing."""
    kind, _, where = os.environ.get("BENCH_FAKE_FAULT", "").partition("@")
    where, _, nth = where.partition("#")
    if where not in {point, f"{point}:{scheme}"}:
        return ""
    _REACHED[where] += 1
    if nth and _REACHED[where] != int(nth):
        return ""
    _fail(kind, point)
    return kind


def _fail(kind: str, point: str) -> None:
    if kind == "crash":
        os.abort()
    elif kind == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif kind == "hang":
        time.sleep(3600)
    elif kind == "hoard":
        bytearray(HOARD_BYTES)
    elif kind == "leak":
        _MEMORY.use(LEAK_BYTES)
    elif kind == "garbage":
        sys.stdout.write('{"outcome": "ok"}\n' * 1000)
    elif kind == "error":
        raise RuntimeError("a fault that was asked for")
    elif kind == "memory":
        raise DoesNotFit(point, wanted_bytes=2 * 10**12, had_bytes=10**12)
    elif kind == "unsupported":
        raise Unsupported("a fault that was asked for")


BACKEND = Backend(
    name="fake",
    summary="known figures, no model: for tests and for seeing how everything works",
    schemes=SCHEMES,
    defaults=dict.fromkeys(("cpu", "cuda", "mps"), _DEFAULTS),
    requires=("numpy",),
    install="pip install -e .",
    load=FakeEngine,
    instruments=instruments,
    anchor=True,
    roof=lambda: ROOF,
    needs_repository=False,
)
