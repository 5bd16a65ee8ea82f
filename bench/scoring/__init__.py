# SPDX-License-Identifier: Apache-2.0
"""Tasks and texts become log-probabilities and item results."""
