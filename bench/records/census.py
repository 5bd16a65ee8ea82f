# SPDX-License-Identifier: Apache-2.0
"""What a loaded model really holds, and whether that is the precision that was asked for."""

from __future__ import annotations

from dataclasses import dataclass

from bench.records.cell import Scheme

LEAST_QUANTIZED = 0.95
"""Share of the linear weights that a quantizing scheme must hold in fewer than 16 bits."""


@dataclass(frozen=True, kw_only=True)
class Census:
    """Every parameter of a loaded model counted, quantization metadata included, shared tensors once."""

    bytes_by_storage: dict[str, int]
    """Bytes by storage type: `bfloat16`, `nf4`, `int8`, `nf4 metadata` …"""
    linear_weights: int
    """Elements of the linear layers' weights; the output head and T5's `wo`, which no scheme touches, left out."""
    linear_quantized: int
    """Of those, elements stored in fewer than 16 bits."""
    linear_bits: float
    """Bits one linear weight takes on average, its metadata included."""
    kernels: dict[str, int]
    """Linear layers by class: what really computes."""
    left_out: tuple[str, ...] = ()
    """Linear modules that a quantizing scheme left at 16 or 32 bits, the output head included."""
    grid_share: float | None = None
    """Share of sampled blocks of 32 weights with at most 16 distinct values; None if not looked at."""
    embedding_bytes: int = 0
    """Bytes of embedding tables that are looked up a row at a time; one that is the head too is read whole."""
    expert_bytes: int = 0
    """Bytes of the experts of a mixture, all of them."""
    expert_weights: int = 0
    """Elements of their matrices, which `linear_weights` counts too."""
    expert_share: float = 1.0
    """Share of the experts that one token is sent through; 1 where there are none."""
    compute: str | None = None
    """Type that the linear layers' products run in (fp32, bf16, fp16, int8), None if not known."""

    because: str = ""
    """What the engine knows of why weights are stored otherwise than a scheme asks: the very shapes; empty if nothing.
    """

    @property
    def total_bytes(self) -> int:
        """Bytes of all parameters and their metadata."""
        return sum(self.bytes_by_storage.values())

    @property
    def multiplied_weights(self) -> float:
        """Linear weights that one token is multiplied with: of a mixture's experts, its own alone."""
        return self.linear_weights - (1 - self.expert_share) * self.expert_weights

    def read_bytes(self, batch: int) -> float:
        """Bytes that one step of so many sequences reads, each sent through experts of its own, drawn evenly."""
        resting = (1 - self.expert_share) ** batch
        return self.total_bytes - self.embedding_bytes - resting * self.expert_bytes

    def contradiction(self, scheme: Scheme) -> str | None:
        """Why these bytes are not that scheme, with both figures and what the engine knows of it; None if they are."""
        found = self._contradiction(scheme)
        return f"{found}: {self.because}" if found and self.because else found

    def _contradiction(self, scheme: Scheme) -> str | None:
        """The same without the engine's reason.

        A quantizing scheme must hold at least 95 % of the linear weights (the output head apart) in fewer
        than 16 bits, and every scheme must come within one bit of its nominal width plus metadata. Where no linear
        weight is found at all, nothing proves that they are quantized.
        """
        if not self.linear_weights:
            return f"{scheme.name} asks for quantized linear weights, found none at all" if scheme.quantizes else None
        assert scheme.bits is not None
        share = self.linear_quantized / self.linear_weights
        if scheme.quantizes and share < LEAST_QUANTIZED:
            return f"{scheme.name} asks for {LEAST_QUANTIZED:.0%} of linear weights quantized, {share:.1%} are"
        if abs(self.linear_bits - scheme.bits) > 1.0:
            return f"{scheme.name} asks for {scheme.bits:g} bits a linear weight, found {self.linear_bits:.2f}"
        return None
