# SPDX-License-Identifier: Apache-2.0
"""`python -m bench`."""

from bench.cli import main

if __name__ == "__main__":
    main()
