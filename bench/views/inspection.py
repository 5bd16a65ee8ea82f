# SPDX-License-Identifier: Apache-2.0
"""A model before it is loaded: what its files hold, what it would need, and which engines can take it. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from bench.catalog.contents import Contents, Stored
from bench.catalog.model import Model
from bench.plan.takers import Taker
from bench.units import human_bytes, significant
from bench.views.formats import Flat, FlatValue, Table
from bench.views.outputs import INSPECT


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What was found without loading anything."""

    model: Model
    contents: Contents | None
    """None where no file is at hand: an entry's architecture alone."""
    where: str
    parameters: int | None
    cache: Mapping[int, int]
    """Bytes of keys and values at 16 bits, by positions."""
    memory_bytes_per_s: float | None
    """What this device's memory sustains, None where no run or plan has measured it."""
    takers: Sequence[Taker] = field(default_factory=tuple)

    @property
    def bits(self) -> float | None:
        """Bits a weight over all tensors, None where either is unknown."""
        if self.contents is None:
            return None
        count = self.parameters or self.contents.elements
        return 8 * self.contents.bytes / count if count else None

    def ceiling(self, tokens: int = 0) -> float | None:
        """Tokens a second that no engine exceeds here: every weight read once a token, and the cache behind it."""
        if self.memory_bytes_per_s is None or self.contents is None:
            return None
        return self.memory_bytes_per_s / (self.contents.read_bytes() + self.cache.get(tokens, 0))


def facts(found: Inspected) -> Iterator[tuple[str, str]]:
    """Names with what is known of each, for people."""
    yield "model", f"{found.model.display} ({found.where})"
    if found.parameters:
        yield "parameters", f"{found.parameters:,}"
    contents = found.contents
    if contents is not None:
        if contents.label:
            yield "label", contents.label
        bits = f", {significant(found.bits)} bits a weight" if found.bits else ""
        yield "holds", f"{human_bytes(contents.bytes)} in {len(contents.tensors):,} tensors{bits}"
        yield "types", ", ".join(f"{name} {share:.1%}" for name, share in contents.shares().items())
        yield "embedding", _part(contents.embedding(), "no name tells")
        yield "output head", _part(contents.head(), "none of its own: the embedding's table, or no name tells")
        yield "read per token", human_bytes(contents.read_bytes())
    if found.cache:
        yield "KV cache, 16 bits", ", ".join(f"{human_bytes(size)} at {at:,}" for at, size in found.cache.items())
    top = found.ceiling()
    if top is not None and found.memory_bytes_per_s:
        ends = [f"{significant(found.ceiling(at) or 0.0)} at {at:,}" for at in found.cache]
        sustained = f"memory here sustains {found.memory_bytes_per_s / 1e9:.3g} GB/s"
        yield (
            "decode ceiling",
            f"{significant(top)} tokens/s ({sustained})" + "; " * bool(ends) + ", ".join(ends),
        )
    elif contents is not None:
        yield "decode ceiling", "not known: no run has measured this device's memory; bench run or bench plan does"


def _part(tensor: Stored | None, otherwise: str) -> str:
    if tensor is None:
        return otherwise
    bits = 8 * tensor.bytes / tensor.elements if tensor.elements else 0.0
    return f"{tensor.type}, {human_bytes(tensor.bytes)}, {significant(bits)} bits an element ({tensor.name})"


def table(found: Inspected) -> Table:
    """Engines and precisions with what each needs by context, or the reason why it cannot."""
    contexts = sorted({tokens for taker in found.takers for tokens in taker.needs})
    made = Table(["engine", "precision", "scheme", "weights", *(f"at {tokens:,}" for tokens in contexts), "reason"])
    for one in found.takers:
        weights = human_bytes(one.weights_bytes) if one.weights_bytes else "-"
        needs = [human_bytes(one.needs[tokens]) if tokens in one.needs else "-" for tokens in contexts]
        reason = made.note(one.reason) if one.reason else ""
        made.rows.append([one.engine, one.precision, one.scheme or "-", weights, *needs, reason])
    return made


def flats(found: Inspected) -> list[Flat]:
    """One row for each engine and precision, what the files hold beside it."""
    contents = found.contents
    head, embedding = (contents.head(), contents.embedding()) if contents else (None, None)
    own: dict[str, FlatValue] = {
        "model": found.model.name, "parameters": found.parameters, "label": contents.label if contents else None,
        "file_bytes": contents.bytes if contents else None, "bits_per_weight": found.bits,
        "types": "; ".join(f"{name} {share:.4f}" for name, share in contents.shares().items()) if contents else None,
        "embedding_type": embedding.type if embedding else None, "head_type": head.type if head else None,
        "read_bytes_per_token": contents.read_bytes() if contents else None,
        "decode_ceiling_tokens_per_s": found.ceiling(),
    }  # fmt: skip
    rows = []
    for one in found.takers:
        needs = {f"predicted_needed_{tokens}_bytes": size for tokens, size in one.needs.items()}
        taker: dict[str, FlatValue] = {
            "backend": one.engine, "precision": one.precision, "scheme": one.scheme or None,
            "left_out": one.reason or None, "predicted_weights_bytes": one.weights_bytes,
        }  # fmt: skip
        rows.append(INSPECT.flat({**own, **taker, **needs}))
    return rows
