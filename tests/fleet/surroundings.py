# SPDX-License-Identifier: Apache-2.0
"""A program of a box that tells which variables it finds around it."""

import os
import sys

sys.stdout.write(" ".join(os.environ) + "\n")
