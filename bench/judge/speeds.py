# SPDX-License-Identifier: Apache-2.0
"""Speeds from a record's samples: rates, times and shares of the roofs, with intervals that hold for another moment.

An interval of repeats says what this minute gave. By how much the machine's own speed moves between moments
(`bench.judge.variability`) is an error of its own and is added in squares: for reading the prompt that of the matrix
rate in the type computed in, for generating that of the memory bandwidth.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from bench.instruments.disturbance import MEMORY
from bench.judge.kept import kept
from bench.judge.stats import Estimate, median_estimate, quantile, ratio_of_medians
from bench.records.record import Measurement, Record
from bench.records.surroundings import READ, ROOF_METHOD, Roof


def prefill_rates(prefill: Measurement) -> list[float]:
    """Tokens per second of each repeat."""
    tokens = number(prefill, "prompt_tokens") * number(prefill, "batch")
    return [tokens / seconds for seconds in prefill.values]


def decode_rates(gaps: Measurement, first: int | None = None) -> list[float]:
    """Tokens per second of each repeat: (tokens - 1) x batch over the sum of its gaps, of the `first` if so told."""
    size = int(number(gaps, "per_repeat"))
    runs = [gaps.values[i : i + size][:first] for i in range(0, len(gaps.values), size)]
    return [len(run) * number(gaps, "batch") / sum(run) for run in runs]


def number(measurement: Measurement, label: str) -> float:
    """A label that is a number."""
    value = measurement.labels[label]
    assert isinstance(value, int | float)
    return float(value)


def main_point(record: Record) -> dict[str, Measurement]:
    """Measurements by name, those of parts and of further points left out."""
    return {m.name: m for m in record.measurements if not {"part", "storage", "point"} & m.labels.keys()}


def at_depths(record: Record) -> dict[str, Estimate]:
    """Tokens per second of each test behind a text, in llama-bench's words: `tokens_per_s:pp512@d2048`, `tg32@d0`."""
    found = {}
    for name, word in (("depth_prefill_s", "pp"), ("depth_decode_s", "tg")):
        for one in (m for m in record.measurements if m.name == name and m.values):
            tokens, (computing, copying) = number(one, "tokens"), moves(record)
            rates = median_estimate([tokens / seconds for seconds in one.values])
            test = f"tokens_per_s:{word}{tokens:.0f}@d{number(one, 'depth'):.0f}"
            found[test] = rates.widened(computing if word == "pp" else copying)
    return found


Moves = tuple[float, float]
"""By what share of itself the machine moves what it computes, and what it reads."""
STILL: Moves = (0.0, 0.0)


def moves(record: Record) -> Moves:
    """Those of a record's machine, for the type that its model computes in; none where too few looks tell."""
    return STILL if record.variability is None else _moves(record, record.variability.shares)


def _moves_beside(record: Record, other: Record) -> Moves:
    """The same beside another row: those of one run share its day and host, and only its own drift parts them."""
    told = record.variability
    return _moves(record, told.within) if told and told.within and record.run == other.run else moves(record)


def _moves(record: Record, shares: Mapping[str, float]) -> Moves:
    computing = shares.get(compute_type(record) or "fp32", shares.get("fp32", 0.0))
    return computing, shares.get(_read(record), shares.get(MEMORY, shares.get("copy", 0.0)))


def _read(record: Record) -> str:
    """What decoding depends on: how fast weights of its type are read where that was looked at, else memory."""
    reading, roof = f"{READ}{compute_type(record)}", record.before.roof
    return reading if roof and reading in roof.movable() else MEMORY


def compute_type(record: Record) -> str | None:
    """The type that its kernels multiply in, None where that is not known."""
    terms = record.measurement("operations_per_token")
    return str(terms.labels["compute"]) if terms and terms.labels["compute"] else None


def quantities_used(record: Record) -> tuple[str, ...]:
    """What its speeds depend on of its device: the matrix rate of a type for prefill, the memory for decode.

    Nothing where it holds no speeds: a device that slowed down changes no bytes and no answers.
    """
    kind = compute_type(record) if record.measurement("prefill_s") else None
    return (*((kind,) if kind else ()), *((_read(record),) if record.measurement("itl_s") else ()))


def speed(found: dict[str, Measurement], moved: Moves = STILL) -> dict[str, Estimate]:
    """Rates and times of one point's samples."""
    if "prefill_s" not in found:
        return {}
    computing, copying = moved
    rates = {"prefill_tokens_per_s": median_estimate(prefill_rates(found["prefill_s"])).widened(computing)}
    if "itl_s" not in found:  # a masked model: it reads and does not generate
        return rates
    return rates | {
        "ttft_s": median_estimate(found["ttft_s"].values).widened(computing),
        "decode_tokens_per_s": median_estimate(decode_rates(found["itl_s"])).widened(copying),
        "itl_s": median_estimate(found["itl_s"].values).widened(copying),
        "itl_p99_s": Estimate(quantile(found["itl_s"].values, 0.99)),
    }


