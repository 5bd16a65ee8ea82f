# SPDX-License-Identifier: Apache-2.0
"""What engines that ask a server share: protocols, streams of events, retries, and a served model as a TextEngine."""
