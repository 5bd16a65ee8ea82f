# SPDX-License-Identifier: Apache-2.0
"""A program of a box that tells its number and never ends by itself."""

import os
import signal
import sys

sys.stdout.write(f"{os.getpid()}\n")
sys.stdout.flush()
signal.pause()
