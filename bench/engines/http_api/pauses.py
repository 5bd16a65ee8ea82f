# SPDX-License-Identifier: Apache-2.0
"""How long a server asks to be left alone, in each of the ways in which servers say so."""

from __future__ import annotations

import datetime as dt
import email.utils
import re
import time
from collections.abc import Mapping

DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|h|m|s)")
UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of `retry-after-ms` or `Retry-After` (seconds or a date, RFC 9110); None without either."""
    milliseconds, value = headers.get("retry-after-ms"), headers.get("retry-after")
    for text, unit in ((milliseconds, 0.001), (value, 1.0)):
        try:
            return max(0.0, float(text or "") * unit)
        except ValueError:
            continue
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value or "").timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def quota_wait(headers: Mapping[str, str]) -> float:
    """Seconds until the quotas that the headers call used up are there again; 0 if none is.

    OpenAI writes `x-ratelimit-remaining-KIND` and `x-ratelimit-reset-KIND` (durations such as `6m0s`), Anthropic
    `anthropic-ratelimit-KIND-remaining` and `-reset` (RFC 3339 times).
    """
    empty = (name for name, value in headers.items() if "ratelimit" in name and value.strip() == "0")
    resets = (name.replace("remaining", "reset") for name in empty if "remaining" in name)
    return max((_until(headers.get(reset, "")) for reset in resets), default=0.0)


def _until(text: str) -> float:
    found = DURATION.findall(text)
    if found and "".join(a + b for a, b in found) == text.strip():
        return sum(float(number) * UNITS[unit] for number, unit in found)
    try:
        return max(0.0, dt.datetime.fromisoformat(text).timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
