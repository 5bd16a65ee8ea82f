# SPDX-License-Identifier: Apache-2.0
"""Which cells another worker goes on with, because the one that answered them ended and another try may help."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import suites
from bench.engines.registry import backend
from bench.plan.questions import Planned
from bench.records.record import Ending, Outcome


@dataclass
class Retries:
    """What this call knows of tries that failed, by cell key."""

    deaths: Counter[str] = field(default_factory=Counter)
    """Workers that were killed for memory while they answered it."""
    smaller: dict[str, str] = field(default_factory=dict)
    """Why it is measured again with smaller batches."""
    earlier_s: dict[str, float] = field(default_factory=dict)
    """Seconds that workers spent on it and left it to another."""

    def again(self, planned: Planned | None, outcome: Outcome) -> bool:
        """Whether a new worker answers the cell after all: its suite learns from deaths, or smaller batches may fit."""
        if planned is None or outcome.ending is not Ending.DOES_NOT_FIT:
            return False
        key, suite = planned.cell.key, planned.cell.suite
        if suite in suites.BATCHED and key not in self.smaller and not backend(planned.cell.backend).text_only:
            self.smaller[key] = outcome.reason
            return True
        self.deaths[key] += 1
        return self.deaths[key] <= suites.DEATHS.get(suite, 0)

    def spent(self, planned: Planned, seconds: float) -> None:
        """A worker left it after so long."""
        self.earlier_s[planned.cell.key] = self.earlier_s.get(planned.cell.key, 0.0) + seconds
