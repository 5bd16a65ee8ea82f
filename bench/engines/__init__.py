# SPDX-License-Identifier: Apache-2.0
"""One module per engine family. A module declares `BACKEND` without importing its library; `load` imports it."""
