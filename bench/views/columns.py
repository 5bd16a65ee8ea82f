# SPDX-License-Identifier: Apache-2.0
"""The columns of tables for people, and the views that choose among them. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Column:
    """One column of a table for people."""

    title: str
    figure: str
    suite: str
    kind: str
    """bytes, seconds, rate, share, number or percent: how the value is written."""


COLUMNS = {
    "weights": Column(title="weights", figure="weights_bytes", suite="memory", kind="bytes"),
    "peak": Column(title="peak memory", figure="peak_bytes", suite="memory", kind="bytes"),
    "load": Column(title="load", figure="load_s", suite="memory", kind="seconds"),
    "load_peak": Column(title="peak in load", figure="load_peak_bytes", suite="memory", kind="bytes"),
    "kv": Column(title="KV/token", figure="kv_bytes_per_token", suite="memory", kind="bytes"),
    "workspace": Column(title="workspace", figure="workspace_bytes", suite="memory", kind="bytes"),
    "metadata": Column(title="metadata", figure="metadata_bytes", suite="memory", kind="bytes"),
    "kv_held": Column(title="KV", figure="kv_bytes", suite="memory", kind="bytes"),
    "runtime": Column(title="runtime", figure="runtime_bytes", suite="memory", kind="bytes"),
    "anonymous": Column(title="anonymous", figure="peak_anonymous_bytes", suite="memory", kind="bytes"),
    "file": Column(title="file-mapped", figure="peak_file_bytes", suite="memory", kind="bytes"),
    "pss": Column(title="PSS loaded", figure="loaded_pss_bytes", suite="memory", kind="bytes"),
    "allocated": Column(title="allocated", figure="peak_allocated_bytes", suite="memory", kind="bytes"),
    "reserved": Column(title="reserved", figure="peak_reserved_bytes", suite="memory", kind="bytes"),
    "unexplained": Column(title="unexplained", figure="unexplained_bytes", suite="memory", kind="bytes"),
    "slack": Column(title="loader slack", figure="slack_bytes", suite="memory", kind="bytes"),
    "bits": Column(title="bits/weight", figure="linear_bits", suite="memory", kind="number"),
    "prefill": Column(title="prefill tok/s", figure="prefill_tokens_per_s", suite="throughput", kind="rate"),
    "ttft": Column(title="TTFT", figure="ttft_s", suite="throughput", kind="seconds"),
    "decode": Column(title="decode tok/s", figure="decode_tokens_per_s", suite="throughput", kind="rate"),
    "itl_p99": Column(title="gap p99", figure="itl_p99_s", suite="throughput", kind="seconds"),
    "decode_share": Column(title="of bandwidth", figure="decode_bandwidth_share", suite="throughput", kind="percent"),
    "prefill_share": Column(title="of matrix rate", figure="prefill_matrix_share", suite="throughput", kind="percent"),
    "prefill_j": Column(title="prefill J/token", figure="prefill_j_per_token", suite="throughput", kind="number"),
    "decode_j": Column(title="decode J/token", figure="decode_j_per_token", suite="throughput", kind="number"),
    "idle_w": Column(title="idle W", figure="idle_w", suite="throughput", kind="number"),
    "kld": Column(title="KL, nats", figure="kld_mean", suite="divergence", kind="number"),
    "kld_p99": Column(title="KL p99", figure="kld_p99", suite="divergence", kind="number"),
    "top1": Column(title="same top-1", figure="same_top1", suite="divergence", kind="percent"),
    "kld_fp32": Column(title="KL to fp32", figure="kld_fp32_mean", suite="divergence", kind="number"),
    "true_token": Column(title="p(true) RMS", figure="true_token_rms", suite="divergence", kind="percent"),
    "ppl_ratio": Column(title="ln PPL ratio", figure="ln_ppl_ratio", suite="divergence", kind="number"),
    "ppl": Column(title="perplexity", figure="ppl", suite="divergence", kind="number"),
    "acc": Column(title="accuracy", figure="acc", suite="quality", kind="percent"),
    "items": Column(title="items", figure="items", suite="quality", kind="number"),
    "item_cost": Column(title="cost/item", figure="cost_usd_per_item", suite="quality", kind="usd"),
}
GENERATED = {"ttft_s", "decode_tokens_per_s", "itl_p99_s", "decode_j_per_token"}
"""Figures of models that generate."""
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
    "served": ("ttft", "decode", "acc", "items", "item_cost"),
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
ENERGY = ("prefill_j_per_token", "decode_j_per_token", "idle_w")
PREDICTED = {
    "predicted_weights": ("weights_bytes", "predicted weights"),
    "predicted_kv": ("kv_bytes", "predicted KV"),
    "predicted_workspace": ("workspace_bytes", "predicted workspace"),
    "predicted_peak": ("peak_bytes", "predicted peak"),
}
