# SPDX-License-Identifier: Apache-2.0
"""The user's mistakes: one line and its remedy, never a traceback. Errors of ours keep theirs."""

from __future__ import annotations


class UserError(Exception):
    """What is wrong and what to do about it, each one line without a full stop."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.message}; {self.remedy}" if self.remedy else self.message