@kept(dict[str, Estimate])
def speed_ratios(these: Record, base: Record) -> dict[str, Estimate]:
    """Rates of one record over those of another, measured at another moment of the same machine or in the same run.

    Where a budget made one answer shorter, decoding is compared over the tokens that both generated: later tokens read
    a longer cache and are slower.
    """
    ratios: dict[str, Estimate] = {}
    moved = zip(_moves_beside(these, base), _moves_beside(base, these), strict=True)
    computing, copying = (math.hypot(*both) for both in moved)
    this, other = these.measurement("prefill_s"), base.measurement("prefill_s")
    if this is not None and other is not None:
        ratios["prefill_tokens_per_s"] = ratio_of_medians(prefill_rates(this), prefill_rates(other)).widened(computing)
    this, other = these.measurement("itl_s"), base.measurement("itl_s")
    if this is not None and other is not None:  # a masked model has no gaps between tokens
        both = min(int(number(gaps, "per_repeat")) for gaps in (this, other))
        rates = decode_rates(this, both), decode_rates(other, both)
        ratios["decode_tokens_per_s"] = ratio_of_medians(*rates).widened(copying)
    return ratios


def further_points(record: Record) -> dict[str, Estimate]:
    """Figures of the further points, `decode_tokens_per_s:4x512` at batch 4 and prompt 512: rates are aggregate."""
    points: dict[str, dict[str, Measurement]] = {}
    for m in record.measurements:
        if "point" in m.labels:
            points.setdefault(f"{m.labels['batch']}x{m.labels['prompt_tokens']}", {})[m.name] = m
    return {
        f"{name}:{at}": value for at, found in points.items() for name, value in speed(found, moves(record)).items()
    }


def point_figures(record: Record) -> dict[tuple[int, int], dict[str, Estimate]]:
    """Figures by batch and prompt, the main point first; decode of each sequence and the 95 % quantile of gaps too."""
    points: dict[tuple[int, int], dict[str, Measurement]] = {}
    for m in record.measurements:
        if m.name in {"prefill_s", "ttft_s", "itl_s"} and "batch" in m.labels:  # what a server sends has no batch
            points.setdefault((int(number(m, "batch")), int(number(m, "prompt_tokens"))), {})[m.name] = m
    moved = moves(record)
    return {at: (rates := speed(found, moved)) | _each(found, rates, at[0]) for at, found in points.items()}


def _each(found: dict[str, Measurement], rates: dict[str, Estimate], batch: int) -> dict[str, Estimate]:
    if "itl_s" not in found:
        return {}
    each = rates["decode_tokens_per_s"].scaled(1 / batch)
    return {"decode_each": each, "itl_p95_s": Estimate(quantile(found["itl_s"].values, 0.95))}


def shares_of_roof(found: dict[str, Measurement], roof: Roof | None) -> dict[str, Estimate]:
    """The shares of `held_against` whose roof is one: nothing goes faster than it can."""
    return {name: share for name, share in held_against(found, roof).items() if roof and not exceeds(share, roof)}


def held_against(found: dict[str, Measurement], roof: Roof | None) -> dict[str, Estimate]:
    """Decode as a share of what memory sustains, prefill of the matrix rate of the type it computes in."""
    shares: dict[str, Estimate] = {}
    if roof is None or "read_bytes_per_step" not in found:
        return shares
    rates = roof.quantities()
    if MEMORY in rates:
        steps = median_estimate(decode_rates(found["itl_s"])).scaled(1 / number(found["itl_s"], "batch"))
        per_step = found["read_bytes_per_step"].values[0]
        shares["decode_bandwidth_share"] = steps.scaled(per_step / rates[MEMORY])
    operations = found["operations_per_token"]
    if rate := rates.get(str(operations.labels["compute"])):
        prefill = median_estimate(prefill_rates(found["prefill_s"]))
        shares["prefill_matrix_share"] = prefill.scaled(operations.values[0] / rate)
    return shares


def exceeds(share: Estimate, roof: Roof) -> bool:
    """Whether a row is faster than its roof, which then is none.

    Of a roof of today's method the whole interval must lie above 1; an older one is known to be too low in some types.
    """
    low = share.value if share.low is None or roof.method < ROOF_METHOD else share.low
    return low > 1
