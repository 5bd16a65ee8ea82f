# SPDX-License-Identifier: Apache-2.0
"""One record's samples become figures: medians, rates and intervals in base units, by the names of figures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from statistics import median

from bench.judge.capacity import capacity_answers
from bench.judge.kept import kept
from bench.judge.moments import mean
from bench.judge.scores import accuracies, clusters, estimate, items, metrics_of, scores, shown
from bench.judge.speeds import at_depths, further_points, main_point, moves, number, shares_of_roof, speed
from bench.judge.stats import (
    Estimate,
    clustered_mean,
    design_effect,
    mean_estimate,
    median_estimate,
    quantile,
)
from bench.records.record import Ending, Measurement, Record

REQUEST = (512, 128)
"""Tokens read and generated of the request that is to be fastest."""


@kept(dict[str, Estimate])
def figures(record: Record) -> dict[str, Estimate]:
    """Every figure that this record's measurements give, in base units."""
    found = main_point(record)
    shares = shares_of_roof(found, record.before.roof)
    return {
        **_memory(found),
        **_parts(record),
        **speed(found, moves(record)),
        **_served(record, found),
        **shares,
        **_energy(found),
        **further_points(record),
        **_divergence(found),
        **_quality(record),
        **_capacity(record),
        **_kv(record),
        **at_depths(record),
    }


def _memory(found: dict[str, Measurement]) -> dict[str, Estimate]:
    if "loaded_bytes" not in found:
        return {}

    known = {name: measurement.values[0] for name, measurement in found.items() if measurement.values}
    plain = {name: known[name] for name in ALONE if name in known}
    plain |= {name: total for name, terms in LEDGER.items() if (total := _sum(known, terms)) is not None}
    if "settled_bytes" not in known:  # records of version 1 lack it
        plain["workspace_bytes"] = known["peak_bytes"] - known["loaded_bytes"] - known["kv_bytes"]
    if "kv_bytes" in found:
        cache = found["kv_bytes"]
        fixed = number(cache, "fixed_bytes") if "fixed_bytes" in cache.labels else 0.0  # states of one size
        plain["kv_bytes_per_token"] = (known["kv_bytes"] - fixed) / max(1.0, number(cache, "tokens"))  # no token, none
    return {name: Estimate(number) for name, number in plain.items()}


ALONE = ("weights_bytes", "kv_bytes", "pool_bytes", "needed_bytes", "baseline_bytes", "load_s", "linear_bits",
         "linear_quantized")  # fmt: skip
"""Figures of memory that are measured as they stand."""
LEDGER = {
    "peak_bytes": ("peak_bytes", "-baseline_bytes"),
    "load_peak_bytes": ("load_peak_bytes", "-baseline_bytes"),
    "workspace_bytes": ("peak_bytes", "-settled_bytes", "-kv_bytes"),
    "unexplained_bytes": ("loaded_bytes", "-baseline_bytes", "-weights_bytes"),
    "runtime_bytes": ("settled_bytes", "-loaded_bytes"),
    "slack_bytes": ("ready_bytes", "-loaded_bytes"),
}
"""Figures that are sums of readings; none where one of these is missing."""


def _sum(known: Mapping[str, float], terms: Sequence[str]) -> float | None:
    values = [known.get(term.removeprefix("-")) for term in terms]
    if None in values:
        return None
    return sum(-v if term.startswith("-") else v for term, v in zip(terms, values, strict=True) if v is not None)


def _parts(record: Record) -> dict[str, Estimate]:
    """What the weights' metadata take of them, and which kinds of memory the process held."""
    plain: dict[str, float] = {}
    for measurement in record.measurements:
        if measurement.name == "weights_part_bytes":
            metadata = "metadata" in str(measurement.labels["storage"])
            plain["metadata_bytes"] = plain.get("metadata_bytes", 0.0) + metadata * measurement.values[0]
        elif measurement.name in {"sampled_peak_anonymous_bytes", "sampled_peak_file_bytes"}:
            plain[measurement.name.removeprefix("sampled_")] = measurement.values[0]
        elif measurement.name == "loaded_proportional_bytes":
            plain["loaded_pss_bytes"] = measurement.values[0]
        elif measurement.name in {"peak_allocated_bytes", "peak_reserved_bytes"}:
            plain[measurement.name] = measurement.values[0]
    return {name: Estimate(number) for name, number in plain.items()}


