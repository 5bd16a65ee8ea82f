# SPDX-License-Identifier: Apache-2.0
"""What engines of exported graphs share: files made once and proven, texts, scoring, answers side by side."""
