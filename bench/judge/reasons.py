# SPDX-License-Identifier: Apache-2.0
"""Why there is no figure: the cell ended otherwise, the model cannot give it, nobody measured its device. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.instruments.disturbance import MEMORY
from bench.judge.figures import wrote_anchor
from bench.judge.speeds import compute_type, exceeds, held_against, main_point
from bench.records.cell import REFERENCE, Precision
from bench.records.record import Record
from bench.records.surroundings import ROOF_METHOD, Roof

GENERATED = {"ttft_s", "decode_tokens_per_s", "itl_p99_s", "decode_j_per_token"}
"""Figures of models that generate."""
ENERGY = {"prefill_j_per_token", "decode_j_per_token", "idle_w"}
BANDWIDTH_SHARE, MATRIX_SHARE = "decode_bandwidth_share", "prefill_matrix_share"
FROM_FP32 = "kld_fp32_mean"
NOT_APPLICABLE = "n/a"
NO_SUCH_FIGURE = "its record holds no such figure"
NO_DISTRIBUTIONS = "a server shows no whole distributions"
NO_PROMPT_ALONE = "a server's prompt and first token are one time: see TTFT"
NO_REFERENCE = "measured without the distributions of its 16-bit row"
GPU_ALONE = "counted by the allocator of a GPU"
LACKING = {
    "peak_allocated_bytes": GPU_ALONE,
    "peak_reserved_bytes": GPU_ALONE,
    "cost_usd_per_item": "no prices: nobody pays for its answers, or its entry states none",
    **dict.fromkeys(("kld_mean", "kld_p99", "same_top1", "ln_ppl_ratio", "true_token_rms"), NO_REFERENCE),
}
"""Why a record may lack a figure."""
SERVED = {
    **dict.fromkeys((FROM_FP32, "kld_mean", "kld_p99", "same_top1", "true_token_rms"), NO_DISTRIBUTIONS),
    "prefill_tokens_per_s": NO_PROMPT_ALONE,
}
"""The same of a served model."""


@dataclass(frozen=True)
class Missing:
    """Why there is no figure."""

    short: str
    """In a word or two: `not measured`, `does not fit`, `n/a`; empty where only the sentence says it."""
    why: str = ""
    """The reason as a sentence, empty where the short form says everything."""

    def __str__(self) -> str:
        return ": ".join(filter(None, (self.short, self.why)))


NOT_MEASURED = Missing("not measured")
MASKED = Missing(NOT_APPLICABLE, "masked models fill blanks, they do not generate")


def is_masked(record: Record) -> bool:
    """Whether the model fills blanks instead of generating."""
    return record.cell.settings.get("objective") == "masked"


def missing_figure(record: Record, figure: str) -> Missing | None:
    """Why a record that ended well lacks this figure of its suite; None for a distance from an fp32 row that is not."""
    if figure in GENERATED and is_masked(record):
        return MASKED
    if figure in ENERGY and (why := no_energy(record)):
        return Missing("none", why)
    if why := no_share(record, figure):
        return Missing(NOT_APPLICABLE, why)
    if record.cell.precision == Precision.SERVED:
        return Missing(NOT_APPLICABLE, SERVED.get(figure, LACKING.get(figure, NO_SUCH_FIGURE)))
    is_reference = wrote_anchor(record) if figure == FROM_FP32 else record.cell.precision == REFERENCE
    if record.cell.suite == "divergence" and is_reference:
        return Missing("reference")
    return None if figure == FROM_FP32 else Missing(NOT_APPLICABLE, LACKING.get(figure, NO_SUCH_FIGURE))


def no_energy(record: Record) -> str:
    """Why this record has no joules, empty if it has or nobody looked."""
    reasons = [str(m.labels.get("reason", "")) for m in record.measurements if m.name in {"prefill_j", "decode_j"}]
    return next((reason for reason in reasons if reason), "")


def no_share(record: Record, figure: str) -> str:
    """Why a rate is no share of a roof, empty if it is one."""
    if figure not in {BANDWIDTH_SHARE, MATRIX_SHARE}:
        return ""
    terms, roof = record.measurement("operations_per_token"), record.before.roof
    if "objective" in record.cell.settings:
        return "bytes and operations of a token are counted for decoders alone"
    if terms is None or roof is None:
        return "measured without the roof of its device or the bytes and operations of a token"
    quantity = MEMORY if figure == BANDWIDTH_SHARE else compute_type(record)
    if quantity is None:
        return "the type that its kernels multiply in is not known"
    if quantity not in roof.quantities():
        said = "copy" if quantity == MEMORY else quantity
        return f"{said} was not measured of its device: {roof.lacking.get(said, 'no samples')}"
    return _exceeded(record, roof, figure, quantity)


def _exceeded(record: Record, roof: Roof, figure: str, quantity: str) -> str:
    share = held_against(main_point(record), roof).get(figure)
    if share is None or not exceeds(share, roof):
        return ""
    what = "what memory sustains" if quantity == MEMORY else f"the matrix rate of {quantity}"
    how = ", by an older method" if roof.method < ROOF_METHOD else ""
    return f"faster than {what} as its run measured that{how}: no roof; measure again"
