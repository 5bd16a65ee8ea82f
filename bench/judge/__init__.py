# SPDX-License-Identifier: Apache-2.0
"""Samples become figures, intervals and verdicts. Everything here is pure: it returns values and formats nothing."""