def served_rates(found: dict[str, Measurement]) -> list[float]:
    """Tokens per second of each streamed answer, by the server's count of tokens where it gives one.

    The first of m pieces holds about n/m of n tokens, so n (1 - 1/m) came between the first and the last: n - 1 where
    each token is a piece of its own. Answers in one piece have no rate.
    """
    columns = (found[name].values for name in ("text_tokens", "pieces", "decode_s"))
    return [n * (1 - 1 / m) / seconds for n, m, seconds in zip(*columns, strict=True) if m > 1 and seconds > 0]


def _served(record: Record, found: dict[str, Measurement]) -> dict[str, Estimate]:
    """Figures of a model behind an API."""
    result: dict[str, Estimate] = {}
    if "decode_s" in found:
        result["ttft_s"] = median_estimate(found["ttft_s"].values)
        if "ttft_answer_s" in found:
            result["ttft_answer_s"] = median_estimate(found["ttft_answer_s"].values)
        rates = served_rates(found)
        if rates:
            result["decode_tokens_per_s"] = median_estimate(rates)
            result["itl_s"] = median_estimate([1 / rate for rate in rates])
    if "clients_round_s" in found:
        rounds, tokens = found["clients_round_s"], found["clients_tokens"]
        rates = [count / seconds for count, seconds in zip(tokens.values, rounds.values, strict=True) if seconds > 0]
        result[f"clients_tokens_per_s:{int(number(rounds, 'clients'))}"] = median_estimate(rates)
    for name in ("input_tokens", "output_tokens", "cost_usd"):
        values = [value for m in record.measurements if m.name == name for value in m.values]
        if values:
            result[name] = Estimate(sum(values))
    per_item = [value for m in record.measurements if m.name == "cost_usd" and "task" in m.labels for value in m.values]
    if per_item:
        result["cost_usd_per_item"] = Estimate(mean(per_item))
    return result


def _energy(found: dict[str, Measurement]) -> dict[str, Estimate]:
    """Joules a token, idling included, and the watts of idling; none of a window that has no figure."""
    figures = {}
    for name in ("prefill_j", "decode_j"):
        if name in found and found[name].values and number(found[name], "tokens"):
            figures[f"{name}_per_token"] = Estimate(found[name].values[0] / number(found[name], "tokens"))
    if "idle_j" in found and found["idle_j"].values:
        figures["idle_w"] = Estimate(found["idle_j"].values[0] / number(found["idle_j"], "seconds"))
    return figures


def _divergence(found: dict[str, Measurement]) -> dict[str, Estimate]:
    if "nll_nat" not in found:
        return {}
    nll = found["nll_nat"].values
    result = {"ppl": mean_estimate(nll).exponential()}
    if "anchor_nll_nat" in found:  # of a launched server: distributions it does not show
        fp32 = found["anchor_nll_nat"].values
        result["ln_ppl_ratio_fp32"] = mean_estimate([a - b for a, b in zip(nll, fp32, strict=True)])
        result["true_token_rms_fp32"] = _true_token(found["anchor_true_token_change"])["true_token_rms"]
    for name, measurement in (("kld_floor", "floor_nat"), ("kld_floor_decode", "floor_decode_nat")):
        if measurement in found:
            result[name] = Estimate(max(0.0, mean(found[measurement].values)))
    if "weights_kld_nat" in found:
        weights = found["weights_kld_nat"]
        result["kld_weights"] = clustered_mean(weights.values, int(number(weights, "window_tokens")))
    if "kld_nat" in found:
        kld = found["kld_nat"]
        differences = [a - b for a, b in zip(nll, found["reference_nll_nat"].values, strict=True)]
        result |= {
            "kld_mean": clustered_mean(kld.values, int(number(kld, "window_tokens"))),
            "kld_median": Estimate(median(kld.values)),
            "kld_p99": Estimate(quantile(kld.values, 0.99)),
            "kld_p999": Estimate(quantile(kld.values, 0.999)),
            "kld_max": Estimate(max(kld.values)),
            "same_top1": mean_estimate(found["same_top1"].values),
            "ln_ppl_ratio": mean_estimate(differences),
        }
    if "true_token_change" in found:  # records from before this was kept have none
        result |= _true_token(found["true_token_change"])
    if "anchor_kld_nat" in found:
        result |= _from_fp32(found["anchor_kld_nat"], found["anchor_same_top1"])
    return result


def _true_token(change: Measurement) -> dict[str, Estimate]:
    """Mean and root mean square of the change, their intervals from the windows."""
    window = int(number(change, "window_tokens"))
    square = clustered_mean([value * value for value in change.values], window)
    root = [None if bound is None else math.sqrt(max(0.0, bound)) for bound in (square.low, square.high)]
    return {
        "true_token_mean": clustered_mean(change.values, window),
        "true_token_rms": Estimate(math.sqrt(square.value), *root),
    }


