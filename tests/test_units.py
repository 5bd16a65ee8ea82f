# SPDX-License-Identifier: Apache-2.0
"""Text for people."""

from __future__ import annotations

import pytest

from bench.units import human_bytes, human_limit, human_seconds, parse_seconds, significant


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (1536, "1.50 KiB"),
        (10 * 1024, "10.0 KiB"),
        (10 * 1024 - 1, "10.0 KiB"),
        (99.96 * 1024, "100 KiB"),
        (100 * 1024, "100 KiB"),
        (1023 * 1024, "1023 KiB"),
        (1024**2, "1.00 MiB"),
        (269_030_016, "257 MiB"),
        (1024**3, "1.00 GiB"),
        (3.25 * 1024**4, "3.25 TiB"),
        (5000 * 1024**4, "5000 TiB"),
        (-1536, "-1.50 KiB"),
    ],
)
def test_bytes_have_three_digits_in_the_largest_unit_that_is_at_least_one(count: float, text: str) -> None:
    """Binary units, a fourth digit only between 1,000 and 1,023, rounding never adds a digit."""
    assert human_bytes(count) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (12 * 10**9, "12 GB"),
        (12 * 2**30, "12 GiB"),
        (512 * 2**20, "512 MiB"),
        (512 * 10**6, "512 MB"),
        (1_500_000_000, "1.5 GB"),
        (3 * 2**29, "1.5 GiB"),
        (4096, "4 KiB"),
        (999, "999 B"),
        (1, "1 B"),
        (16_384 * 10**6, "16384 MB"),
        (8_123_456_789, "7.57 GiB"),
    ],
)
def test_a_limit_is_shown_as_it_was_chosen(count: int, text: str) -> None:
    """12 GB are not 11.2 GiB to whoever asked for 12 GB; what nobody chose has three digits."""
    assert human_limit(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (2.34, "2.3 s"),
        (9.94, "9.9 s"),
        (45, "45 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (185, "3 min 05 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 00 min"),
        (7800, "2 h 10 min"),
        (90_000, "25 h 00 min"),
    ],
)
def test_seconds_are_written_as_people_say_them(seconds: float, text: str) -> None:
    """Rounded before the unit is chosen, so that no minute has sixty seconds."""
    assert human_seconds(seconds) == text


@pytest.mark.parametrize(
    ("value", "digits", "text"),
    [
        (0, 3, "0"),
        (1.2345, 3, "1.23"),
        (0.00012345, 3, "0.000123"),
        (123.45, 3, "123"),
        (1234567, 3, "1230000"),
        (999.9, 3, "1000"),
        (0.0456, 1, "0.05"),
        (123, 1, "100"),
        (-1.2345, 2, "-1.2"),
        (123456789, 3, "123000000"),
        (1.5e300, 3, "1.5e+300"),
        (float("inf"), 3, "inf"),
    ],
)
def test_a_number_keeps_its_significant_digits(value: float, digits: int, text: str) -> None:
    """Large numbers are written out, immense ones are not."""
    assert significant(value, digits) == text


@pytest.mark.parametrize(("text", "seconds"), [("20min", 1200), ("90s", 90), ("1.5 h", 5400), ("30", 30), ("2m", 120)])
def test_a_budget_reads_as_people_write_it(text: str, seconds: float) -> None:
    """In seconds."""
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["banana", "", "-5min", "0", "5 weeks"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """Never a guess."""
    with pytest.raises(ValueError, match=r".*"):
        parse_seconds(text)
