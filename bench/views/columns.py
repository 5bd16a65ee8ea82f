# SPDX-License-Identifier: Apache-2.0
"""The columns of tables for people, and the views that choose among them. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from bench.views.fields import BY_FIGURE, Unit


@dataclass(frozen=True)
class Column:
    """One column of a table for people."""

    title: str
    figure: str
    """The figure it shows, by its key."""

    @property
    def suite(self) -> str:
        """The suite that measures it."""
        return BY_FIGURE[self.figure].suite

    @property
    def unit(self) -> Unit:
        """The unit that says how its value is written."""
        return BY_FIGURE[self.figure].unit


COLUMNS = {
    "weights": Column("weights", "weights_bytes"),
    "peak": Column("peak memory", "peak_bytes"),
    "load": Column("load", "load_s"),
    "load_peak": Column("peak in load", "load_peak_bytes"),
    "kv": Column("KV/token", "kv_bytes_per_token"),
    "workspace": Column("workspace", "workspace_bytes"),
    "metadata": Column("metadata", "metadata_bytes"),
    "kv_held": Column("KV", "kv_bytes"),
    "runtime": Column("runtime", "runtime_bytes"),
    "anonymous": Column("anonymous", "peak_anonymous_bytes"),
    "file": Column("file-mapped", "peak_file_bytes"),
    "pss": Column("PSS loaded", "loaded_pss_bytes"),
    "allocated": Column("allocated", "peak_allocated_bytes"),
    "reserved": Column("reserved", "peak_reserved_bytes"),
    "unexplained": Column("unexplained", "unexplained_bytes"),
    "pool": Column("KV pool", "pool_bytes"),
    "needed": Column("peak less unused pool", "needed_bytes"),
    "slack": Column("loader slack", "slack_bytes"),
    "bits": Column("bits/weight", "linear_bits"),
    "prefill": Column("prefill tok/s", "prefill_tokens_per_s"),
    "ttft": Column("TTFT", "ttft_s"),
    "ttft_answer": Column("TTFT answer", "ttft_answer_s"),
    "decode": Column("decode tok/s", "decode_tokens_per_s"),
    "itl_p99": Column("gap p99", "itl_p99_s"),
    "decode_share": Column("of bandwidth", "decode_bandwidth_share"),
    "prefill_share": Column("of matrix rate", "prefill_matrix_share"),
    "prefill_j": Column("prefill J/token", "prefill_j_per_token"),
    "decode_j": Column("decode J/token", "decode_j_per_token"),
    "idle_w": Column("idle W", "idle_w"),
    "kld": Column("KL, nats", "kld_mean"),
    "kld_p99": Column("KL p99", "kld_p99"),
    "top1": Column("same top-1", "same_top1"),
    "kld_fp32": Column("KL to fp32", "kld_fp32_mean"),
    "true_token": Column("p(true) RMS", "true_token_rms"),
    "ppl_ratio": Column("ln PPL ratio", "ln_ppl_ratio"),
    "ppl_ratio_fp32": Column("ln PPL ratio to fp32", "ln_ppl_ratio_fp32"),
    "true_token_fp32": Column("p(true) RMS to fp32", "true_token_rms_fp32"),
    "ppl": Column("perplexity", "ppl"),
    "acc": Column("accuracy", "acc"),
    "items": Column("items", "items"),
    "item_cost": Column("cost/item", "cost_usd_per_item"),
}
VIEWS = {
    "default": ("weights", "peak", "prefill", "decode", "kld", "acc"),
    "memory": (
        "weights",
        "kv_held",
        "workspace",
        "runtime",
        "unexplained",
        "peak",
        "metadata",
        "bits",
        "load_peak",
        "load",
    ),
    "counters": ("peak", "anonymous", "file", "pss", "allocated", "reserved", "slack", "kv"),
    "speed": ("prefill", "prefill_share", "ttft", "decode", "decode_share", "itl_p99"),
    "energy": ("prefill", "prefill_j", "decode", "decode_j", "idle_w"),
    "quality": ("kld", "kld_p99", "top1", "true_token", "ppl_ratio", "kld_fp32", "ppl", "acc", "items"),
    "served": (
        "ttft",
        "ttft_answer",
        "decode",
        "acc",
        "items",
        "item_cost",
        "peak",
        "pool",
        "needed",
        "ppl_ratio_fp32",
    ),
    "predicted": (
        "weights",
        "predicted_weights",
        "kv_held",
        "predicted_kv",
        "workspace",
        "predicted_workspace",
        "peak",
        "predicted_peak",
    ),
}
PREDICTED = {
    "predicted_weights": ("weights_bytes", "predicted weights"),
    "predicted_kv": ("kv_bytes", "predicted KV"),
    "predicted_workspace": ("workspace_bytes", "predicted workspace"),
    "predicted_peak": ("peak_bytes", "predicted peak"),
}