def _from_fp32(kld: Measurement, top1: Measurement) -> dict[str, Estimate]:
    return {
        "kld_fp32_mean": clustered_mean(kld.values, int(number(kld, "window_tokens"))),
        "same_top1_fp32": mean_estimate(top1.values),
    }


@kept(dict[str, Estimate])
def reference_figures(record: Record, reference: Record) -> dict[str, Estimate]:
    """How far the 16-bit row `reference` is from fp32, where the fp32 row's `record` had to measure that.

    Of two rows in one run the 16-bit one comes first, when there is no fp32 row yet. Empty if `record` did not
    measure it, or measured it of something else.
    """
    kld, top1 = record.measurement("anchor_reference_kld_nat"), record.measurement("same_top1")
    if kld is None or top1 is None or not str(kld.labels["reference"]).startswith(f"{reference.cell.key}-"):
        return {}
    return _from_fp32(kld, top1)


def wrote_anchor(record: Record) -> bool:
    """Whether this is the fp32 row that rows of every engine are compared with."""
    return record.measurement("anchor_reference_kld_nat") is not None


def anchor_of(record: Record) -> str | None:
    """The fp32 reference of all engines that this record was compared with (or is), None if there was none."""
    found = record.measurement("anchor_kld_nat") or record.measurement("anchor_reference_kld_nat")
    return str(found.labels["anchor"]) if found else None


def _capacity(record: Record) -> dict[str, Estimate]:
    found = capacity_answers(record)
    figures = {name: Estimate(float(answer.largest)) for name, answer in found.items()}
    if found:
        figures["budget_bytes"] = Estimate(float(next(iter(found.values())).budget_bytes))
    return figures


def _kv(record: Record) -> dict[str, Estimate]:
    """What a cache costs at each depth: `kv_kld:512`, and floors, gaps and bytes of a token by the same form."""
    result: dict[str, Estimate] = {}
    for one in record.measurements:
        depth = one.labels.get("depth")
        if not one.name.startswith("kv_") or depth is None or not one.values:
            continue
        if one.name in {"kv_kld_nat", "kv_floor_nat"}:
            name = one.name.removesuffix("_nat")
            result[f"{name}:{depth}"] = clustered_mean(one.values, int(number(one, "window_tokens")))
        elif one.name == "kv_same_top1":
            result[f"{one.name}:{depth}"] = mean_estimate(one.values)
        elif one.name == "kv_step_s":
            result[f"kv_decode_tokens_per_s:{depth}"] = median_estimate([1 / gap for gap in one.values])
        elif one.name == "kv_cache_bytes":
            result[f"kv_bytes_per_token:{depth}"] = Estimate(one.values[0] / max(1.0, number(one, "tokens")))
    return result


def _quality(record: Record) -> dict[str, Estimate]:
    metrics = metrics_of(record)
    tasks = accuracies(record)
    result = {f"acc:{task}": estimate(measurement) for task, measurement in tasks.items()}
    result |= {f"score:{one.task}:{one.metric}": one.estimate for one in scores(metrics)}
    if tasks:
        result["acc"] = mean_of_tasks(list(tasks.values()))
    if metrics:
        result["items"] = Estimate(float(sum(items(shown(found)) for found in metrics.values())))
    return result


def mean_of_tasks(tasks: Sequence[Measurement]) -> Estimate:
    """Unweighted mean over tasks; the errors of independent tasks add in squares, clustered by subject within one."""
    parts = [mean_estimate(task.values) for task in tasks]
    value = mean(part.value for part in parts)
    wider = [math.sqrt(design_effect(task.values, clusters(task))) for task in tasks]
    alike = [estimate(task).half_width for task in tasks]  # all right or all wrong: Wilson's
    if None in alike:
        return Estimate(value)
    halves = [(part.half_width or same or 0.0) * factor for part, same, factor in zip(parts, alike, wider, strict=True)]
    half = math.sqrt(sum(h * h for h in halves)) / len(parts)
    return Estimate(value, value - half, value + half)


def request_seconds(record: Record) -> float | None:
    """Seconds of REQUEST at the record's median rates, None if it has none."""
    if record.outcome.ending is not Ending.OK:
        return None
    found = figures(record)
    decode = found.get("decode_tokens_per_s")  # none of a masked model
    return REQUEST[0] / found["prefill_tokens_per_s"].value + (REQUEST[1] / decode.value if decode else 0.0)
